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
from node.reach.punching import MEETINGS_MAX, MeetingPoint, punch
from transfer.connection import wire

TOKEN = b"0123456789abcdef"


@contextlib.asynccontextmanager
async def meeting():
    """Run a meeting point behind a listener; yields both."""
    background = Background()
    point = MeetingPoint(background)
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
            found = await asyncio.gather(*(punch(port, at, TOKEN) for port in ports))
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
            assert await punch(one.getsockname()[1], at, TOKEN) is None


async def test_a_token_that_no_call_announced_meets_nobody():
    async with meeting() as (_, at):
        with listening() as one:
            assert await punch(one.getsockname()[1], at, TOKEN) is None


async def test_meetings_are_bounded():
    point = MeetingPoint(Background())
    assert not point.expect(TOKEN)
    point.is_open = True
    begun = [point.expect(bytes([number]) * 16) for number in range(MEETINGS_MAX + 9)]
    assert sum(begun) == MEETINGS_MAX


@pytest.mark.parametrize(
    "packed",
    [
        b"\x04\x08\x08\x08\x08\x00\x19",
        b"\x04\xe0\x00\x00\x01\x12\x8b",
        b"\x06\x08\x08\x08\x08\x12\x8b",
    ],
)
def test_a_lying_introducer_aims_at_no_low_port_and_no_group(packed):
    with pytest.raises(ValueError, match="never dialled"):
        punching._unpack(packed)


def test_a_port_that_a_node_listens_on_is_taken_for_another():
    """Though outgoing connections may share it."""
    with listening() as one:
        port = one.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            sockets.listen([Address("127.0.0.1", port)])
        punching._from_port(port).close()
