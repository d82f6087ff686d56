"""Who may connect to an HTTP door, and whose connection gives way."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

import pytest
from aiohttp import web

from dht import Address
from node.web.admission import DoorBounds, DoorConnection, DoorRoom
from node.web.server import Server
from tests.certificates import write_certificate

BOUNDS = DoorBounds(
    total=6, per_source=4, quiet=5, quiet_per_source=2, quiet_seconds=10.0,
    replaced_per_second=3,
)  # fmt: skip


class Noted(DoorConnection):
    """A connection that notes whether it was closed."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.closed = self.over = False

    @property
    def is_over(self) -> bool:
        return self.over

    def close(self) -> None:
        self.closed = True


def entered(room: DoorRoom, source: str, now: float, *, busy: bool = False) -> Noted:
    assert room.make(source, now)
    one = Noted(source)
    room.enter(one, now)
    if busy:
        room.busy(one)
    return one


def test_the_longest_quiet_of_a_source_gives_way_to_another_of_it():
    room = DoorRoom(BOUNDS)
    busy = entered(room, "a", 0.0, busy=True)
    first, second = entered(room, "a", 1.0), entered(room, "a", 2.0)
    entered(room, "a", 3.0)
    assert (busy.closed, first.closed, second.closed) == (False, True, False)
    assert len(room) == 3


def test_a_burst_of_requests_that_nobody_has_read_is_let_in():
    room = DoorRoom(BOUNDS)
    burst = [entered(room, "a", 1.0) for _ in range(BOUNDS.per_source)]
    assert not any(one.closed for one in burst)


def test_a_source_with_all_its_connections_busy_is_refused_and_no_other_is():
    room = DoorRoom(BOUNDS)
    for _ in range(BOUNDS.per_source):
        entered(room, "a", 0.0, busy=True)
    assert not room.make("a", 1.0)
    assert room.make("b", 1.0)


def test_a_source_that_replaces_its_own_again_and_again_is_refused():
    room = DoorRoom(BOUNDS)
    made = []
    for step in range(20):
        now = 1.0 + 0.01 * step
        made.append(room.make("a", now))
        if made[-1]:
            room.enter(Noted("a"), now)
    assert sum(made) == BOUNDS.per_source + BOUNDS.replaced_per_second
    assert room.make("b", 1.2)
    assert room.make("a", 3.0)


def test_the_largest_source_gives_way_to_a_smaller_one():
    room = DoorRoom(BOUNDS)
    largest = [entered(room, "a", 0.0, busy=True) for _ in range(4)]
    entered(room, "b", 1.0, busy=True)
    entered(room, "c", 2.0, busy=True)
    entered(room, "d", 3.0)
    assert [one.closed for one in largest] == [True, False, False, False]
    assert len(room) == BOUNDS.total


def test_of_many_sources_the_one_with_most_quiet_connections_gives_way():
    room = DoorRoom(BOUNDS)
    first = entered(room, "a", 0.0)
    others = [entered(room, source, 1.0) for source in ("a", "b", "c", "d")]
    entered(room, "e", 2.0)
    assert first.closed
    assert not any(one.closed for one in others)


def test_what_is_quiet_for_too_long_is_closed():
    room = DoorRoom(BOUNDS)
    quiet, answered = entered(room, "a", 0.0), entered(room, "b", 0.0, busy=True)
    room.sweep(10.0)
    room.answered(answered, 10.0)
    room.sweep(10.1)
    assert (quiet.closed, answered.closed) == (True, False)
    room.sweep(20.1)
    assert answered.closed
    assert len(room) == 0


def test_what_is_over_takes_no_place():
    room = DoorRoom(BOUNDS)
    gone = [entered(room, "a", 0.0, busy=True) for _ in range(BOUNDS.per_source)]
    assert not room.make("a", 1.0)
    for one in gone:
        one.over = True
    assert room.make("a", 2.0)
    assert len(room) == 0
    assert not any(one.closed for one in gone)


@pytest.fixture
def tls(tmp_path):
    certificate, key = tmp_path / "door.pem", tmp_path / "door.key"
    write_certificate(certificate, key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context, ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize("first", [b"", bytes.fromhex("160301020001")])
async def test_half_a_handshake_counts_for_its_source(tls, first):
    """TLS that never goes on is bounded like a request that never comes."""

    async def answer(request):
        with server.busy(request.protocol):
            return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    bounds = DoorBounds(
        total=60, per_source=40, quiet=30, quiet_per_source=20, quiet_seconds=5.0,
        replaced_per_second=100,
    )  # fmt: skip
    server = Server(bounds)
    await server.prepare(app, "test")
    port = server.open(Address("127.0.0.1", 0), tls[0])
    flood = [socket.socket() for _ in range(200)]
    try:
        for one in flood:
            one.bind(("127.0.0.66", 0))
            one.connect(("127.0.0.1", port))
            one.sendall(first)
            await asyncio.sleep(0)
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls[1])
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.read()).endswith(b"here")
        assert time.monotonic() - began < 5
        writer.close()
        assert len(server.room) <= bounds.per_source + 1
    finally:
        for one in flood:
            one.close()
        await server.stop()
    assert len(server.room) == 0
