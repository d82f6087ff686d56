"""Storing release records and delegations, and finding the newest."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dht.errors import RecordError
from dht.limits import GROWTH_SHARE, REQUESTS_IN_FLIGHT_MAX, K
from dht.records import verify_record
from dht.traversal import Query
from dht.wire import FindRecord, ReplyFlag, Stored, StoreRecord

if TYPE_CHECKING:
    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.local_storage import LocalStorage
    from dht.lookups import Lookups
    from dht.records import Record
    from dht.rpc_client import RpcClient
    from dht.wire import MessageBody

logger = logging.getLogger(__name__)

_RECORDS_VERIFIED_MAX: Final = 64  # different ones, in one search


@dataclass(frozen=True, slots=True)
class RecordSearch:
    """What a search for a record has found.

    `confirmed` nodes hold the newest one, of `asked` that answered. `conflicts` are
    records of the same order with another body: the publisher signed both.
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
    """The verified records that one search has met, and which nodes hold each."""

    def __init__(self, core: Core, key: bytes) -> None:
        self._core = core
        self._key = key
        self._verified: dict[bytes, Record | None] = {}  # by their bytes
        self._holders: dict[bytes, set[Contact]] = {}  # by the bytes of the first
        self.asked = 0

    def add(self, raw: bytes, holder: Contact | None = None) -> None:
        """Verify bytes that were met, once, and count which nodes hold them."""
        if raw not in self._verified:
            if len(self._verified) >= _RECORDS_VERIFIED_MAX:
                return
            self._verified[raw] = self._verify(raw)
        record = self._verified[raw]
        if record is not None and holder is not None:
            self._holders.setdefault(record.raw, set()).add(holder)

    def _verify(self, raw: bytes) -> Record | None:
        """Return the record in bytes: the same object for the same signed body."""
        core = self._core
        try:
            record = verify_record(raw, core.clock.time(), network=core.network)
        except RecordError:
            core.stats["refused.record"] += 1
            return None
        if record.key(core.network) != self._key:
            core.stats["refused.record"] += 1
            return None
        known = (each for each in self._verified.values() if each is not None)
        return next((each for each in known if each.is_same(record)), record)

    @property
    def newest(self) -> Record | None:
        """The record of the highest order; of several, the one that most hold."""
        records = [each for each in self._verified.values() if each is not None]
        return max(
            records, key=lambda each: (each.order, self.confirmed(each)), default=None
        )

    def confirmed(self, record: Record) -> int:
        """Return how many nodes hold exactly this record."""
        return len(self._holders.get(record.raw, ()))

    def conflicts(self, record: Record | None) -> tuple[Record, ...]:
        """Return other records of the same order: their publisher signed both."""
        if record is None:
            return ()
        others: list[Record] = []
        for each in self._verified.values():
            if each is None or each.order != record.order or each.is_same(record):
                continue
            if each not in others:
                others.append(each)
        return tuple(others)


class RecordClient:
    """Stores and finds records, and renews those that are to be kept."""

    def __init__(
        self,
        *,
        core: Core,
        rpc_client: RpcClient,
        lookups: Lookups,
        local_storage: LocalStorage,
    ) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._lookups = lookups
        self._local_storage = local_storage
        # How many nodes stored each kept record, and how many were known then.
        self._stored: dict[bytes, tuple[int, int]] = {}

    async def find(self, key: bytes) -> RecordSearch:
        """Ask the k nodes nearest to a key for its newest record."""
        now = self._core.clock.monotonic
        started_at = now()
        tally = self._local_tally(key, started_at)
        conflicted: list[Contact] = []

        def on_reply(reply: ProvenReply) -> None:
            tally.asked += 1
            if reply.body.record:
                tally.add(reply.body.record, reply.contact)
            if reply.flags & ReplyFlag.CONFLICT:
                conflicted.append(reply.contact)

        query = Query.reading(key, FindRecord(key))
        traversals = self._lookups.start_all(query, on_reply)
        found = await self._lookups.run_all(traversals, key)
        lookups = [each.lookup for each in traversals]
        further = [c for c in found if not any(each.was_asked(c) for each in lookups)]
        for reply in await self._call_all(further, FindRecord(key)):
            on_reply(reply)
        for reply in await self._call_all(conflicted, FindRecord(key, conflict=True)):
            if reply.body.record:
                tally.add(reply.body.record, reply.contact)
        newest = tally.newest
        return RecordSearch(
            newest=newest,
            confirmed=tally.confirmed(newest) if newest is not None else 0,
            asked=tally.asked,
            conflicts=tally.conflicts(newest),
            requests=sum(each.requests for each in lookups)
            + len(further)
            + len(conflicted),
            seconds=now() - started_at,
        )

    def _local_tally(self, key: bytes, now: float) -> Tally:
        """Return a tally that begins with what this node itself holds of a key."""
        tally = Tally(self._core, key)
        own = self._local_storage.newest(key, now)
        if own is not None:
            tally.add(own.raw)
        conflict = self._local_storage.record_store.conflict(key, now)
        if conflict:
            tally.add(conflict)
        return tally

    async def store(self, record: Record, *, keep: bool) -> StoreReport:
        """Store a record at the k nodes nearest to its key, over disjoint paths."""
        key = record.key(self._core.network)
        if keep:
            own = self._local_storage.own_records.get(key)
            if own is None or own.order <= record.order:
                self._local_storage.own_records[key] = record
        replies: dict[Contact, ProvenReply] = {}

        def on_reply(reply: ProvenReply) -> None:
            replies[reply.contact] = reply

        traversals = self._lookups.start_all(Query.storing(key), on_reply)
        found = await self._lookups.run_all(traversals, key, on_reply)
        tally = Tally(self._core, key)
        stored = refused = 0
        for start in range(0, len(found), REQUESTS_IN_FLIGHT_MAX):
            part = found[start : start + REQUESTS_IN_FLIGHT_MAX]
            for reply in await asyncio.gather(
                *(self._store_at(record, key, replies[each]) for each in part)
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
            requests=sum(each.lookup.requests for each in traversals) + len(found),
        )

    def _store_at(
        self, record: Record, key: bytes, reply: ProvenReply
    ) -> asyncio.Future[ProvenReply | None]:
        body = StoreRecord(key, reply.body.write_token, record.raw)
        return self._rpc_client.call(reply.contact, body)

    async def renew(self) -> None:
        """Store all kept records again (Kademlia paper, section 2.5)."""
        for _, record in self._unexpired():
            await self._store_again(record)

    async def republish_scarce(self) -> None:
        """Store the kept records again of which too few nodes hold a copy."""
        for key, record in self._unexpired():
            if self._is_scarce(key):
                await self._store_again(record)

    async def _store_again(self, record: Record) -> None:
        """Store one record; a failure ends nothing for the others."""
        try:
            await self.store(record, keep=True)
        except Exception:
            self._core.stats["failed.store"] += 1
            logger.exception("a record could not be stored again")

    def _unexpired(self) -> list[tuple[bytes, Record]]:
        """Return the kept records by key, and forget those that have ended."""
        now = self._core.clock.time()
        own_records = self._local_storage.own_records
        for key in [k for k, each in own_records.items() if each.expires_at <= now]:
            own_records.pop(key, None)
            self._stored.pop(key, None)
        return sorted(own_records.items())

    def _is_scarce(self, key: bytes) -> bool:
        """Whether too few nodes store a record, now that more are known."""
        stored, known = self._stored.get(key, (0, 0))
        few = min(K, self._core.known) // 2
        return stored < few or (stored < K and GROWTH_SHARE * self._core.known > known)

    async def _call_all(
        self, contacts: list[Contact], body: MessageBody
    ) -> list[ProvenReply]:
        """Ask contacts at the same time and return the replies that came."""
        replies = await asyncio.gather(
            *(self._rpc_client.call(each, body) for each in contacts)
        )
        return [reply for reply in replies if reply is not None]
