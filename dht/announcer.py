"""The announcer: what this node offers, announced in sweeps and republished.

1. An offer is a key. `put` notes it, `withdraw` ends it; nothing else adds or removes
   one. All offers are under one port, that of the transfer layer. What was put is
   announced by the next `announce`, region by region, however much it is.
2. Keys are announced by region: the block of keys whose k nearest nodes are about the
   same, as wide as the network is sparse (`region_depth`). One lookup finds its
   keepers: all nodes that lie in the region, and the nearest others up to k. They get
   the slices of the region (`dht.own_inventory`, `dht.slice_sender`). In a small
   network one census finds the keepers of all regions (`dht.census`).
3. What a keeper has counts from the last renewal. A renewal gives the node record a
   later end, so it starts with no keepers (Kademlia paper, section 2.5, republishing).
   A keeper that has all slices still gets the node record alone.
4. Three sweeps exist. `announce` sends what is new. A renewal, every two hours,
   announces all. `republish_scarce`, after the table has grown or once a minute,
   announces regions with too few keepers: fewer than k/2, or fewer than k where more
   contacts are known than at the last announcement.
5. A sweep runs in eight lanes side by side, but at most 56 announces are under way at
   any time over all sweeps, and a keeper gets those of a region one after the other.
6. Keys may be offered and withdrawn while a sweep runs. A region is announced as it is
   when its lookup has ended, by one sweep at a time.
7. The node record names the IP address from which its keeper sees this node, and is
   signed only where that is this machine's own address or one that several groups of
   observers agree on (`dht.reach`). Keepers to which this node is read-only get no
   announce: a node that learns of this one there could not ask it.
8. A withdrawal is a slice that lists less, sent to the known keepers. A keeper that
   misses it learns of it with the next renewal.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.addresses import Address
from dht.census import CENSUS_DEPTH_MAX, Censuses
from dht.eclipse_guard import expected_radius
from dht.inventory import Block
from dht.limits import (
    ANNOUNCES_IN_FLIGHT_MAX,
    CENSUS_REGIONS_MIN,
    GROWTH_SHARE,
    KEEPERS_KNOWN_SECONDS,
    PROVIDER_SECONDS,
    SLICE_RENEW_SECONDS,
    SLICE_SECONDS,
    K,
)
from dht.own_inventory import OwnInventory, OwnSlice
from dht.placement import Placement
from dht.providers import REGION_DEPTH_MIN, ProviderRecord
from dht.slice_sender import NOTHING, Holding, SliceSender
from dht.traversal import Query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.inventory import InventorySlice
    from dht.lookups import Lookups
    from dht.providers import NodeRecord
    from dht.routing import Table
    from dht.rpc_client import RpcClient

_LANES: Final = 8  # parts of a sweep that run side by side
_REGION_DEPTH_MAX: Final = 28
_STEP: Final = 1024  # keys or slices after which others have their turn


class _Found(NamedTuple):
    """The keepers of a region in one family, as a lookup found them."""

    replies: Sequence[ProvenReply]
    at: float
    known: int  # contacts of all tables then


@dataclass(slots=True)
class OfferReport:
    """How many nodes store each key now, and the requests that it took."""

    stored: dict[bytes, int] = field(default_factory=dict)
    requests: int = 0


def region_depth(table: Table, own_id: bytes) -> int:
    """Return the depth of the blocks that hold about k nodes; 0 where few are known."""
    radius = expected_radius(table, own_id)
    if not radius:
        return 0
    depth = 257 - (radius * 4 // 3).bit_length()
    return min(max(depth, 0), _REGION_DEPTH_MAX)


class Announcer:
    """Announces keys and knows which ones need it again."""

    def __init__(self, core: Core, rpc_client: RpcClient, lookups: Lookups) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._lookups = lookups
        self._inventory = OwnInventory()
        self._port = 0
        self._depth = REGION_DEPTH_MIN
        self._depth_known = 0  # contacts when the depth was chosen
        self._pending: dict[Block, None] = {}
        """The regions of which something was put since the last announcement."""
        self._has_announced = False
        self._keepers: dict[Block, dict[Contact, int]] = {}
        """By region: up to which time of issue a node has all slices."""
        self._known: dict[Block, int] = {}
        """Contacts in the tables when a region was announced last."""
        self._locks: dict[tuple[Block, int], asyncio.Lock] = {}
        self._found: dict[tuple[Block, int], _Found] = {}
        self._censuses = Censuses(core, rpc_client, lookups)
        self._node_records: dict[Address, NodeRecord] = {}
        self._expires_at = 0
        self._issued_at = 0
        self._in_flight = asyncio.Semaphore(ANNOUNCES_IN_FLIGHT_MAX)
        self.placement = Placement()

    def __len__(self) -> int:
        return len(self._inventory)

    def __contains__(self, key: bytes) -> bool:
        return key in self._inventory

    async def offer(self, keys: Iterable[bytes], port: int) -> OfferReport:
        """Put keys and announce them; return how many nodes store each of them."""
        chosen = list(dict.fromkeys(keys))
        for start in range(0, len(chosen), _STEP):
            await asyncio.sleep(0)
            self.put(chosen[start : start + _STEP])
        report = await self.announce(port, chosen)
        for key in chosen:
            found = self._inventory.find(key)
            report.stored[key] = found.keepers_of(key) if found is not None else 0
        return report

    def put(self, keys: Iterable[bytes]) -> None:
        """Add keys to the offers; `announce` sends them."""
        for key in keys:
            if self._add(key):
                self._pending[Block.of(key, self._depth)] = None

    async def announce(
        self, port: int, keys: Sequence[bytes] | None = None
    ) -> OfferReport:
        """Announce what was put since the last time, all offers under a new port.

        With `keys` only these and what lies in their regions; the rest can wait.
        """
        moved = port != self._port and self._port > 0
        self._port = port
        if moved:
            await self.renew()
        if GROWTH_SHARE * self._core.known > self._depth_known:
            self._choose_depth()
        is_first = not self._has_announced
        if keys is None:
            pending, self._pending = self._pending, {}
        else:
            pending = dict.fromkeys(Block.of(key, self._depth) for key in keys)
            for block in pending:
                self._pending.pop(block, None)
            is_first &= not self._pending
        self._has_announced |= bool(pending)
        regions: dict[Block, None] = {}
        for block in pending:
            regions |= dict.fromkeys(self._inventory.regions(self._depth, block))
        return await self._sweep_regions(
            list(regions),
            renew=False,
            is_all=is_first,
            may_reuse=True,
        )

    def _add(self, key: bytes) -> bool:
        """Add a key; those added before it and not yet everywhere count with it."""
        if key in self._inventory:
            return False
        found = self._inventory.find(key)
        if found is not None and found.fresh_placed:
            self.placement.move(found.fresh_placed, 0, len(found.fresh))
            found.fresh_placed = 0
        self._inventory.add(key)
        self.placement.move(None, 0)
        return True

    def withdraw(self, keys: Iterable[bytes]) -> list[Block]:
        """Stop offering keys; return the regions of which their keepers must hear."""
        regions: dict[Block, None] = {}
        for key in keys:
            keepers = self._inventory.remove(key)
            if keepers is not None:
                self.placement.move(keepers, None)
                regions[Block.of(key, self._depth)] = None
        return list(regions)

    async def notify_keepers(self, regions: Iterable[Block]) -> None:
        """Send the known keepers of regions what has changed there."""
        await asyncio.gather(*(self._notify_keepers(region) for region in regions))

    def record_for(self, key: bytes, address: Address) -> ProviderRecord | None:
        """Return this node's record of a key under the IP of `address`."""
        found = self._inventory.find(key)
        if found is None or key not in self._inventory:
            return None
        now = self._core.clock.time()
        if self._expires_at <= now + PROVIDER_SECONDS / 2:
            self._begin_again(now)
        return ProviderRecord(key, self._node_record(address.host), self._sign(found))

    async def renew(self) -> None:
        """Announce all keys with a new life."""
        self._choose_depth()
        await self._sweep_regions(
            self._inventory.regions(self._depth), renew=True, is_all=True
        )

    async def republish_scarce(self) -> None:
        """Announce the regions that too few nodes store."""
        if GROWTH_SHARE * self._core.known > self._depth_known:
            self._choose_depth()
        await self._sweep_regions(self.scarce(), renew=False)

    def scarce(self) -> list[Block]:
        """Return the regions that too few nodes store, now that more are known.

        One missing keeper is not worth a lookup until the next renewal. Where the
        counts say that every key has enough of them, no slice is looked at.
        """
        grown = GROWTH_SHARE * self._core.known
        few = min(K, self._core.known) // 2
        least = self.placement.least
        has_grown = any(grown > known for known in self._known.values())
        if least >= (K if has_grown else few):
            return []
        found = []
        for region in self._inventory.regions(self._depth):
            slices = self._inventory.inside(region)
            least = min((each.least_placed for each in slices if len(each)), default=K)
            if least < few or (least < K and grown > self._known.get(region, 0)):
                found.append(region)
        return found

    async def _sweep_regions(
        self,
        regions: Sequence[Block],
        *,
        renew: bool,
        is_all: bool = False,
        may_reuse: bool = False,
    ) -> OfferReport:
        """Announce regions, in lanes side by side.

        With `may_reuse` a lookup of the last minutes is good enough.
        """
        report, core = OfferReport(), self._core
        if not may_reuse:
            self._censuses.clear()
            for region in regions:
                for family in core.families:
                    self._found.pop((region, family), None)
        began_at, now = core.clock.monotonic(), core.clock.time()
        if renew or self._expires_at <= now + PROVIDER_SECONDS / 2:
            self._begin_again(now)
        ordered = sorted(regions, key=lambda each: each.start)
        size = max(1, -(-len(ordered) // _LANES))
        async with asyncio.TaskGroup() as tasks:
            for family in sorted(core.families):
                if not any(map(self._may_name_me, core.tables[family])):
                    continue
                depth = region_depth(core.tables[family], core.node_id)
                if len(ordered) >= CENSUS_REGIONS_MIN and depth <= CENSUS_DEPTH_MAX:
                    report.requests += await self._censuses.take(family)
                for start in range(0, len(ordered), size):
                    lane = ordered[start : start + size]
                    tasks.create_task(
                        self._sweep_lane(family, lane, report, renew=renew)
                    )
        self.placement.swept(
            core.known,
            core.clock.monotonic(),
            all_since=began_at if is_all else None,
        )
        return report

    async def _sweep_lane(
        self,
        family: int,
        regions: Sequence[Block],
        report: OfferReport,
        *,
        renew: bool,
    ) -> None:
        for region in regions:
            await self._sweep_region(family, region, report, renew=renew)

    async def _sweep_region(
        self, family: int, region: Block, report: OfferReport, *, renew: bool
    ) -> None:
        """Find the keepers of a region and bring them up to date."""
        slices = self._inventory.inside(region)
        first_two = islice((one for each in slices for one in each.prefixes), 2)
        # A key's first 64 bits find its keepers as well as all of it.
        keys = [one.to_bytes(8, "big") + bytes(24) for one in first_two]
        if not keys:
            return
        self._known[region] = self._core.known
        now = self._core.clock.monotonic()
        found = self._found.get((region, family))
        if found is None or not self._is_recent(found, now):
            replies = await self._look_up(family, keys, report)
            found = _Found(replies, now, self._core.known)
            if len(keys) > 1:
                self._found[region, family] = found
        # One sweep at a time: two would each sign slices that the other takes for old.
        async with self._lock(region, family):
            await self._bring(
                region,
                found.replies,
                report,
                family=family,
                renew=renew,
            )

    def _is_recent(self, found: _Found, now: float) -> bool:
        """Whether a lookup still tells who the keepers are, and its tokens hold."""
        if now - found.at > KEEPERS_KNOWN_SECONDS:
            return False
        return GROWTH_SHARE * self._core.known <= found.known

    async def _look_up(
        self, family: int, keys: Sequence[bytes], report: OfferReport
    ) -> list[ProvenReply]:
        """Find the keepers of the region of some keys."""
        count = K if len(keys) == 1 else 2 * K
        replies: dict[Contact, ProvenReply] = {}
        if met := self._censuses.nearest(family, keys[0]):
            chosen = self._keepers_among(family, keys[0], met, count=count)
            asked = await self._with_tokens(chosen, keys[0], report)
            others = met[len(chosen) : 2 * len(chosen) - len(asked)]
            return asked + await self._with_tokens(others, keys[0], report)

        def on_reply(reply: ProvenReply) -> None:
            replies[reply.contact] = reply

        query = Query.storing(keys[0], count)
        traversal = self._lookups.start(family, query, on_reply)
        found = await traversal.run()
        report.requests += traversal.lookup.requests
        further = await self._lookups.widen(family, keys[0], found, on_reply=on_reply)
        chosen = self._keepers_among(family, keys[0], found, count=count)
        return [replies[each] for each in (*chosen, *further)]

    async def _with_tokens(
        self, chosen: Sequence[Contact], target: bytes, report: OfferReport
    ) -> list[ProvenReply]:
        """Get write tokens from keepers that are known already."""
        report.requests += len(chosen)
        found = await asyncio.gather(*(self._find(one, target) for one in chosen))
        return [reply for reply in found if reply is not None]

    def _keepers_among(
        self, family: int, key: bytes, found: Sequence[Contact], *, count: int
    ) -> list[Contact]:
        """Return the keepers of a region: all nodes in it, and up to k others.

        What was found is sorted by distance to the key, so nodes of the region come
        first. A key that is alone in its region goes to its k nearest.
        """
        depth = region_depth(self._core.tables[family], self._core.node_id)
        if count == K:
            return list(found[:K])
        target = int.from_bytes(key, "big")
        inside = sum((each.long_id ^ target) >> (256 - depth) == 0 for each in found)
        return list(found[: max(K, inside)])

    async def _bring(
        self,
        region: Block,
        replies: Sequence[ProvenReply],
        report: OfferReport,
        *,
        family: int,
        renew: bool,
    ) -> None:
        """Bring keepers of a region up to date, side by side, and count them."""
        holding = await self._holding(region)
        keepers = self._keepers.setdefault(region, {})
        before = dict(keepers)
        # What was known before still says what a keeper has, and saves sending it; but
        # only those that answer this time count as keepers.
        if renew:
            for contact in [each for each in keepers if each.address.family == family]:
                del keepers[contact]
        asked = [each for each in replies if self._may_name_me(each.contact)]
        await asyncio.gather(
            *(
                self._bring_one(
                    holding,
                    reply,
                    report,
                    has=before.get(reply.contact, NOTHING),
                    renew=renew,
                )
                for reply in asked
            )
        )
        self._count(region)
        if not any(map(len, self._inventory.inside(region))):
            self._keepers.pop(region, None)

    async def _bring_one(
        self,
        holding: Holding,
        reply: ProvenReply,
        report: OfferReport,
        *,
        has: int,
        renew: bool,
    ) -> None:
        core, contact = self._core, reply.contact
        if not core.reach.may_sign(reply.observed, contact.address):
            core.stats["refused.observed"] += 1
            return
        sender = SliceSender(
            core=core,
            rpc_client=self._rpc_client,
            in_flight=self._in_flight,
            node=self._node_record(reply.observed.host),
            empty=self._sign_empty,
        )
        has = await sender.bring(reply, holding, has, due=renew)
        report.requests += sender.requests
        keepers = self._keepers.setdefault(holding.region, {})
        if has == NOTHING:
            keepers.pop(contact, None)
        else:
            keepers[contact] = has

    async def _notify_keepers(self, region: Block) -> None:
        """Get a write token from each known keeper of a region, then send the rest."""
        target = region.start.to_bytes(4, "big") + bytes(28)
        for family in sorted(self._core.families):
            async with self._lock(region, family):
                keepers = self._keepers.get(region, {})
                known = [each for each in keepers if each.address.family == family]
                found = await asyncio.gather(
                    *(self._find(contact, target) for contact in known)
                )
                replies = [each for each in found if each is not None]
                await self._bring(
                    region, replies, OfferReport(), family=family, renew=False
                )
        self._inventory.clear_empty(region)

    async def _find(self, contact: Contact, target: bytes) -> ProvenReply | None:
        async with self._in_flight:
            return await self._rpc_client.write_token(contact, target)

    async def _holding(self, region: Block) -> Holding:
        """Return the slices of a region, signed now where they have changed."""
        slices: list[InventorySlice] = []
        for number, each in enumerate(self._inventory.inside(region)):
            if number % (_STEP // 16) == _STEP // 16 - 1:
                await asyncio.sleep(0)
            slices.append(self._sign(each))
        return Holding.of(region, slices)

    def _count(self, region: Block) -> None:
        """Count how many nodes keep each slice of a region now."""
        has = sorted(self._keepers.get(region, {}).values())
        for each in self._inventory.inside(region):
            if not each.issued_at:
                continue
            newest = len(has) - bisect_left(has, each.issued_at)
            placed = len(has) - bisect_left(has, each.counted_at or each.issued_at)
            fresh = len(each.fresh)
            self.placement.move(each.placed, placed, len(each) - fresh)
            self.placement.move(each.fresh_placed, newest, fresh)
            each.placed, each.fresh_placed = placed, newest
            if newest == placed or fresh == len(each):
                self.placement.move(placed, newest, len(each) - fresh)
                each.placed, each.counted_at = newest, each.issued_at
                each.fresh, each.fresh_placed = frozenset(), 0

    def _sign(self, each: OwnSlice) -> InventorySlice:
        """Return a slice, signed anew where its keys have changed or it gets old."""
        now = self._core.clock.time()
        if each.issued_at:
            # Not all on one day: each block has a time of its own to be signed again.
            share = (each.block.start * 2654435761 & 0xFFFFFFFF) / (1 << 32)
            age = now - each.issued_at / 1000
            if 0 <= age < (SLICE_SECONDS - 2 * SLICE_RENEW_SECONDS) * (1 + share) / 2:
                return each.signed
        issued_at = self._next_issue()
        each.sign(self._core.sign_slice(each.block, each.entries, issued_at))
        return each.signed

    def _sign_empty(self, region: Block, after: int) -> InventorySlice:
        """Return a slice that drops what a keeper has of a region up to a time."""
        self._issued_at = max(self._issued_at, after)
        return self._core.sign_slice(region, b"", self._next_issue())

    def _next_issue(self) -> int:
        """Return a time of issue in milliseconds, later than all before."""
        now = int(self._core.clock.time() * 1000)
        self._issued_at = max(self._issued_at + 1, now)
        return self._issued_at

    def _begin_again(self, now: float) -> None:
        """Start a new life of all offers: node records of a later end."""
        self._expires_at = int(now) + PROVIDER_SECONDS
        self._node_records.clear()

    def _node_record(self, host: str) -> NodeRecord:
        """Return the signed node record under an IP address."""
        address = Address(host, self._port)
        record = self._node_records.get(address)
        if record is None or record.introducers != self._core.reach.introducers:
            record = self._core.sign_node_record(address, self._expires_at)
            self._node_records[address] = record
        return record

    def _choose_depth(self) -> None:
        """Choose how wide regions are, by the densest of the networks."""
        core = self._core
        self._depth_known = core.known
        depth = max(
            (region_depth(core.tables[each], core.node_id) for each in core.families),
            default=0,
        )
        depth = max(depth, REGION_DEPTH_MIN)
        if depth != self._depth:
            self._depth = depth
            self._keepers.clear()
            self._known.clear()
            self._locks.clear()
            self._found.clear()

    def _lock(self, region: Block, family: int) -> asyncio.Lock:
        return self._locks.setdefault((region, family), asyncio.Lock())

    def _may_name_me(self, keeper: Contact) -> bool:
        """Whether a node that learns this node's address from a keeper can reach it."""
        return bool(self._core.reach.introducers) or not self._core.reach.is_read_only(
            keeper.address
        )
