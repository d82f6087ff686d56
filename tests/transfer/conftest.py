"""Builders for the tests of the transfer layer: real sockets on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transfer import Identity, Leecher, Peer, Seeder, Store
from transfer.arrivals import Arrivals

TIMEOUT_SECONDS = 30.0


@dataclass
class Node:
    """A store with both ends of the transfer wire."""

    store: Store
    identity: Identity
    leecher: Leecher
    seeder: Seeder
    sockets: list[socket.socket] = field(default_factory=list)
    arrivals: Arrivals = field(default_factory=Arrivals)

    @property
    def peer(self) -> Peer:
        return Peer(*self.sockets[0].getsockname()[:2], self.identity.public_key)

    async def download(self, digest, peers, **options):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self.leecher.download(digest, peers, **options)

    async def stop_seeding(self) -> None:
        await self.seeder.close()

    async def close(self) -> None:
        await self.leecher.close()
        await self.seeder.close()
        self.store.close()


NodeBuilder = Callable[..., "asyncio.Future[Node]"]


@pytest.fixture
async def new_node(tmp_path: Path) -> AsyncIterator[NodeBuilder]:
    """Give a function that starts nodes, and close them all at the end."""
    nodes: list[Node] = []

    async def build(
        *,
        host: str = "127.0.0.1",
        folder: Path | None = None,
        secret: bytes | None = None,
        encryption: bool = True,
        seeder_limits=None,
        leecher_limits=None,
        fs=None,
    ) -> Node:
        identity = Identity(Ed25519PrivateKey.generate())
        store = Store(folder or tmp_path / f"node{len(nodes)}", fs=fs)
        terms = {"network_secret": secret, "encryption": encryption}
        arrivals = Arrivals()
        seeder = Seeder(
            store, identity, limits=seeder_limits, arrivals=arrivals, **terms
        )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, 0), family=family)
        port = listener.getsockname()[1]
        leecher = Leecher(store, identity, limits=leecher_limits, port=port, **terms)
        await seeder.start([listener])
        node = Node(store, identity, leecher, seeder, [listener], arrivals)
        nodes.append(node)
        return node

    yield build
    for node in nodes:
        await node.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "home")
    yield store
    store.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; fail after a long while."""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():  # noqa: ASYNC110 (any condition will do)
            await asyncio.sleep(0.01)


def threads() -> set[str]:
    """Return the names of this layer's threads that are alive."""
    return {
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("caravan")
    }


def wait_for_no_threads() -> None:
    """Fail where a thread of this layer outlives its owner."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert not threads()
