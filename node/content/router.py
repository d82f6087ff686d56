"""Translate between content and the DHT: who offers a digest, and offering our own.

What is announced is always derived: `sync` compares what `SharingPolicy` says with
what is announced now, and announces or withdraws the difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

from dht import Contact, Dht, Network, ProviderSearch, follow_key, provider_key
from node.background import Background
from node.content.sharing_policy import SharingPolicy
from node.model.trust_store import TrustStore
from node.reach.lan_peers import LanPeers
from transfer import Artifact, Digest, Peer, Store, TransferError

ANNOUNCED_ALGORITHMS = ("sha256", "sha512", "blake2b-256")
PATIENCE_SECONDS = 0.5
"""How long a command waits for its announcement; it goes on afterwards."""
SEARCHES_AT_ONCE = 16
INTRODUCED_MAX = 1024
NEIGHBOURS_ASKED_MAX = 32
"""Nodes of the local network that a search asks beside the lookup."""


def _never(public_key: bytes) -> bool:
    del public_key
    return False


def _forget(public_key: bytes, introducers: Sequence[Contact]) -> None:
    del public_key, introducers


class ContentRouter:
    """Offers what the store holds, and finds who offers what is wanted."""

    def __init__(
        self,
        *,
        dht: Dht,
        network: Network,
        port: int,
        store: Store,
        policy: SharingPolicy,
        trust_store: TrustStore,
        background: Background,
        neighbours: LanPeers | None = None,
        note_introducers: Callable[[bytes, Sequence[Contact]], None] = _forget,
        is_refused: Callable[[bytes], bool] = _never,
    ) -> None:
        """`neighbours` are asked, and fetched from, before anybody else.

        `note_introducers` gets the key of each provider and through whom it is called;
        `is_refused` says whether no way led to one lately.
        """
        self._note_introducers = note_introducers
        self._is_refused = is_refused
        self._introduced: dict[Digest, bytes] = {}
        self._neighbours = neighbours or LanPeers()
        self._dht = dht
        self._network = network
        self._port = port
        self._store = store
        self._policy = policy
        self._trust_store = trust_store
        self._background = background
        self._announced: set[bytes] = set()
        self._silenced = policy.silenced()
        self._chosen: set[str] = set()
        self._names: set[tuple[bytes, str]] = set()
        self._asked = self._served = 0
        """Numbers of the last call of `sync`, and of the last whose turn is over."""
        self._news = asyncio.Event()
        self._sweep: asyncio.Task[None] | None = None
        self._hashing: asyncio.Task[None] | None = None

    async def sync(self) -> None:
        """Announce what is offered now by SHA-256; after a moment it goes on by itself.

        One sweep runs at a time; what changes meanwhile is taken by the next. Aliases
        follow when they are computed.
        """
        number = self._begin_sweep()
        self._silenced = self._policy.silenced()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while self._served < number and not self._has_failed():
                    await self._news.wait()

    def _begin_sweep(self) -> int:
        """Have a sweep begin after this moment; return its number."""
        self._asked += 1
        if self._sweep is None or self._sweep.done():
            self._sweep = self._background.start(self._sweep_all(), "announcement")
            self._sweep.add_done_callback(lambda _: self._wake())
        return self._asked

    def _has_failed(self) -> bool:
        return self._sweep is None or self._sweep.done()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def use_port(self, port: int) -> None:
        """Announce everything under this port from now on."""
        if port == self._port:
            return
        self._port = port
        if self._announced:
            offering = self._dht.offer(self._announced, port)
            self._background.start(offering, "announcing under another port")

    def is_offered(self, artifact: Artifact) -> bool:
        """Tell whether this node announces an artifact now."""
        return self._key(artifact.digest) in self._announced

    def may_serve(self, digest: Digest, *, whole: bool) -> bool:
        """Tell whether peers may have an artifact, or what has come of a download.

        It may be asked in any thread, so it looks at sets that are replaced whole.
        """
        silenced, name = self._silenced, str(digest)
        if name in silenced:
            return False
        if self._policy.sharing == "all":
            # Also what came a moment ago and is announced with the rest of its package.
            return True
        return whole and name in self._chosen

    def silence(self, digest: str) -> None:
        """Serve an artifact no more from now on, before the next sweep says so."""
        self._silenced = self._silenced | {digest}

    def search(self, digest: Digest) -> ProviderSearch:
        """Start a search for those who offer `digest`."""
        near = self._neighbours.contacts(time.monotonic())
        return self._dht.find_providers(self._key(digest), near[:NEIGHBOURS_ASKED_MAX])

    async def peers(self, digest: Digest) -> AsyncGenerator[Peer, None]:
        """Yield the peers that offer `digest`, without this node, as they are found."""
        async with contextlib.aclosing(self.search(digest)) as search:
            async for record in search:
                if record.public_key == self._dht.public_key:
                    continue
                # Behind the same router its outer address leads nowhere, or round.
                near = self._neighbours.address_of(record.public_key, time.monotonic())
                address = near or record.address
                self._note_introducers(record.public_key, record.introducers)
                if record.introducers and near is None:
                    self._introduced[digest] = record.public_key
                    if len(self._introduced) > INTRODUCED_MAX:
                        del self._introduced[next(iter(self._introduced))]
                yield Peer(address.host, address.port, record.public_key)

    def is_out_of_reach(self, digest: Digest) -> bool:
        """Whether a provider of a digest was found behind a router, and no way in."""
        provider = self._introduced.get(digest)
        return provider is not None and self._is_refused(provider)

    async def holders(self, digests: Iterable[Digest], each: int) -> set[Contact]:
        """Return others who offer one of `digests`, of each at most about `each`."""
        return await self._contacts([self._key(digest) for digest in digests], each)

    async def followers(self, publisher: bytes, name: str, most: int) -> set[Contact]:
        """Return others who want to hear of a name, at most about `most`."""
        return await self._contacts([follow_key(self._network, publisher, name)], most)

    def _key(self, digest: Digest) -> bytes:
        return provider_key(self._network, digest.algorithm, digest.raw)

    async def _contacts(self, keys: Iterable[bytes], each: int) -> set[Contact]:
        found: dict[bytes, Contact] = {}
        slots = asyncio.Semaphore(SEARCHES_AT_ONCE)

        async def search(key: bytes) -> None:
            async with (
                slots,
                contextlib.aclosing(self._dht.find_providers(key)) as all_,
            ):
                count = 0
                async for record in all_:
                    found.setdefault(record.public_key, record.contact)
                    count += 1
                    if count >= each:
                        break

        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                tasks.create_task(search(key))
        found.pop(self._dht.public_key, None)
        return set(found.values())

    async def _sweep_all(self) -> None:
        while self._served < self._asked:
            number = self._asked
            held = {
                str(one.digest): one
                for one in await asyncio.to_thread(self._store.artifacts)
            }
            self._chosen = self._policy.choose(held.keys())
            self._silenced = self._policy.silenced()
            self._names = self._policy.names(held.keys())
            offered = [held[one] for one in sorted(self._chosen)]
            await self._announce(offered)
            self._served = number
            self._wake()
            lacking = [one for one in offered if not one.has_all_aliases]
            if lacking and (self._hashing is None or self._hashing.done()):
                work = self._add_aliases(lacking)
                self._hashing = self._background.start(work, "aliases")

    async def _add_aliases(self, artifacts: list[Artifact]) -> None:
        """Compute what aliases are lacking, and announce them in the next sweep."""
        known = [await self._with_aliases(one) for one in artifacts]
        if any(one.has_all_aliases for one in known):
            self._begin_sweep()

    async def _announce(self, artifacts: list[Artifact]) -> None:
        """Make the announced keys those of `artifacts` and of the names of interest.

        Who offers a package of a name is found beside those who follow it: that tells
        nothing that the offer does not, and alerts need to look in one place only.
        """
        keys = {key for artifact in artifacts for key in self._keys_of(artifact)}
        follows = {(row.publisher, row.name) for row in self._trust_store.follows()}
        for publisher, name in follows | self._names:
            keys.add(follow_key(self._network, publisher, name))
        new, gone = keys - self._announced, self._announced - keys
        self._announced = keys
        if gone:
            self._dht.withdraw(gone)
        if new:
            await self._dht.offer(new, self._port)

    def _keys_of(self, artifact: Artifact) -> list[bytes]:
        digests = [artifact.digest, *artifact.aliases.values()]
        return [
            self._key(digest)
            for digest in digests
            if digest.algorithm in ANNOUNCED_ALGORITHMS
        ]

    async def _with_aliases(self, artifact: Artifact) -> Artifact:
        if artifact.has_all_aliases:
            return artifact
        try:
            return await asyncio.to_thread(self._store.with_aliases, artifact.digest)
        except TransferError:
            return artifact  # gone or damaged meanwhile: the next sweep sees it
