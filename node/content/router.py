"""Translate between content and the DHT: who offers a digest, and offering our own.

What is announced is always derived: `sync` compares what `SharingPolicy` says of what
changed with what is announced now, and announces or withdraws the difference.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from dht import (
    Contact,
    Dht,
    Network,
    ProviderRecord,
    ProviderSearch,
    follow_key,
    provider_key,
)
from node.background import Background
from node.content.announced import PREFIX_BYTES, AnnouncedKeys
from node.content.announcements import Announcements
from node.content.sharing_policy import SharingPolicy
from node.model.trust_store import TrustStore
from node.reach.lan_peers import LanPeers
from transfer import Artifact, Digest, Peer, Store

ANNOUNCED_ALIASES = ("sha512", "blake2b-256")
ANNOUNCED_ALGORITHMS = ("sha256", *ANNOUNCED_ALIASES)
PATIENCE_SECONDS = 0.5
"""How long a command waits for its announcement; it goes on afterwards."""
READ_AT_ONCE = 250
"""Artifacts that are read from the store together."""
PARTS_MANY = 32
"""More of such parts no command waits for."""
_FIRST = b""
"""Before all names of artifacts."""
ALIASES_SECONDS = 0.25
"""How long aliases are gathered to be announced together."""
SEARCHES_AT_ONCE = 16
INTRODUCED_MAX = 1024
NEIGHBOURS_ASKED_MAX = 32
"""Nodes of the local network that a search asks beside the lookup."""


T = TypeVar("T", str, bytes)


class Ways(Protocol):
    """How providers are reached; `node.reach.connector.Connector` is what ships."""

    def set_introducers(
        self, public_key: bytes, introducers: Sequence[Contact]
    ) -> None:
        """Remember through whom a provider is called; nobody: it is dialled."""

    def is_refused(self, public_key: bytes) -> bool:
        """Tell whether no way led to a provider lately."""

    def reach_of(self, public_key: bytes, introducers: Sequence[Contact]) -> str:
        """Return how a provider is reached: a word of `results.Reachability`."""


class RecordedWays:
    """What provider records say, where nothing is known of how they are reached."""

    def set_introducers(
        self, public_key: bytes, introducers: Sequence[Contact]
    ) -> None:
        """Forget them."""

    def is_refused(self, public_key: bytes) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def reach_of(
        self,
        public_key: bytes,  # noqa: ARG002
        introducers: Sequence[Contact],
    ) -> str:
        """Return what the record says."""
        return "punched" if introducers else "reachable"


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
        ways: Ways | None = None,
        queue_aliases: Callable[[], None] = lambda: None,
    ) -> None:
        """`neighbours` are asked, and fetched from, before anybody else.

        `queue_aliases` has the aliases computed that the store lacks.
        """
        self._queue_aliases = queue_aliases
        self._ways = ways or RecordedWays()
        self._introduced: dict[Digest, bytes] = {}
        self._neighbours = neighbours or LanPeers()
        self._dht = dht
        self._network = network
        self._store = store
        self._policy = policy
        self._trust_store = trust_store
        self._background = background
        self._announced_keys = AnnouncedKeys(len(ANNOUNCED_ALIASES))
        self._follow_keys: dict[tuple[bytes, str], bytes] = {}
        """The keys announced for names of interest."""
        self._follows: set[tuple[bytes, str]] = set()
        self._announcements = Announcements(dht, background, port)
        self._is_lacking_aliases = False
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        store.on_aliases = self._on_aliases
        self._announced: asyncio.Future[None] | None = None
        """Resolved when what the next decision finds is announced."""
        self._deciding: asyncio.Task[None] | None = None

    async def sync(self) -> None:
        """Announce what is offered now by SHA-256; after a moment it goes on by itself.

        One decision is made at a time; what changes meanwhile is taken by the next.
        Aliases follow when they are computed.
        """
        announced = self._decide_soon()
        self._policy.hush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.wait([announced])

    def _decide_soon(self) -> asyncio.Future[None]:
        """Have a decision begin after this moment; return when it is announced."""
        if self._announced is None:
            self._announced = asyncio.get_running_loop().create_future()
        if self._deciding is None or self._deciding.done():
            self._deciding = self._background.start(self._decide_all(), "announcement")
        return self._announced

    def use_port(self, port: int) -> None:
        """Announce everything under this port from now on."""
        if port == self._announcements.port:
            return
        self._announcements.port = port
        if len(self._announced_keys) or self._follow_keys:
            self._announcements.send_all(port)

    def is_offered(self, artifact: Artifact) -> bool:
        """Tell whether this node announces an artifact now."""
        return artifact.digest.raw in self._announced_keys

    def may_serve(self, digest: Digest, *, whole: bool) -> bool:
        """Tell whether peers may have an artifact, or what has come of a download.

        It may be asked in any thread.
        """
        is_announced = whole and digest.raw in self._announced_keys
        return self._policy.may_serve(str(digest), is_announced=is_announced)

    def silence(self, digest: str) -> None:
        """Serve an artifact no more from now on, before the next `sync` says so."""
        self._policy.silence(digest)

    def search(self, digest: Digest) -> ProviderSearch:
        """Start a search for those who offer `digest`."""
        return self._search(self._key(digest))

    def _search(self, key: bytes, lease: bytes = b"") -> ProviderSearch:
        near = self._neighbours.contacts(time.monotonic())[:NEIGHBOURS_ASKED_MAX]
        return self._dht.find_providers(key, near, lease=lease)

    @property
    def is_leased(self) -> bool:
        """Whether there are nodes to share origin leases with."""
        near = self._neighbours.contacts(time.monotonic())
        return bool(near) or self._dht.is_leased

    async def lease_holder(
        self, kind: str, name: bytes, failed: bytes | None = None
    ) -> Peer | None:
        """Return who else asks the origin; None where this node does.

        `kind` is the algorithm of the digest `name`, or `page`. `failed` is the key of
        a holder that gave this node nothing.
        """
        key = provider_key(self._network, kind, name)
        lease = failed or self._dht.public_key
        async with contextlib.aclosing(self._search(key, lease)) as search:
            async for _ in search:
                continue
        return self._holder_in(search)

    def _holder_in(self, search: ProviderSearch) -> Peer | None:
        """Return the other node that a search has found to hold the lease."""
        holder = search.decide_holder()
        if holder is None or holder.public_key == self._dht.public_key:
            return None
        return Peer(holder.address.host, holder.address.port, holder.public_key)

    async def peers(
        self,
        digest: Digest,
        on_holder: Callable[[Peer | None], None] | None = None,
    ) -> AsyncGenerator[Peer, None]:
        """Yield the peers that offer `digest`, without this node, as they are found.

        `on_holder` is told in the end who else holds the origin lease, None where
        this node does.
        """
        lease = b"" if on_holder is None else self._dht.public_key
        key = self._key(digest)
        async with contextlib.aclosing(self._search(key, lease)) as search:
            async for record in search:
                if record.public_key == self._dht.public_key:
                    continue
                # Behind the same router its outer address leads nowhere, or round.
                near = self._neighbours.address_of(record.public_key, time.monotonic())
                address = near or record.address
                self._ways.set_introducers(record.public_key, record.introducers)
                if record.introducers and near is None:
                    self._introduced[digest] = record.public_key
                    if len(self._introduced) > INTRODUCED_MAX:
                        del self._introduced[next(iter(self._introduced))]
                yield Peer(address.host, address.port, record.public_key)
            if on_holder is not None:
                on_holder(self._holder_in(search))

    def reach_of(self, record: ProviderRecord) -> str:
        """Return in a word how the provider of a record is reached."""
        key = record.public_key
        if self._neighbours.address_of(key, time.monotonic()) is not None:
            return "reachable"
        return self._ways.reach_of(key, record.introducers)

    def is_out_of_reach(self, digest: Digest) -> bool:
        """Whether a provider of a digest was found behind a router, and no way in."""
        provider = self._introduced.get(digest)
        return provider is not None and self._ways.is_refused(provider)

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

    async def _decide_all(self) -> None:
        while (announced := self._announced) is not None:
            self._announced = None
            try:
                await self._decide()
            except BaseException:
                for one in (announced, self._announced):
                    if one is not None:
                        one.cancel()
                self._announced = None
                raise
            # On its own: what is shared next does not wait for it.
            self._announcements.send(announced)
            if self._is_lacking_aliases:
                self._is_lacking_aliases = False
                self._queue_aliases()

    async def _decide(self) -> None:
        """Withdraw what is not offered any more; note what is to be announced."""
        change = self._policy.drain_changes()
        try:
            held = {
                str(one.digest)
                for part in _parts(change.asks, READ_AT_ONCE)
                for one in (await self._held(part)).values()
            }
            settled = self._policy.decide(change, held)
            if change.is_all:
                await self._compare_all()
            else:
                await self._compare_parts(settled.digests)
        except BaseException:
            self._policy.again(change.digests, is_all=change.is_all)
            raise
        self._announcements.withdraw(self._compare_names(settled.names))

    async def _compare_all(self) -> None:
        """Compare all that is held, page by page; commands come in between."""
        after = _FIRST
        while True:
            page = await asyncio.to_thread(self._store.page, after, READ_AT_ONCE)
            if not page:
                return
            began = time.monotonic()
            for artifact in page:
                self._announcements.withdraw(
                    self._compare(artifact.digest.raw, artifact)
                )
            after = page[-1].digest.raw
            if len(page) == READ_AT_ONCE:
                await asyncio.sleep(time.monotonic() - began)

    async def _compare_parts(self, digests: Iterable[str]) -> None:
        """Compare artifacts that are held, or were, with what is announced of them."""
        parts = _parts(digests, READ_AT_ONCE)
        for part in parts:
            began, gone = time.monotonic(), list[bytes]()
            found = await self._held(part)
            for name in part:
                gone += self._compare(Digest.parse(name).raw, found.get(name))
            self._announcements.withdraw(gone)
            if len(parts) > PARTS_MANY:
                await asyncio.sleep(time.monotonic() - began)

    async def _held(self, names: Iterable[str]) -> dict[str, Artifact]:
        """Return the artifacts that are held of these, by their names."""
        raws = [Digest.parse(one).raw for one in names]
        found = await asyncio.to_thread(self._store.find_many, "sha256", raws)
        return {str(one.digest): one for one in found.values()}

    def _compare(self, sha256: bytes, artifact: Artifact | None) -> list[bytes]:
        """Put the new keys of an artifact; return those to be withdrawn."""
        before = self._announced_keys.prefixes(sha256)
        name = Digest("sha256", sha256)
        if artifact is None or not self._policy.is_offered(str(name)):
            self._announced_keys.drop(sha256)
            return [] if before is None else [self._key(name), *filter(None, before)]
        if not artifact.has_all_aliases:
            self._is_lacking_aliases = True
        aliases = [artifact.aliases.get(one) for one in ANNOUNCED_ALIASES]
        keys = [b"" if one is None else self._key(one) for one in aliases]
        prefixes = tuple(key[:PREFIX_BYTES] for key in keys)
        if prefixes == before:
            return []
        known = set(before or ())
        new = [key for key in keys if key and key[:PREFIX_BYTES] not in known]
        self._announced_keys.put(sha256, prefixes)
        self._announcements.put(new if before is not None else [self._key(name), *new])
        return [one for one in known if one and one not in prefixes]

    def _compare_names(self, names: set[tuple[bytes, str]]) -> list[bytes]:
        """Put the keys of new names of interest; return those to be withdrawn.

        Who offers a package of a name is found beside those who follow it: that tells
        nothing that the offer does not, and alerts need to look in one place only.
        """
        follows = {(row.publisher, row.name) for row in self._trust_store.follows()}
        gone = []
        for name in names | (follows ^ self._follows):
            if name in follows or self._policy.is_name_offered(*name):
                if name not in self._follow_keys:
                    self._follow_keys[name] = follow_key(self._network, *name)
                    self._announcements.put([self._follow_keys[name]])
            elif (key := self._follow_keys.pop(name, None)) is not None:
                gone.append(key)
        self._follows = follows
        return gone

    def _on_aliases(self, artifact: Artifact) -> None:
        """Have the aliases of an artifact announced; called in any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._aliases_known, str(artifact.digest))

    def _aliases_known(self, digest: str) -> None:
        self._policy.again([digest])
        if self._later is None:
            self._later = self._loop.call_later(ALIASES_SECONDS, self._decide_now)

    def _decide_now(self) -> None:
        self._later = None
        self._decide_soon()


def _parts(values: Iterable[T], count: int) -> list[list[T]]:
    """Return sorted values in parts of at most `count`."""
    ordered = sorted(values)
    return [ordered[start : start + count] for start in range(0, len(ordered), count)]
