"""One address must not silence a seeder: honest peers beside each way to try it.

Attackers and honest leechers share one source here, which is the hardest case.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import time
from pathlib import Path

import pytest

from transfer import Digest
from transfer.connection import wire

MIB = 1024 * 1024
KEY = secrets.token_bytes(32)
HELLO = wire.MAGIC_PLAINTEXT + wire.encode(wire.Hello(1, KEY, KEY, b""))
ROUNDS = 6
SLACK_SECONDS = 1.0
"""For a busy machine; what was attacked stood still for ten seconds and more."""


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def honest_seconds(new_node, seeder, sizes=(2 * MIB,)) -> float:
    """Download from a seeder with new leechers; return the slowest time."""
    slowest = 0.0
    for number in range(ROUNDS):
        leecher = await new_node(encryption=False)
        for size in sizes:
            data = os.urandom(size + number)
            artifact = await asyncio.to_thread(seeder.store.add_bytes, data)
            began = time.monotonic()
            await leecher.download(artifact.digest, [seeder.peer])
            slowest = max(slowest, time.monotonic() - began)
        await leecher.leecher.close()
    return slowest


class Attack:
    """Keeps `count` connections to a seeder in some state, and renews lost ones."""

    count = 64

    def __init__(self, peer, digest: Digest) -> None:
        self.peer = peer
        self.digest = digest
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(self._keep()) for _ in range(self.count)]
        await asyncio.sleep(0.7)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError), socket.socket() as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(sock, (self.peer.host, self.peer.port))
                await self.attack(sock)
            await asyncio.sleep(0.05)

    async def attack(self, sock: socket.socket) -> None:
        raise NotImplementedError

    async def wants(self, sock: socket.socket, count: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, HELLO)
        raw = self.digest.raw
        for number in range(count):
            want = wire.encode(wire.Want(number, "sha256", raw, b"", 0))
            await loop.sock_sendall(sock, want)


class Silent(Attack):
    """Says nothing."""

    async def attack(self, sock):
        await asyncio.get_running_loop().sock_recv(sock, 1)


class MagicOnly(Attack):
    """Says that it wants TLS, and no more."""

    async def attack(self, sock):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, wire.MAGIC_TLS)
        await loop.sock_recv(sock, 1)


class HalfFrames(Attack):
    """Sends one byte of a request every second."""

    count = 60

    async def attack(self, sock):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, HELLO)
        for byte in wire.encode(wire.Get(1, 1)):
            await loop.sock_sendall(sock, bytes([byte]))
            await asyncio.sleep(1.0)


class Dribbling(Attack):
    """Has a request answered, and sends the next one byte by byte."""

    count = 12

    async def attack(self, sock):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, HELLO + wire.encode(wire.Done(4_000_000_000)))
        await loop.sock_sendall(sock, (1000).to_bytes(wire.LENGTH_BYTES, "big"))
        for _ in range(900):
            await loop.sock_sendall(sock, b"x")
            await asyncio.sleep(0.01)


class ManyWants(Attack):
    """Wants one artifact 64 times on each of 15 connections."""

    count = 15

    async def attack(self, sock):
        loop = asyncio.get_running_loop()
        await self.wants(sock, 64)
        while True:
            await asyncio.sleep(1.0)
            await loop.sock_sendall(sock, wire.encode(wire.Done(4_000_000_000)))


class TooManyWants(ManyWants):
    """The same on as many connections as one source may have."""

    count = 60


class SlowReaders(Attack):
    """Asks for all chunks and reads 13 kB/s."""

    count = 60

    async def attack(self, sock):
        loop = asyncio.get_running_loop()
        await self.wants(sock, 1)
        for index in range(30):
            await loop.sock_sendall(sock, wire.encode(wire.Get(0, index)))
        for _ in range(10_000):
            if not await loop.sock_recv(sock, 1300):
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "kind",
    [Silent, MagicOnly, HalfFrames, Dribbling, ManyWants, TooManyWants, SlowReaders],
    ids=lambda kind: kind.__name__,
)
async def test_honest_peers_are_served_beside_an_attack(new_node, kind):
    """All of them, in no more than twice the time."""
    seeder = await new_node(encryption=False)
    wanted = await asyncio.to_thread(seeder.store.add_bytes, os.urandom(8 * MIB))
    quiet = await honest_seconds(new_node, seeder)
    before = descriptors()
    async with kind(seeder.peer, wanted.digest):
        assert descriptors() <= before + 3 * kind.count  # both ends, and little else
        attacked = await honest_seconds(new_node, seeder)
    assert attacked <= 2 * quiet + SLACK_SECONDS, (quiet, attacked)
