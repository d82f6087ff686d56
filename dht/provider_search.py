"""Provider search: records are delivered as they are found and verified."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.contacts import unpack_contact
from dht.errors import DatagramError, RecordError
from dht.limits import (
    LEASE_SEARCH_COUNT,
    PROVIDERS_PER_GROUP_MAX,
    PROVIDERS_PER_SEARCH_MAX,
    K,
)
from dht.lookup import CandidateState
from dht.providers import ProviderRecord
from dht.traversal import Query, Traversal
from dht.wire import FindProviders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.local_storage import LocalStorage
    from dht.lookups import Lookups
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks

_PAGES_MAX: Final = 64  # further pages that one search asks for
_PER_PREFIX_MAX: Final = {  # from the narrowest prefix to the widest
    4: (PROVIDERS_PER_GROUP_MAX, PROVIDERS_PER_GROUP_MAX, 64),
    6: (PROVIDERS_PER_GROUP_MAX, 8, 16, 64),
}


class LookupStep(NamedTuple):
    """A contact that a search asked: "asked", "answered" or "failed" so far."""

    contact: Contact
    state: str
    hops: int


class ProviderSearch:
    """An async iterator of verified provider records; it ends with the lookup.

    `requests` and `seconds` say what it took so far. `aclose` ends it early.
    """

    def __init__(
        self,
        key: bytes,
        *,
        core: Core,
        rpc_client: RpcClient,
        lookups: Lookups,
        local_storage: LocalStorage,
        tasks: Tasks,
        near: Iterable[Contact] = (),
        lease: bytes = b"",
    ) -> None:
        """Begin; the contacts `near` are asked first, beside the lookup.

        `lease` asks for the origin lease of the key as well, and is either this
        node's own key or that of a holder from which it got nothing.
        """
        self.key: Final = key
        self._core = core
        self._rpc_client = rpc_client
        self._lookups = lookups
        self._found: deque[ProviderRecord] = deque()
        self._seen: set[bytes] = set()
        self._delivered: set[tuple[bytes, str]] = set()
        self._of_prefix: Counter[bytes] = Counter()  # how many were delivered
        self._wake = asyncio.Event()
        self._pages: set[asyncio.Future[ProvenReply | None]] = set()
        self._pages_asked = 0
        self._traversals: list[Traversal] = []
        self._started_at = core.clock.monotonic()
        self._ended_at: float | None = None
        self._local_storage = local_storage
        self._lease = lease
        # Members of a private network need no crowd of keepers against liars.
        is_quick = bool(lease) and core.network.secret is not None
        self._count: Final = LEASE_SEARCH_COUNT if is_quick else K
        self._leases: dict[Contact, Contact] = {}  # holders, by the keeper that says so
        page = local_storage.provider_store.page(key, 0, self._started_at)
        for record in page.records:
            self._deliver(record)
        for contact in near:
            self._ask(contact, self._body_for(contact))
        self._task = tasks.start(self._run(), "caravan-dht-find-providers")
        self._task.add_done_callback(lambda _: self._wake.set())

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return (
            sum(each.lookup.requests for each in self._traversals) + self._pages_asked
        )

    @property
    def hops(self) -> int:
        """The longest way, in requests, to the nearest nodes found."""
        return max((each.lookup.hops for each in self._traversals), default=0)

    def steps(self) -> list[LookupStep]:
        """Return every contact that was asked so far, as a picture of the search."""
        return [
            LookupStep(one.contact, one.state.name.lower(), one.hops)
            for each in self._traversals
            for one in each.lookup.candidates
            if one.state is not CandidateState.HEARD
        ]

    @property
    def closest(self) -> list[Contact]:
        """The nodes nearest to the key that answered, nearest first."""
        wanted = int.from_bytes(self.key, "big")
        found = [
            contact for each in self._traversals for contact in each.lookup.closest
        ]
        return sorted(found, key=lambda contact: contact.long_id ^ wanted)[:K]

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        ended_at = self._ended_at
        if ended_at is None:
            ended_at = self._core.clock.monotonic()
        return ended_at - self._started_at

    def __aiter__(self) -> AsyncIterator[ProviderRecord]:
        return self

    async def __anext__(self) -> ProviderRecord:
        while not self._found:
            if self._ended_at is not None or self._task.done():
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._found.popleft()

    async def aclose(self) -> None:
        """End the search; nothing of it goes on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Traverse every family towards the key, and read further pages."""
        try:
            leased = FindProviders(self.key, 0, self._lease)
            is_private = self._core.network.secret is not None
            body = leased if is_private else FindProviders(self.key)
            query = Query.reading(self.key, body, leased, count=self._count)
            self._traversals += self._lookups.start_all(query, self._replied)
            async with asyncio.TaskGroup() as tasks:
                for traversal in self._traversals:
                    tasks.create_task(self._traverse(traversal))
            while self._pages:
                await asyncio.wait(self._pages)
        finally:
            self._ended_at = self._core.clock.monotonic()
            self._wake.set()

    async def _traverse(self, traversal: Traversal) -> None:
        """Ask the nodes nearest to the key, and all of its region if it is crowded."""
        found = await traversal.run()
        if self._count < K:
            return
        for contact in await self._lookups.widen(traversal.family, self.key, found):
            self._ask(contact, self._body_for(contact))

    def _body_for(self, contact: Contact) -> FindProviders:
        """Return the question for a contact, with the lease where it may grant it."""
        is_leased = self._local_storage.is_leased_to(contact.address)
        return FindProviders(self.key, 0, self._lease if is_leased else b"")

    def decide_holder(self) -> Contact | None:
        """Return who holds the origin lease of the key; None where nobody granted it.

        The nearest keeper decides, and that may be this node itself. To be called once
        the search has ended, where a lease was asked for.
        """
        target = int.from_bytes(self.key, "big")
        own = int.from_bytes(self._core.node_id, "big") ^ target
        keeper = min(self._leases, key=lambda one: one.long_id ^ target, default=None)
        if keeper is None or own < keeper.long_id ^ target:
            return self._local_storage.own_lease(self.key, self._lease)
        return self._leases[keeper]

    def _record_lease(self, reply: ProvenReply) -> None:
        """Note whom a keeper names as the holder of the lease."""
        named, keeper = reply.body.lease, reply.contact
        if named == self._core.public_key:
            self._leases[keeper] = self._core.own_contact
        elif named == keeper.public_key:
            self._leases[keeper] = keeper
        elif named:
            try:
                holder = unpack_contact(named)
            except DatagramError:
                self._core.stats["refused.lease"] += 1
                return
            if keeper.address.believes(holder.address):
                self._leases[keeper] = holder

    def _replied(self, reply: ProvenReply) -> None:
        """Verify what a reply holds, and ask for the rest of it."""
        if self._lease:
            self._record_lease(reply)
        for packed in reply.body.providers:
            if packed in self._seen:
                continue
            self._seen.add(packed)
            try:
                record = ProviderRecord.unpack(self.key, packed)
                if not reply.contact.address.believes(record.address):
                    continue
                record.verify(
                    self._core.network.tag, self._core.clock.time(), self._core.verify
                )
            except RecordError:
                self._core.stats["refused.provider"] += 1
                continue
            self._deliver(record)
        if reply.body.cursor and reply.body.providers:
            self._turn(reply)

    def _deliver(self, record: ProviderRecord) -> None:
        """Deliver a verified record, each provider once per IP address.

        Keys cost nothing, networks do: of one network only a few are delivered, the
        wider it is the more, so its owner cannot bury the honest providers under
        false ones. In loopback and private ranges there is no such bound.
        """
        name = (record.public_key, record.address.host)
        if name in self._delivered:
            return
        if record.address.group is not None:
            prefixes = record.address.path[:0:-1]  # the narrowest first
            limits = zip(prefixes, _PER_PREFIX_MAX[record.address.family], strict=True)
            if any(self._of_prefix[prefix] >= most for prefix, most in limits):
                return
            self._of_prefix.update(prefixes)
        self._delivered.add(name)
        self._found.append(record)
        self._wake.set()

    def _turn(self, reply: ProvenReply) -> None:
        """Ask a contact for its next page."""
        enough = len(self._delivered) >= PROVIDERS_PER_SEARCH_MAX
        if enough or self._pages_asked >= _PAGES_MAX:
            return
        self._ask(reply.contact, FindProviders(self.key, reply.body.cursor))

    def _ask(self, contact: Contact, body: FindProviders) -> None:
        """Ask a contact beside the traversal; the search ends after its reply."""
        self._pages_asked += 1
        page = self._rpc_client.call(contact, body)
        self._pages.add(page)
        page.add_done_callback(self._turned)

    def _turned(self, page: asyncio.Future[ProvenReply | None]) -> None:
        self._pages.discard(page)
        if page.cancelled():
            return
        reply = page.result()
        if reply is not None and self._ended_at is None:
            self._replied(reply)
