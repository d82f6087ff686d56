"""The relay joins what a call has announced, within its limits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from node.background import Background
from node.reach import peer_relay as relay_module
from node.reach import token_pairs
from node.reach.call_guard import (
    DIALS_AT_ONCE_MAX,
    DIALS_PER_MINUTE_MAX,
    FAILED_SECONDS,
    TOKEN_SECONDS,
    CallGuard,
)
from node.reach.peer_relay import PAIRS_MAX, _Meter, joined, peer_relay
from transfer.seeding import admission
from transfer.seeding.admission import UploadPace

TOKEN = b"0123456789abcdef"


@contextlib.asynccontextmanager
async def opened():
    background = Background()
    relay = peer_relay(background)
    relay.is_open = True
    made: list[socket.socket] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        ends = socket.socketpair()
        for end in ends:
            end.setblocking(False)
        made.extend(ends)
        return ends

    try:
        yield relay, pair
    finally:
        await background.close()
        for one in made:
            one.close()


async def received(sock: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 100)


async def test_two_connections_with_one_token_are_joined():
    async with opened() as (relay, pair):
        one, one_end = pair()
        other, other_end = pair()
        assert relay.expect(TOKEN)
        relay.join(TOKEN, one_end)
        relay.join(TOKEN, other_end)
        for end in (one, other):
            async with asyncio.timeout(5):
                await joined(end)
        one.send(b"ping")
        assert await received(other) == b"ping"
        other.send(b"pong")
        assert await received(one) == b"pong"
        other.close()
        assert await received(one) == b""


async def test_a_token_that_no_call_announced_is_closed():
    async with opened() as (relay, pair):
        one, end = pair()
        relay.join(TOKEN, end)
        assert await received(one) == b""


async def test_a_closed_relay_expects_nothing():
    async with opened() as (relay, _):
        relay.is_open = False
        assert not relay.expect(TOKEN)


async def test_pairs_are_bounded():
    async with opened() as (relay, pair):
        for number in range(PAIRS_MAX):
            token = bytes([number]) * 16
            assert relay.expect(token)
            relay.join(token, pair()[1])
            relay.join(token, pair()[1])
        await asyncio.sleep(0)
        assert not relay.expect(TOKEN)


async def test_pairs_that_move_next_to_nothing_give_way(monkeypatch):
    """One source cannot hold the relay with a byte now and then."""
    monkeypatch.setattr(admission, "_PACE_SECONDS", 0.2)
    async with opened() as (relay, pair):
        ends = []
        for number in range(PAIRS_MAX):
            token = bytes([number]) * 16
            assert relay.expect(token)
            for _ in range(2):
                outer, inner = pair()
                relay.join(token, inner)
                ends.append(outer)
        for end in ends:
            await joined(end)
        busy, busy_other = ends[:2]
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            for end in ends[2:]:
                end.send(b"x")
            busy.send(bytes(20_000))
            await asyncio.get_running_loop().sock_recv(busy_other, 1 << 20)
            await asyncio.sleep(0.02)
        for number in range(PAIRS_MAX - 1):
            assert relay.expect(b"%016d" % number)
            for _ in range(2):
                relay.join(b"%016d" % number, pair()[1])
        await asyncio.sleep(0.01)
        assert not relay.expect(TOKEN)  # the newest have had no time yet
        busy.send(b"still here")
        assert await received(busy_other)


async def test_a_first_connection_whose_other_does_not_come_is_closed(monkeypatch):
    monkeypatch.setattr(token_pairs, "EXPECT_SECONDS", 0.05)
    async with opened() as (relay, pair):
        one, end = pair()
        relay.expect(TOKEN)
        relay.join(TOKEN, end)
        await asyncio.sleep(0.1)
        relay.expect(b"x" * 16)
        assert await received(one) == b""


def test_the_rate_and_the_total_of_a_pair_are_bounded():
    meter = _Meter(UploadPace(10.0))
    assert meter.wait(relay_module.BYTES_PER_SECOND, 10.0) == 1.0
    assert meter.wait(relay_module.BYTES_PER_SECOND, 11.0) == 1.0
    with pytest.raises(ConnectionError, match="limit"):
        meter.wait(relay_module.BYTES_MAX, 12.0)


async def test_a_call_that_is_refused_frees_the_end_that_waits():
    async with opened() as (relay, pair):
        one, end = pair()
        relay.expect(TOKEN)
        relay.join(TOKEN, end)
        relay.cancel(TOKEN)
        with pytest.raises(ConnectionError, match="closed"):
            await joined(one)


def test_a_caller_that_was_not_found_is_left_alone_for_a_minute():
    guard = CallGuard()
    assert guard.begin(b"1", "8.8.8.8", 0.0)
    guard.end("8.8.8.8", found=False, now=0.0)
    assert not guard.begin(b"2", "8.8.8.8", 59.0)
    assert guard.begin(b"3", "8.8.4.4", 59.0)
    assert guard.begin(b"4", "8.8.8.8", FAILED_SECONDS + 1)


def test_a_caller_that_was_not_found_is_met_at_a_relay_all_the_same():
    """Two symmetric NATs: the hole fails, and the relay is what is left."""
    guard = CallGuard()
    assert guard.begin(b"1", "8.8.8.8", 0.0)
    guard.end("8.8.8.8", found=False, now=0.0)
    assert guard.begin(b"2", None, 0.1)


def test_dials_are_bounded_at_once_and_in_a_minute():
    guard = CallGuard()
    begun = [guard.begin(b"%d" % n, f"8.8.{n}.8", 0.0) for n in range(50)]
    assert sum(begun) == DIALS_AT_ONCE_MAX
    for number in range(DIALS_AT_ONCE_MAX):
        guard.end(f"8.8.{number}.8", found=True, now=0.0)
    begun = []
    for number in range(300):
        begun.append(guard.begin(b"n%d" % number, None, 1.0))
        if begun[-1]:
            guard.end(None, found=True, now=1.0)
    assert sum(begun) == DIALS_PER_MINUTE_MAX - DIALS_AT_ONCE_MAX
    assert guard.begin(b"later", "8.8.0.8", 62.0)


def test_a_call_that_is_repeated_is_known():
    guard = CallGuard()
    assert not guard.knows(TOKEN, 0.0)
    guard.begin(TOKEN, "8.8.8.8", 0.0)
    assert guard.knows(TOKEN, 1.0)
    assert not guard.knows(TOKEN, TOKEN_SECONDS + 1)
