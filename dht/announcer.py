"""The announcer: keys that this node provides, announced in sweeps and republished.

1. An offer is a key and the port of the transfer layer. `put` notes it, `withdraw`
   ends it. Nothing else adds or removes an offer.
2. A keeper of a key is a node that answered `stored`. An offer's keepers count from
   the last time its life began: a renewal gives its records a later end, so it starts
   with no keepers (Kademlia paper, section 2.5, republishing).
3. A sweep announces sorted keys. Neighbouring keys share a lookup: the lookup finds
   2k contacts, and each key goes to the k nearest of them, up to eight in a datagram.
   A group ends where the block of ids that holds about k/2 nodes ends, or where the
   scope of one write token ends.
4. Three sweeps exist. `Dht.offer` announces what is new. A renewal, every two hours,
   announces all. `republish_scarce`, after the table has grown or once a minute,
   announces keys with too few keepers: fewer than k/2, or fewer than k where more
   contacts are known than at the last announcement.
5. A sweep runs as eight slices side by side, but at most 32 announces are under way at
   any time over all sweeps, and a keeper gets its datagrams one after the other: it
   verifies a signature for each key.
6. Keys may be offered and withdrawn while a sweep runs. So a sweep reads each offer
   again right before it is sent, and drops what is gone.
7. Each record names the IP address from which its keeper sees this node, and is signed
   only where that is this machine's own address or one that several groups of
   observers agree on (`dht.reach`). Keepers to which this node is read-only get no
   announce: a node that learns of this one there could not ask it.
8. A withdrawal is a record that ends now, sent to the known keepers. A keeper that
   misses it drops the record when it ends.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dht.addresses import Address
from dht.contacts import pack_contacts
from dht.limits import (
    ANNOUNCE_ENTRIES_MAX,
    GROWTH_SHARE,
    PROVIDER_SECONDS,
    REQUESTS_IN_FLIGHT_MAX,
    K,
)
from dht.placement import Placement
from dht.sweep_groups import are_near, group_of
from dht.tokens import write_scope
from dht.traversal import Query
from dht.wire import Announce, FindNode, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.lookups import Lookups
    from dht.providers import ProviderRecord
    from dht.rpc_client import RpcClient

_SLICES: Final = 8  # parts of a sweep that run side by side
_LIMITED_SECONDS: Final = 1.0  # pause where a keeper asks for patience
_LIMITED_PAUSES_MAX: Final = 30


@dataclass(slots=True)
class OfferReport:
    """How many nodes store each key now, and the requests that it took."""

    stored: dict[bytes, int] = field(default_factory=dict)
    requests: int = 0


class OfferedKey:
    """One key on offer."""

    __slots__ = ("expires_at", "keepers", "known", "placed", "port", "records")

    def __init__(self, port: int) -> None:
        self.port = port
        self.expires_at = 0
        # Tuples, for there are many offers, and each has few of either.
        self.keepers: tuple[Contact, ...] = ()  # since the last renewal
        self.placed = 0  # keepers when it was announced last
        self.known = 0  # contacts in the tables when it was announced last
        self.records: tuple[tuple[Address, ProviderRecord], ...] = ()


@dataclass(slots=True)
class _Placement:
    """Where a group of keys goes: each to the nearest `width` of what was found."""

    found: Sequence[Contact]
    width: int
    replies: dict[Contact, ProvenReply]


class Announcer:
    """Announces keys and knows which ones need it again."""

    def __init__(self, core: Core, rpc_client: RpcClient, lookups: Lookups) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._lookups = lookups
        self._offers: dict[bytes, OfferedKey] = {}
        self._in_flight = asyncio.Semaphore(REQUESTS_IN_FLIGHT_MAX)
        self.placement = Placement()

    def __len__(self) -> int:
        return len(self._offers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._offers

    def put(self, keys: Iterable[bytes], port: int) -> list[bytes]:
        """Add keys to the offers, and return them without repeats."""
        chosen = sorted(set(keys))
        for key in chosen:
            offer = self._offers.get(key)
            if offer is None or offer.port != port:
                self._offers[key] = OfferedKey(port)
                self.placement.move(None if offer is None else offer.placed, 0)
        return chosen

    def withdraw(self, keys: Iterable[bytes]) -> dict[bytes, OfferedKey]:
        """Stop offering keys; return what `notify_keepers` sends to their keepers."""
        chosen = sorted(set(keys) & self._offers.keys())
        for key in chosen:
            self.placement.move(self._offers[key].placed, None)
        return {key: self._offers.pop(key) for key in chosen}

    async def notify_keepers(self, withdrawn: dict[bytes, OfferedKey]) -> None:
        """Send the keepers of withdrawn keys a record of each that ends now."""
        by_keeper: dict[tuple[Contact, bytes, int], list[bytes]] = {}
        for key, offer in withdrawn.items():
            for keeper in offer.keepers:
                place = (keeper, write_scope(key), offer.port)
                by_keeper.setdefault(place, []).append(key)
        await asyncio.gather(
            *(
                self._end_records(keeper, port, keys)
                for (keeper, _, port), keys in sorted(
                    by_keeper.items(), key=lambda each: each[0][0].node_id
                )
            )
        )

    async def _end_records(
        self, keeper: Contact, port: int, keys: Sequence[bytes]
    ) -> None:
        """Get a write token from one keeper, then end records of one scope there."""
        core = self._core
        async with self._in_flight:
            found = await self._rpc_client.call(keeper, FindNode(keys[0]))
            if found is None or not core.reach.may_sign(found.observed, keeper.address):
                return
            address = Address(found.observed.host, port)
            now = core.clock.time()
            for start in range(0, len(keys), ANNOUNCE_ENTRIES_MAX):
                # Checked here, after the wait: a key may be on offer again (rule 6).
                entries = [
                    core.sign_offer(key, address, now).entry
                    for key in keys[start : start + ANNOUNCE_ENTRIES_MAX]
                    if key not in self._offers
                ]
                if entries:
                    body = Announce(found.body.write_token, port, entries)
                    await self._rpc_client.call(keeper, body)

    def keys(self) -> list[bytes]:
        """Return all keys on offer."""
        return list(self._offers)

    async def renew(self) -> None:
        """Announce all keys with a new life."""
        await self.sweep(self.keys(), renew=True)

    async def republish_scarce(self) -> None:
        """Announce the keys that too few nodes store."""
        await self.sweep(self.scarce(), renew=False)

    def scarce(self) -> list[bytes]:
        """Return the keys that too few nodes store, now that more are known.

        One missing keeper is not worth a lookup until the next renewal.
        """
        known = GROWTH_SHARE * self._core.known
        few = min(K, self._core.known) // 2
        return [
            key
            for key, each in self._offers.items()
            if len(each.keepers) < few or (len(each.keepers) < K and known > each.known)
        ]

    def record_for(self, key: bytes, address: Address) -> ProviderRecord | None:
        """Return this node's record of a key under the IP of `address`."""
        offer = self._offers.get(key)
        if offer is None:
            return None
        now = self._core.clock.time()
        if offer.expires_at <= now + PROVIDER_SECONDS / 2:
            self._begin_again(offer, now)
        return self._record(key, offer, address.host)

    async def sweep(self, keys: Iterable[bytes], *, renew: bool) -> OfferReport:
        """Announce keys to the k nodes nearest to each.

        Without `renew`, nodes that store a key already are left alone.
        """
        report = OfferReport()
        wanted = sorted(key for key in set(keys) if key in self._offers)
        began_at = self._core.clock.monotonic()
        now, known = self._core.clock.time(), self._core.known
        for key in wanted:
            offer = self._offers[key]
            offer.known = known
            if renew or offer.expires_at <= now:
                self._begin_again(offer, now)
        size = -(-len(wanted) // _SLICES)
        async with asyncio.TaskGroup() as tasks:
            for family in sorted(self._core.families):
                if not any(map(self._may_name_me, self._core.tables[family])):
                    continue
                for start in range(0, len(wanted), max(size, 1)):
                    part = wanted[start : start + size]
                    tasks.create_task(self._sweep_slice(family, part, report))
        self.placement.swept(
            self._core.known,
            self._core.clock.monotonic(),
            all_since=began_at if len(wanted) == len(self._offers) else None,
        )
        for key in wanted:
            offered = self._offers.get(key)
            report.stored[key] = len(offered.keepers) if offered else 0
        return report

    def _begin_again(self, offer: OfferedKey, now: float) -> None:
        """Start a new life of an offer: records of a later end, stored by no node."""
        offer.expires_at = int(now) + PROVIDER_SECONDS
        offer.keepers = ()
        offer.records = ()

    async def _sweep_slice(
        self, family: int, keys: Sequence[bytes], report: OfferReport
    ) -> None:
        """Announce sorted keys, those of a neighbourhood together."""
        position = 0
        while position < len(keys):
            first = keys[position]
            alone = position + 1 == len(keys) or not are_near(
                self._core.tables[family],
                self._core.node_id,
                first,
                second=keys[position + 1],
            )
            replies: dict[Contact, ProvenReply] = {}

            def on_reply(
                reply: ProvenReply, seen: dict[Contact, ProvenReply] = replies
            ) -> None:
                seen[reply.contact] = reply

            count = K if alone else 2 * K
            traversal = self._lookups.start(
                family, Query.storing(first, count), on_reply
            )
            found = await traversal.run()
            report.requests += traversal.lookup.requests
            further = await self._lookups.widen(family, first, found, on_reply=on_reply)
            group = [first] if further else group_of(keys, position, found, count=count)
            placement = _Placement([*found, *further], K + len(further), replies)
            await self._announce(group, placement, report)
            position += len(group)

    async def _announce(
        self, keys: Sequence[bytes], placement: _Placement, report: OfferReport
    ) -> None:
        """Send each key to its nearest contacts, many keys in one datagram."""
        by_keeper: dict[tuple[Contact, int], list[bytes]] = {}
        for key in keys:
            offer = self._offers.get(key)
            if offer is None:
                continue  # withdrawn meanwhile
            target = int.from_bytes(key, "big")
            nearest = heapq.nsmallest(
                placement.width, placement.found, key=lambda c: c.long_id ^ target
            )
            for contact in nearest:
                if contact not in offer.keepers and self._may_name_me(contact):
                    by_keeper.setdefault((contact, offer.port), []).append(key)
        await asyncio.gather(
            *(
                self._announce_all(
                    port, mine, placement.replies[contact], report=report
                )
                for (contact, port), mine in by_keeper.items()
            )
        )
        for key in keys:
            offer = self._offers.get(key)
            if offer is not None:
                self.placement.move(offer.placed, len(offer.keepers))
                offer.placed = len(offer.keepers)

    def _may_name_me(self, keeper: Contact) -> bool:
        """Whether a node that learns this node's address from a keeper can reach it."""
        return bool(self._core.reach.introducers) or not self._core.reach.is_read_only(
            keeper.address
        )

    async def _announce_all(
        self,
        port: int,
        keys: Sequence[bytes],
        reply: ProvenReply,
        *,
        report: OfferReport,
    ) -> None:
        """Announce keys to one contact, one datagram after the other."""
        left = list(keys)
        pauses = _LIMITED_PAUSES_MAX
        while left:
            part = left[:ANNOUNCE_ENTRIES_MAX]
            async with self._in_flight:
                report.requests += 1
                limited = await self._announce_to(port, part, reply)
            left = limited + left[ANNOUNCE_ENTRIES_MAX:]
            if limited:
                # The keeper verifies only so many signatures a second for one sender.
                if not pauses:
                    return
                pauses -= 1
                await asyncio.sleep(_LIMITED_SECONDS)

    async def _announce_to(
        self, port: int, keys: Sequence[bytes], reply: ProvenReply
    ) -> list[bytes]:
        """Announce some keys to one contact and record which of them it stores.

        Return the keys that the contact asks to be sent later.
        """
        contact = reply.contact
        offers = [(key, self._offers.get(key)) for key in keys]
        present = [(key, offer) for key, offer in offers if offer is not None]
        if not self._core.reach.may_sign(reply.observed, contact.address):
            self._core.stats["refused.observed"] += 1
            return []
        host = reply.observed.host
        entries = [self._record(key, offer, host).entry for key, offer in present]
        if not entries:
            return []
        named = pack_contacts(self._core.reach.introducers)
        body = Announce(reply.body.write_token, port, entries, named)
        announced = await self._rpc_client.call(contact, body)
        if announced is None:
            return []
        limited = []
        for (key, offer), status in zip(present, announced.body.statuses, strict=False):
            if status == Stored.STORED:
                if contact not in offer.keepers:
                    offer.keepers += (contact,)
            elif status == Stored.LIMITED:
                limited.append(key)
        return limited

    def _record(self, key: bytes, offer: OfferedKey, host: str) -> ProviderRecord:
        """Return the signed record of an offer under an IP address."""
        address = Address(host, offer.port)
        records = dict(offer.records)
        record = records.get(address)
        if record is None or record.introducers != self._core.reach.introducers:
            record = self._core.sign_offer(key, address, offer.expires_at)
            offer.records = tuple({**records, address: record}.items())
        return record
