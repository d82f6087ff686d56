"""Storing release records and delegations, and finding the newest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dht.eclipse_guard import widened
from dht.errors import RecordError
from dht.limits import (
    FIND_PATHS,
    GROWN_FROM,
    PATIENCE,
    REQUESTS_IN_FLIGHT_MAX,
    STORE_PATHS,
    STORE_PATIENCE,
    K,
)
from dht.records import verify_record
from dht.traversal import Traversal
from dht.wire import FindNode, FindRecord, ReplyFlag, Stored, StoreRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Answer
    from dht.local_storage import LocalStorage
    from dht.records import Record
    from dht.rpc_client import RpcClient
    from dht.wire import Body

_RECORDS_VERIFIED_MAX: Final = 64  # different ones, in one search


@dataclass(frozen=True, slots=True)
class RecordSearch:
    """What a search for a record has found.

    `confirmed` nodes hold the newest one, of `asked` that answered. `conflicts` are
    records of the same order with other bytes: the publisher signed both.
    """

    newest: Record | None
    confirmed: int
    asked: int
    conflicts: tuple[Record, ...]
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class StoreReport:
    """How many nodes stored a record, how many refused it, and a newer one if met."""

    stored: int
    refused: int
    newer: Record | None
    conflicts: tuple[Record, ...]
    requests: int


class Tally:
    """The verified records that one search has met."""

    def __init__(self, core: Core, key: bytes) -> None:
        self._core = core
        self._key = key
        self._records: dict[bytes, Record | None] = {}
        self._holders: dict[bytes, set[Contact]] = {}
        self.asked = 0

    def add(self, raw: bytes, holder: Contact | None = None) -> None:
        """Verify bytes that were met, once, and count who holds them."""
        if raw not in self._records:
            if len(self._records) >= _RECORDS_VERIFIED_MAX:
                return
            self._records[raw] = self._verified(raw)
        if holder is not None:
            self._holders.setdefault(raw, set()).add(holder)

    def _verified(self, raw: bytes) -> Record | None:
        core = self._core
        try:
            record = verify_record(raw, core.clock.time())
        except RecordError:
            core.stats["refused.record"] += 1
            return None
        if record.key(core.network) != self._key:
            core.stats["refused.record"] += 1
            return None
        return record

    @property
    def newest(self) -> Record | None:
        """The record of the highest order; of several, the one that most hold."""
        records = [each for each in self._records.values() if each is not None]
        return max(
            records, key=lambda each: (each.order, self.confirmed(each)), default=None
        )

    def confirmed(self, record: Record) -> int:
        """How many nodes hold exactly this record."""
        return len(self._holders.get(record.raw, ()))

    def conflicts(self, record: Record | None) -> tuple[Record, ...]:
        """Return other records of the same order."""
        if record is None:
            return ()
        return tuple(
            each
            for each in self._records.values()
            if each is not None
            and each.order == record.order
            and each.raw != record.raw
        )


class RecordClient:
    """Stores and finds records, and renews those that are to be kept."""

    def __init__(
        self,
        core: Core,
        asking: RpcClient,
        keeping: LocalStorage,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._core = core
        self._asking = asking
        self._keeping = keeping
        self._loop = loop
        # How many nodes stored each kept record, and how many were known then.
        self._stored: dict[bytes, tuple[int, int]] = {}

    async def find(self, key: bytes) -> RecordSearch:
        """Ask the k nodes nearest to a key for its newest record."""
        now = self._core.clock.monotonic
        started_at = now()
        tally = Tally(self._core, key)
        own = self._keeping.newest(key, started_at)
        if own is not None:
            tally.add(own.raw)
        conflict = self._keeping.record_store.conflict(key, started_at)
        if conflict:
            tally.add(conflict)
        divided: list[Contact] = []

        def answered(answer: Answer) -> None:
            tally.asked += 1
            if answer.body.record:
                tally.add(answer.body.record, answer.contact)
            if answer.flags & ReplyFlag.CONFLICT:
                divided.append(answer.contact)

        walks = self._walks(key, FindRecord(key), answered, paths=FIND_PATHS)
        found = await self._around(walks, key)
        further = [c for c in found if not any(w.lookup.was_asked(c) for w in walks)]
        for answer in await self._ask_all(further, FindRecord(key)):
            answered(answer)
        for answer in await self._ask_all(divided, FindRecord(key, conflict=True)):
            if answer.body.record:
                tally.add(answer.body.record, answer.contact)
        newest = tally.newest
        return RecordSearch(
            newest=newest,
            confirmed=tally.confirmed(newest) if newest is not None else 0,
            asked=tally.asked,
            conflicts=tally.conflicts(newest),
            requests=sum(walk.lookup.requests for walk in walks)
            + len(further)
            + len(divided),
            seconds=now() - started_at,
        )

    async def store(self, record: Record, *, keep: bool) -> StoreReport:
        """Store a record at the k nodes nearest to its key, over disjoint paths."""
        key = record.key(self._core.network)
        if keep:
            own = self._keeping.own_records.get(key)
            if own is None or own.order <= record.order:
                self._keeping.own_records[key] = record
        answers: dict[Contact, Answer] = {}
        walks = self._walks(
            key,
            FindNode(key),
            lambda answer: answers.update({answer.contact: answer}),
            paths=STORE_PATHS,
            patience=STORE_PATIENCE,
        )
        found = await self._around(
            walks, key, lambda answer: answers.update({answer.contact: answer})
        )
        tally = Tally(self._core, key)
        stored = refused = 0
        for start in range(0, len(found), REQUESTS_IN_FLIGHT_MAX):
            part = found[start : start + REQUESTS_IN_FLIGHT_MAX]
            for reply in await asyncio.gather(
                *(self._store_at(record, key, answers[each]) for each in part)
            ):
                if reply is None:
                    continue
                stored += reply.body.status == Stored.STORED
                refused += reply.body.status != Stored.STORED
                if reply.body.record:
                    tally.add(reply.body.record, reply.contact)
        self._stored[key] = (stored, self._core.known)
        newest = tally.newest
        return StoreReport(
            stored=stored,
            refused=refused,
            newer=newest if newest and newest.order > record.order else None,
            conflicts=tally.conflicts(record),
            requests=sum(walk.lookup.requests for walk in walks) + len(found),
        )

    def _store_at(
        self, record: Record, key: bytes, answer: Answer
    ) -> asyncio.Future[Answer | None]:
        body = StoreRecord(key, answer.body.write_token, record.raw)
        return self._asking.call(answer.contact, body)

    async def renew(self, *, wanting: bool) -> None:
        """Store the kept records again; if `wanting`, those with too few copies."""
        now = self._core.clock.time()
        for key, record in sorted(self._keeping.own_records.items()):
            if record.expires_at <= now:
                self._keeping.own_records.pop(key, None)
                self._stored.pop(key, None)
            elif not wanting or self._is_wanting(key):
                await self.store(record, keep=True)

    def _is_wanting(self, key: bytes) -> bool:
        """Whether too few nodes store a record, now that more are known."""
        stored, known = self._stored.get(key, (0, 0))
        few = min(K, self._core.known) // 2
        return stored < few or (stored < K and GROWN_FROM * self._core.known > known)

    async def _ask_all(self, contacts: list[Contact], body: Body) -> list[Answer]:
        """Ask contacts at the same time and return the answers that came."""
        answers = await asyncio.gather(
            *(self._asking.call(each, body) for each in contacts)
        )
        return [answer for answer in answers if answer is not None]

    async def _around(
        self,
        walks: list[Traversal],
        key: bytes,
        on_answer: Callable[[Answer], None] | None = None,
    ) -> list[Contact]:
        """Run walks side by side; return whom they found, and the region if crowded."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(walk.run()) for walk in walks]
        found: list[Contact] = []
        for walk, task in zip(walks, running, strict=True):
            near = task.result()
            found += near
            found += await widened(
                self._core,
                self._asking,
                self._loop,
                walk.family,
                key,
                near,
                on_answer,
            )
        return found

    def _walks(
        self,
        key: bytes,
        body: Body,
        on_answer: Callable[[Answer], None],
        paths: int = 1,
        patience: int = PATIENCE,
    ) -> list[Traversal]:
        """Return one walk for each address family that has contacts."""
        return [
            Traversal(
                self._core,
                self._asking,
                self._loop,
                family,
                body,
                key,
                paths=paths,
                patience=patience,
                on_answer=on_answer,
            )
            for family in sorted(self._core.families)
            if len(self._core.tables[family])
        ]
