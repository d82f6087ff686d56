"""Local storage: what this node stores for others, and what it answers from.

It judges announces and records before they enter the stores, and adds what this node
itself offers and stores, so that a network of two works. Each signature that it
verifies is charged to the sender first (`dht.budgets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht.addresses import Address, Scope
from dht.budgets import SenderBudget
from dht.errors import DatagramError, RecordError
from dht.leases import LeaseTable
from dht.limits import (
    CLOCK_SKEW_SECONDS,
    LEASE_KEEPERS,
    PORT_MIN,
    VERIFICATIONS_PER_SECOND,
    VERIFICATIONS_PER_SOURCE_PER_SECOND,
)
from dht.provider_store import Page, ProviderStore
from dht.providers import ProviderRecord, read_introducers
from dht.record_store import RecordStore, StoreResult
from dht.records import verify_record
from dht.tokens import write_scope
from dht.wire import Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Asked
    from dht.records import Record
    from dht.wire import Announce, FindProviders, FindRecord, StoreRecord


class LocalStorage:
    """The two stores and what they accept."""

    def __init__(
        self,
        core: Core,
        own_offer: Callable[[bytes, Address], ProviderRecord | None],
    ) -> None:
        """`own_offer` gives this node's own record of a key, as an asker sees it."""
        self._core = core
        self._own_offer = own_offer
        self.provider_store = ProviderStore(core.rng)
        self.record_store = RecordStore()
        self.leases = LeaseTable()
        self.own_records: dict[bytes, Record] = {}
        self._verifications = SenderBudget(
            per_second=VERIFICATIONS_PER_SOURCE_PER_SECOND,
            burst=2 * VERIFICATIONS_PER_SOURCE_PER_SECOND,
            total_per_second=VERIFICATIONS_PER_SECOND,
        )

    def announced(self, body: Announce, asked: Asked) -> list[int]:
        """Judge each entry of an announce and store the good ones."""
        return [int(self._announced(entry, body, asked)) for entry in body.entries]

    def _announced(self, entry: bytes, body: Announce, asked: Asked) -> Stored:
        core, now = self._core, asked.now
        scope = write_scope(entry[:32])
        if not core.tokens.is_valid(body.write_token, asked.source, now, scope=scope):
            return Stored.BAD_TOKEN
        if body.port < PORT_MIN:
            return Stored.INVALID
        address = Address(asked.source.host, body.port)
        try:
            introducers = read_introducers(body.introducers, asked.source)
        except DatagramError:
            return Stored.INVALID
        record = ProviderRecord.from_entry(
            entry, asked.sender.public_key, address, introducers=introducers
        )
        sender = core.sender_of(asked)
        if not self._verifications.consume(sender, now):
            return Stored.LIMITED
        wall = core.clock.time()
        # A record that has just ended withdraws the offer: it is verified as of then.
        ended = wall - CLOCK_SKEW_SECONDS <= record.expires_at <= wall
        try:
            as_of = record.expires_at - 1 if ended else wall
            record.verify(core.network.tag, as_of, core.verify)
        except RecordError:
            core.stats["refused.provider"] += 1
            return Stored.INVALID
        if ended:
            self.provider_store.withdraw(record)
            return Stored.STORED
        lifetime = record.expires_at - wall
        kept = self.provider_store.put(record, sender.path, now=now, lifetime=lifetime)
        return Stored.STORED if kept else Stored.FULL

    def providers(self, key: bytes, cursor: int, asked: Asked) -> Page:
        """Return providers of a key, this node itself among them if it offers it."""
        page = self.provider_store.page(key, cursor, asked.now)
        own = self._own_offer(key, asked.source) if cursor == 0 else None
        if own is None:
            return page
        others = [
            record for record in page.records if record.public_key != own.public_key
        ]
        missing = len(page.records) - len(others)
        return Page([own, *others][:8], page.total + 1 - missing, page.cursor)

    def lease(self, body: FindProviders, asked: Asked) -> bytes:
        """Return who holds the origin lease of a key, as `Providers.lease` has it.

        Leases are for the nodes of a private network, or of one machine or local
        network. Only the nearest to the key grant them, and only to an address that
        has echoed a token.
        """
        if not body.lease or not self.is_leased_to(asked.source):
            return b""
        target = int.from_bytes(body.target, "big")
        own = int.from_bytes(self._core.node_id, "big")
        near = self._core.table_of(asked.source).nearest(
            target, LEASE_KEEPERS, exclude=asked.sender.node_id
        )
        if sum(one.long_id ^ target < own ^ target for one in near) >= LEASE_KEEPERS:
            return b""
        if not asked.echoed:
            asked.truncated = True
            return b""
        holder = self.leases.ask(
            body.target,
            asked.sender,
            body.lease,
            path=self._core.sender_of(asked).path,
            now=asked.now,
        )
        if holder is None:
            return b""
        if holder.public_key in (asked.sender.public_key, self._core.public_key):
            return holder.public_key
        return holder.packed if asked.source.believes(holder.address) else b""

    def own_lease(self, key: bytes, failed: bytes) -> Contact | None:
        """Ask the own table for the lease of a key, as any node asks a keeper."""
        core = self._core
        asker = core.own_contact
        path = (b"own", core.public_key)
        now = core.clock.monotonic()
        return self.leases.ask(key, asker, failed, path=path, now=now)

    def is_leased_to(self, address: Address) -> bool:
        """Whether a node at an address takes part in leases with this one."""
        private = self._core.network.secret is not None
        return private or address.scope is not Scope.PUBLIC

    def record_stored(self, body: StoreRecord, asked: Asked) -> StoreResult:
        """Judge a record and store it if it is the newest."""
        core, now = self._core, asked.now
        scope = write_scope(body.target)
        if not core.tokens.is_valid(body.write_token, asked.source, now, scope=scope):
            return StoreResult(Stored.BAD_TOKEN)
        sender = core.sender_of(asked)
        known = self.record_store.is_kept(body.target, body.record, now)
        if not known and not self._verifications.consume(sender, now):
            return StoreResult(Stored.LIMITED)
        wall = core.clock.time()
        record = self.record_store.newest(body.target, now)
        if not known or record is None or record.ends_at <= wall:
            try:
                record = verify_record(body.record, wall, network=core.network)
            except RecordError:
                core.stats["refused.record"] += 1
                return StoreResult(Stored.INVALID)
        if record.key(core.network) != body.target:
            return StoreResult(Stored.INVALID)
        own = self.own_records.get(body.target)
        if own is not None and own.order > record.order:
            return StoreResult(Stored.OLDER, own.raw)
        lifetime = record.ends_at - wall
        return self.record_store.put(
            body.target, record, path=sender.path, now=now, lifetime=lifetime
        )

    def record(self, body: FindRecord, now: float) -> tuple[bytes, bool]:
        """Return the bytes asked for, and whether a proof of conflict is held."""
        conflict = self.record_store.conflict(body.target, now)
        if body.conflict:
            return conflict, bool(conflict)
        newest = self.newest(body.target, now)
        return (newest.raw if newest is not None else b"", bool(conflict))

    def newest(self, key: bytes, now: float) -> Record | None:
        """Return the newest record that this node knows of a key."""
        kept = self.record_store.newest(key, now)
        own = self.own_records.get(key)
        if own is not None and own.ends_at <= self._core.clock.time():
            own = None
        if kept is None or own is None:
            return kept or own
        return own if own.order >= kept.order else kept

    def expire(self, now: float) -> None:
        """Drop what has served its time."""
        self.provider_store.expire(now)
        self.record_store.expire(now)
        self.leases.expire(now)
