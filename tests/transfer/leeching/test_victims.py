"""A stranger's address in thousands of announcements is dialled ten times an hour."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from collections.abc import AsyncIterator

import pytest

from transfer import LeecherLimits, NoPeerError, Peer
from transfer.leeching.dial_limits import DialLimiter, Permission
from transfer.limits import DIALS_PER_HOUR_MAX

RECORDS = 10_000
LIMITS = LeecherLimits(opening_seconds=0.6, opening_soft_seconds=0.02)
"""Peers are given up sooner, so that more of them are tried in the time of a test."""


class Victim:
    """Listens, counts who comes, and says nothing or hangs up."""

    def __init__(self, listener: socket.socket, *, hangs_up: bool) -> None:
        self.host, self.port = listener.getsockname()[:2]
        self.accepted = 0
        self._listener = listener
        self._hangs_up = hangs_up
        self._open: list[socket.socket] = []

    async def serve(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            self.accepted += 1
            if self._hangs_up:
                sock.close()
            else:
                self._open.append(sock)

    def close(self) -> None:
        for sock in [*self._open, self._listener]:
            sock.close()

    def names(self, count: int) -> list[Peer]:
        """Return what as many false records make of it: a key of its own each."""
        return [Peer(self.host, self.port, os.urandom(32)) for _ in range(count)]


@contextlib.asynccontextmanager
async def victim(*, hangs_up: bool) -> AsyncIterator[Victim]:
    """Run a victim on loopback."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listener.setblocking(False)
    one = Victim(listener, hangs_up=hangs_up)
    task = asyncio.create_task(one.serve())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        one.close()


@pytest.mark.parametrize("hangs_up", [True, False], ids=["hangs up", "is silent"])
@pytest.mark.parametrize("encryption", [True, False], ids=["tls", "plaintext"])
async def test_a_victim_is_dialled_ten_times(new_node, hangs_up, encryption):
    """By one download with 10,000 false peers, and the next finds it worn out."""
    leecher = await new_node(encryption=encryption, leecher_limits=LIMITS)
    wanted = leecher.store.add_bytes(b"").digest.of(b"what nobody has")
    async with victim(hangs_up=hangs_up) as one:
        with pytest.raises(NoPeerError):
            await leecher.download(wanted, one.names(RECORDS))
        with pytest.raises(NoPeerError):
            await leecher.download(wanted, one.names(100))
        assert 0 < one.accepted <= DIALS_PER_HOUR_MAX


async def test_the_victim_among_honest_seeders_delays_nobody(new_node):
    """Thousands of false records, and the three that are true give the file."""
    leecher = await new_node(leecher_limits=LIMITS)
    seeders = [await new_node() for _ in range(3)]
    data = os.urandom(3 * 1024 * 1024)
    for seeder in seeders:
        artifact = seeder.store.add_bytes(data)
    async with victim(hangs_up=False) as one:
        false = one.names(RECORDS)
        peers = [*false[:5000], *(seeder.peer for seeder in seeders), *false[5000:]]
        downloaded = await leecher.download(artifact.digest, peers)
        assert leecher.store.read(downloaded.artifact) == data
        assert one.accepted <= DIALS_PER_HOUR_MAX


HOST, PORT = "8.8.4.4", 4747


def named(number: int, port: int = PORT) -> Peer:
    """Return what one record says is at the address."""
    return Peer(HOST, port, bytes([number]) * 32)


def dial(dials: DialLimiter, peer: Peer, *, found: bool | None) -> None:
    """Dial a peer that may be dialled now."""
    assert dials.permission(peer) is Permission.NOW
    dials.begin(peer)
    dials.end(peer, found=found)


def test_a_failing_address_is_dialled_ten_times_an_hour():
    """And again in the next hour, or once the right one answered there."""
    now = [5.0]
    dials = DialLimiter(lambda: now[0])
    for number in range(DIALS_PER_HOUR_MAX):
        dial(dials, named(number), found=False)
    assert dials.permission(named(99)) is Permission.NEVER
    assert dials.permission(named(99, PORT + 1)) is Permission.NOW
    now[0] += 3600
    for number in range(DIALS_PER_HOUR_MAX - 1):
        dial(dials, named(number), found=False)
    dial(dials, named(99), found=True)
    for number in range(DIALS_PER_HOUR_MAX):
        dial(dials, named(number), found=False)
    assert dials.permission(named(1)) is Permission.NEVER


def test_false_keys_do_not_shut_out_a_peer_that_was_met():
    """It answers for itself, until it fails itself."""
    dials = DialLimiter(lambda: 5.0)
    dial(dials, named(99), found=True)
    for number in range(DIALS_PER_HOUR_MAX):
        dial(dials, named(number), found=False)
    assert dials.permission(named(1)) is Permission.NEVER
    for _ in range(3):
        dial(dials, named(99), found=False)
    assert dials.permission(named(99)) is Permission.NEVER


def test_dials_under_way_count_and_the_same_peer_waits_for_them():
    """Downloads may want one seeder at once; many keys at one address are false."""
    dials = DialLimiter(lambda: 5.0)
    for _ in range(DIALS_PER_HOUR_MAX):
        assert dials.permission(named(1)) is Permission.NOW
        dials.begin(named(1))
    assert dials.permission(named(1)) is Permission.LATER
    assert dials.permission(named(2)) is Permission.NEVER
    dials.end(named(1), found=None)
    assert dials.permission(named(2)) is Permission.NOW
    dials.end(named(1), found=True)
    for _ in range(3 * DIALS_PER_HOUR_MAX):
        assert dials.permission(named(1)) is Permission.NOW
        dials.begin(named(1))


async def test_forty_downloads_at_once_from_one_seeder_all_succeed(new_node):
    """Their first dials wait for one another, and none is refused."""
    seeder, leecher = await new_node(), await new_node()
    held = [seeder.store.add_bytes(b"%d" % number) for number in range(40)]
    done = await asyncio.gather(
        *(leecher.download(one.digest, [seeder.peer]) for one in held)
    )
    assert {one.artifact.digest for one in done} == {one.digest for one in held}


def test_a_peer_that_was_met_is_used_again_within_a_minute_of_its_return():
    """Ten failures do not shut it out for the rest of the hour."""
    now = [0.0]
    dials = DialLimiter(lambda: now[0])
    peer = Peer("192.0.2.1", 4747, bytes(32))
    dial(dials, peer, found=True)
    dialled = []
    while now[0] < 1800.0:
        if dials.permission(peer) is Permission.NOW:
            dial(dials, peer, found=False)
            dialled.append(now[0])
        now[0] += 0.5
    pauses = [later - earlier for earlier, later in itertools.pairwise(dialled)]
    assert [pause for pause in pauses if pause > 0.5][:3] == [1.0, 2.0, 4.0]
    assert max(pauses) == 60.0
    assert len(dialled) < 40
    now[0] += 60.0
    assert dials.permission(peer) is Permission.NOW


@pytest.mark.parametrize("met", [True, False])
def test_a_sign_of_life_forgets_failed_dials(met):
    now, heard_at = [0.0], [-1.0]
    peer = Peer("192.0.2.1", 4747, bytes(32))
    dials = DialLimiter(lambda: now[0], lambda _: heard_at[0])
    if met:
        dial(dials, peer, found=True)
    while dials.permission(peer) is Permission.NOW:
        dial(dials, peer, found=False)
    now[0] = heard_at[0] = 0.5
    assert dials.permission(peer) is Permission.NOW
    dial(dials, peer, found=False)
    now[0] += 3600.0 * met
    assert dials.permission(peer) is Permission.NOW


def test_a_sign_of_life_from_before_the_failure_is_none():
    now = [5.0]
    peer = Peer("192.0.2.1", 4747, bytes(32))
    dials = DialLimiter(lambda: now[0], lambda _: 5.0)
    for _ in range(DIALS_PER_HOUR_MAX):
        dial(dials, peer, found=False)
    assert dials.permission(peer) is Permission.NEVER
