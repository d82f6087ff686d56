"""Translate between content and the DHT: who offers a digest, and offering our own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from dht import Contact, Dht, Network, ProviderSearch, follow_key, provider_key
from node.background import Background
from transfer import Artifact, Digest, Peer

ANNOUNCED_ALGORITHMS = ("sha256", "sha512", "blake2b-256")
OFFER_PATIENCE_SECONDS = 5.0
"""How long a command waits for its announcement; it goes on afterwards."""


class Provide:
    """Offers what the store holds, and finds who offers what is wanted."""

    def __init__(
        self, dht: Dht, network: Network, port: int, background: Background
    ) -> None:
        self._dht = dht
        self._network = network
        self._port = port
        self._background = background
        self._pending: set[bytes] = set()
        self._sweep: asyncio.Task[None] | None = None

    def keys_of(self, artifact: Artifact) -> list[bytes]:
        """Return the keys under which an artifact is announced."""
        digests = [artifact.digest, *artifact.aliases.values()]
        return [
            self.key_of(digest)
            for digest in digests
            if digest.algorithm in ANNOUNCED_ALGORITHMS
        ]

    def key_of(self, digest: Digest) -> bytes:
        """Return the provider key of a digest."""
        return provider_key(self._network, digest.algorithm, digest.raw)

    def offer(self, artifacts: Iterable[Artifact]) -> None:
        """Announce artifacts soon and keep them announced; see `settled`."""
        self._announce(key for one in artifacts for key in self.keys_of(one))

    def offer_follow(self, publisher: bytes, name: str) -> None:
        """Announce soon that this node wants to hear of a name; see `settled`."""
        self._announce([follow_key(self._network, publisher, name)])

    def withdraw(self, artifact: Artifact) -> None:
        """No longer renew the announcement of an artifact."""
        self._dht.withdraw(self.keys_of(artifact))

    def withdraw_follow(self, publisher: bytes, name: str) -> None:
        """No longer renew the announcement of a follower."""
        self._dht.withdraw([follow_key(self._network, publisher, name)])

    def search(self, digest: Digest) -> ProviderSearch:
        """Start a search for those who offer `digest`."""
        return self._dht.find_providers(self.key_of(digest))

    async def peers(self, digest: Digest) -> AsyncIterator[Peer]:
        """Yield the peers that offer `digest`, without this node, as they are found."""
        async with contextlib.aclosing(self.search(digest)) as search:
            async for record in search:
                if record.public_key != self._dht.public_key:
                    address = record.address
                    yield Peer(address.host, address.port, record.public_key)

    async def holders(self, digests: Iterable[Digest]) -> set[Contact]:
        """Return everybody else who offers one of `digests`."""
        return await self._contacts(self.key_of(digest) for digest in digests)

    async def followers(self, publisher: bytes, name: str) -> set[Contact]:
        """Return everybody else who wants to hear of a name."""
        return await self._contacts([follow_key(self._network, publisher, name)])

    async def _contacts(self, keys: Iterable[bytes]) -> set[Contact]:
        found: dict[bytes, Contact] = {}

        async def search(key: bytes) -> None:
            async with contextlib.aclosing(self._dht.find_providers(key)) as records:
                async for record in records:
                    found.setdefault(record.public_key, record.contact)

        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                tasks.create_task(search(key))
        found.pop(self._dht.public_key, None)
        return set(found.values())

    async def settled(self) -> None:
        """Wait until what was offered is announced, a few seconds at most."""
        if self._sweep is not None and not self._sweep.done():
            await asyncio.wait([self._sweep], timeout=OFFER_PATIENCE_SECONDS)

    def _announce(self, keys: Iterable[bytes]) -> None:
        """Announce soon: one sweep at a time, each with all that has gathered."""
        self._pending.update(keys)
        if self._pending and (self._sweep is None or self._sweep.done()):
            self._sweep = self._background.start(self._announce_all(), "announcement")

    async def _announce_all(self) -> None:
        while self._pending:
            keys, self._pending = self._pending, set()
            await self._dht.offer(keys, self._port)
