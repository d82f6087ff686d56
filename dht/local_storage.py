"""Local storage: what this node stores for others, and what it answers from.

It judges announces and records before they enter the stores, and adds what this node
itself offers and stores, so that a network of two works. Each signature that it
verifies is charged to the sender first (`dht.budgets`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dht.addresses import Address, Scope
from dht.budgets import SenderBudget
from dht.errors import DatagramError, RecordError
from dht.inventory import Block, InventorySlice
from dht.leases import LeaseTable
from dht.limits import (
    LEASE_KEEPERS,
    PORT_MIN,
    VERIFICATIONS_PER_SECOND,
    VERIFICATIONS_PER_SOURCE_PER_SECOND,
)
from dht.provider_store import CURSOR_GIVEN_BITS, Page, ProviderStore
from dht.providers import REGION_DEPTH_MIN, NodeRecord, read_introducers
from dht.record_store import RecordStore, StoreResult
from dht.records import verify_record
from dht.tokens import write_scope
from dht.wire import Announced, Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.budgets import Sender
    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Asked
    from dht.providers import ProviderRecord
    from dht.records import Record
    from dht.wire import Announce, FindProviders, FindRecord, StoreRecord

_NAMED_AT_ONCE: Final = 4
"""So many providers a reply holds on average where a key has many."""


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

    def announced(self, body: Announce, asked: Asked) -> Announced:
        """Judge an announce, and store the good slices of it."""
        try:
            node, region = self._announcer_of(body, asked)
        except (DatagramError, RecordError):
            return Announced(Stored.INVALID, [])
        # From cheap to dear: the token costs a hash, the node record a signature,
        # and each slice another one.
        core, now = self._core, asked.now
        scope = write_scope(body.region[1:])
        if not core.tokens.is_valid(body.write_token, asked.source, now, scope=scope):
            return Announced(Stored.BAD_TOKEN, [])
        sender = core.sender_of(asked)
        status = self._verified_node(node, sender, now)
        if status is not Stored.STORED:
            return Announced(status, [])
        statuses = [
            int(self._put(node, packed, region, sender=sender, now=now))
            for packed in body.slices
        ]
        if not body.summary:
            return Announced(status, statuses)
        if not self._verifications.consume(sender, now):
            return Announced(Stored.LIMITED, statuses)
        family = node.address.family
        kept = self.provider_store.summary(node.public_key, family, region, now=now)
        return Announced(status, statuses, kept.content, kept.newest)

    def _announcer_of(self, body: Announce, asked: Asked) -> tuple[NodeRecord, Block]:
        """Return the unverified node record of an announce, and its region.

        Raises `DatagramError` or `RecordError`.
        """
        region = Block.unpack(body.region)
        if region.depth < REGION_DEPTH_MIN or body.port < PORT_MIN:
            raise RecordError("The announce names no region, or a port below 1024.")
        node = NodeRecord(
            asked.sender.public_key,
            Address(asked.source.host, body.port),
            body.expires_at,
            body.signature,
            read_introducers(body.introducers, asked.source),
        )
        return node, region

    def _verified_node(self, node: NodeRecord, sender: Sender, now: float) -> Stored:
        """Verify a node record, unless it is the one that is kept; renew that."""
        core, wall = self._core, self._core.clock.time()
        kept = self.provider_store.node(node.public_key, node.address.family)
        # A record that is kept already was verified then.
        if node != kept:
            if not self._verifications.consume(sender, now):
                return Stored.LIMITED
            try:
                node.verify(core.network.tag, wall, core.verify)
            except RecordError:
                core.stats["refused.provider"] += 1
                return Stored.INVALID
        lifetime = node.expires_at - wall
        renewed = self.provider_store.renew(node, now=now, lifetime=lifetime)
        return Stored.STORED if renewed else Stored.OLDER

    def _put(
        self,
        node: NodeRecord,
        packed: bytes,
        region: Block,
        *,
        sender: Sender,
        now: float,
    ) -> Stored:
        """Verify a slice of a verified node, unless it is kept already; store it."""
        core, wall = self._core, self._core.clock.time()
        if self.provider_store.has(node, packed):
            return Stored.STORED
        try:
            listed = InventorySlice.unpack(packed)
            # The write token holds for this region only.
            if not region.covers(listed.block):
                return Stored.INVALID
            if not self._verifications.consume(sender, now):
                return Stored.LIMITED
            listed.verify(
                core.network.tag, wall, core.verify, public_key=node.public_key
            )
        except RecordError:
            core.stats["refused.provider"] += 1
            return Stored.INVALID
        return self.provider_store.put(
            node,
            listed,
            sender.path,
            now=now,
            lifetime=node.expires_at - wall,
            age=wall - listed.issued_at / 1000,
        )

    def providers(self, key: bytes, cursor: int, asked: Asked, *, room: int) -> Page:
        """Return providers of a key that fit in so many bytes.

        This node itself is among them if it offers the key, as often in the first
        answer as any other: where all k nodes near a key offer it and named themselves
        first, they alone would be asked for it.
        """
        store, now = self.provider_store, asked.now
        own = self._own_offer(key, asked.source)
        if own is None:
            return store.page(key, cursor, now, room=room)
        page = store.page(key, cursor, now, room=room - len(own.packed) - 3)
        records, total = list(page.records), page.total + 1
        seed = (cursor or page.cursor) >> CURSOR_GIVEN_BITS
        is_early = seed % total < _NAMED_AT_ONCE
        is_first, is_last = cursor == 0, page.cursor == 0
        if is_first and (is_last or is_early):
            records.insert(self._core.rng.randrange(len(records) + 1), own)
        elif is_last and not is_first and not is_early:
            records.append(own)
        return Page(records, total, page.cursor)

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
        # Without a token anybody could take leases in the name of another address.
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
        # This node's own release counts for more than an older copy of it.
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
