"""Two ends meet at an introducer and open one connection from both sides."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from dht import Address
from node import sockets
from node.background import Background
from node.reach import punching
from node.reach.punching import meeting_point, punch
from node.reach.token_pairs import EXPECTED_MAX
from transfer.connection import wire

TOKEN = b"0123456789abcdef"
HERE = "127.0.0.1"


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def meeting():
    """Run a meeting point behind a listener; yields both."""
    background = Background()
    point = meeting_point(background)
    point.is_open = True

    async def accept(listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            opening = await loop.sock_recv(sock, 24)
            assert opening[:8] == wire.MAGIC_MEET
            point.join(opening[8:], sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        task = asyncio.create_task(accept(listener))
        try:
            yield point, listener.getsockname()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            point._forget(float("inf"))
            await background.close()


def listening() -> socket.socket:
    """Listen as a node does."""
    (bound,) = sockets.listen([Address("127.0.0.1", 0)])
    bound.setblocking(False)
    return bound


async def test_two_ends_open_one_connection_from_their_listening_ports():
    async with meeting() as (point, at):
        with listening() as one, listening() as other:
            ports = [end.getsockname()[1] for end in (one, other)]
            assert point.expect(TOKEN)
            found = await asyncio.gather(
                *(punch(port, at, TOKEN, host=HERE) for port in ports)
            )
            met = [sock for sock in found if sock is not None]
            assert met
            for sock in met:
                assert {sock.getsockname()[1], sock.getpeername()[1]} == set(ports)
                sock.close()


async def test_where_the_other_end_does_not_come_it_ends_in_time(monkeypatch):
    monkeypatch.setattr(punching, "MEETING_SECONDS_MAX", 0.3)
    async with meeting() as (point, at):
        with listening() as one:
            assert point.expect(TOKEN)
            assert await punch(port_of(one), at, TOKEN, host=HERE) is None


async def test_a_token_that_no_call_announced_meets_nobody():
    async with meeting() as (_, at):
        with listening() as one:
            assert await punch(port_of(one), at, TOKEN, host=HERE) is None


async def test_meetings_are_bounded():
    point = meeting_point(Background())
    assert not point.expect(TOKEN)
    point.is_open = True
    begun = [point.expect(bytes([number]) * 16) for number in range(EXPECTED_MAX + 9)]
    assert sum(begun) == EXPECTED_MAX


async def test_an_end_dials_only_where_it_expects_the_other():
    """An introducer that names a stranger has nobody dialled."""
    async with meeting() as (point, at):
        with listening() as one, listening() as other:
            assert point.expect(TOKEN)
            found = await asyncio.gather(
                punch(port_of(one), at, TOKEN, host="8.8.8.8"),
                punch(port_of(other), at, TOKEN, host="8.8.4.4"),
            )
            assert found == [None, None]


@pytest.mark.parametrize(
    ("packed", "host"),
    [
        (b"\x04\x08\x08\x08\x08\x00\x19", "8.8.8.8"),
        (b"\x04\xe0\x00\x00\x01\x12\x8b", "224.0.0.1"),
        (b"\x06\x08\x08\x08\x08\x12\x8b", "8.8.8.8"),
        (b"\x04\x08\x08\x08\x08\x12\x8b", "8.8.4.4"),
        (b"\x04\xc0\xa8\x01\x01\x12\x8b", "8.8.8.8"),
    ],
)
def test_a_lying_introducer_aims_at_no_stranger_low_port_or_group(packed, host):
    with pytest.raises(ValueError, match="the introducer names"):
        punching._unpack(packed, host)


def test_a_port_that_a_node_listens_on_is_taken_for_another():
    """Though outgoing connections may share it."""
    with listening() as one:
        port = one.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            sockets.listen([Address("127.0.0.1", port)])
        punching._from_port(port).close()
