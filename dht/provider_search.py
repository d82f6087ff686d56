"""Looking for providers: records are handed out as they are found and verified."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from dht.eclipse_guard import widened
from dht.errors import RecordError
from dht.limits import (
    FIND_PATHS,
    PROVIDERS_PER_GROUP_MAX,
    PROVIDERS_PER_SEARCH_MAX,
    K,
)
from dht.providers import ProviderRecord
from dht.traversal import Traversal
from dht.wire import FindProviders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Answer
    from dht.local_storage import LocalStorage
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks

_PAGES_MAX: Final = 64  # further pages that one search asks for


class ProviderSearch:
    """An async iterator of verified provider records; it ends with the lookup.

    `requests` and `seconds` tell what it took so far. `aclose` ends it early.
    """

    def __init__(
        self,
        key: bytes,
        core: Core,
        asking: RpcClient,
        keeping: LocalStorage,
        tasks: Tasks,
    ) -> None:
        self._key = key
        self._core = core
        self._asking = asking
        self._loop = asyncio.get_running_loop()
        self._found: deque[ProviderRecord] = deque()
        self._seen: set[bytes] = set()
        self._given: set[tuple[bytes, str]] = set()
        self._of_group: Counter[bytes] = Counter()  # how many were handed out
        self._wake = asyncio.Event()
        self._pages: set[asyncio.Future[Answer | None]] = set()
        self._pages_asked = 0
        self._walks: list[Traversal] = []
        self._started_at = core.clock.monotonic()
        self._ended_at: float | None = None
        page = keeping.provider_store.page(key, 0, self._started_at)
        for record in page.records:
            self._take(record)
        self._task = tasks.start(self._run(), "caravan-dht-find-providers")
        self._task.add_done_callback(lambda _: self._wake.set())

    @property
    def requests(self) -> int:
        """How many requests were sent."""
        return sum(w.lookup.requests for w in self._walks) + self._pages_asked

    @property
    def hops(self) -> int:
        """The longest way, in requests, to the nearest nodes found."""
        return max((walk.lookup.hops for walk in self._walks), default=0)

    @property
    def closest(self) -> list[Contact]:
        """The nodes nearest to the key that answered, nearest first."""
        wanted = int.from_bytes(self._key, "big")
        found = [contact for walk in self._walks for contact in walk.lookup.closest]
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
        """Walk towards the key in every family, and turn pages."""
        try:
            for family in sorted(self._core.families):
                if len(self._core.tables[family]):
                    self._walks.append(
                        Traversal(
                            self._core,
                            self._asking,
                            self._loop,
                            family,
                            FindProviders(self._key),
                            self._key,
                            paths=FIND_PATHS,
                            on_answer=self._answered,
                        )
                    )
            async with asyncio.TaskGroup() as tasks:
                for walk in self._walks:
                    tasks.create_task(self._walk(walk))
            while self._pages:
                await asyncio.wait(self._pages)
        finally:
            self._ended_at = self._core.clock.monotonic()
            self._wake.set()

    async def _walk(self, walk: Traversal) -> None:
        """Ask the nodes nearest to the key, and all of its region if it is crowded."""
        found = await walk.run()
        for contact in await widened(
            self._core, self._asking, self._loop, walk.family, self._key, found
        ):
            self._ask(contact, FindProviders(self._key))

    def _answered(self, answer: Answer) -> None:
        """Verify what an answer holds, and ask for the rest of it."""
        for packed in answer.body.providers:
            if packed in self._seen:
                continue
            self._seen.add(packed)
            try:
                record = ProviderRecord.unpack(self._key, packed)
                if not answer.contact.address.believes(record.address):
                    continue
                record.verify(
                    self._core.network.tag, self._core.clock.time(), self._core.verify
                )
            except RecordError:
                self._core.stats["refused.provider"] += 1
                continue
            self._take(record)
        if answer.body.cursor and answer.body.providers:
            self._turn(answer)

    def _take(self, record: ProviderRecord) -> None:
        """Hand out a verified record, each provider once per IP address.

        Keys cost nothing, networks do: of one /24 or /64 only a few are handed out,
        so that who has one cannot bury the true providers under false ones.
        """
        name = (record.public_key, record.address.host)
        group = record.address.group
        if name in self._given:
            return
        if group is not None:
            if self._of_group[group] >= PROVIDERS_PER_GROUP_MAX:
                return
            self._of_group[group] += 1
        self._given.add(name)
        self._found.append(record)
        self._wake.set()

    def _turn(self, answer: Answer) -> None:
        """Ask a contact for its next page."""
        enough = len(self._given) >= PROVIDERS_PER_SEARCH_MAX
        if enough or self._pages_asked >= _PAGES_MAX:
            return
        self._ask(answer.contact, FindProviders(self._key, answer.body.cursor))

    def _ask(self, contact: Contact, body: FindProviders) -> None:
        """Ask a contact beside the walk; the search ends after its answer."""
        self._pages_asked += 1
        page = self._asking.call(contact, body)
        self._pages.add(page)
        page.add_done_callback(self._turned)

    def _turned(self, page: asyncio.Future[Answer | None]) -> None:
        self._pages.discard(page)
        if page.cancelled():
            return
        answer = page.result()
        if answer is not None and self._ended_at is None:
            self._answered(answer)
