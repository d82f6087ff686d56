"""Offers: the keys this node provides, announced in sweeps and kept renewed.

A sweep takes the keys in order. One lookup serves all keys of the same
neighbourhood: it finds more contacts than a single key needs, and each key goes to
the nearest of them, several keys in one datagram.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dht.addresses import Address
from dht.eclipse_guard import widened
from dht.limits import (
    ANNOUNCE_ENTRIES_MAX,
    GROWN_FROM,
    PROVIDER_SECONDS,
    REQUESTS_IN_FLIGHT_MAX,
    STORE_PATHS,
    STORE_PATIENCE,
    K,
)
from dht.providers import ProviderRecord
from dht.tokens import write_scope
from dht.traversal import Traversal
from dht.wire import Announce, FindNode, Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Answer
    from dht.rpc_client import RpcClient

_SLICES: Final = 8  # parts of a sweep that run side by side
_GROUP_KEYS_MAX: Final = 256  # keys that share a lookup


@dataclass(slots=True)
class OfferReport:
    """How many nodes store each key now, and the requests that it took."""

    stored: dict[bytes, int] = field(default_factory=dict)
    requests: int = 0


class Offer:
    """One key on offer."""

    __slots__ = ("expires_at", "keepers", "known", "port", "records")

    def __init__(self, port: int) -> None:
        self.port = port
        self.expires_at = 0
        self.keepers: set[Contact] = set()  # since the last renewal
        self.known = 0  # contacts in the tables when it was announced last
        self.records: dict[Address, ProviderRecord] = {}


class Announcer:
    """Announces keys and knows which ones need it again."""

    def __init__(
        self, core: Core, asking: RpcClient, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._core = core
        self._asking = asking
        self._loop = loop
        self._offers: dict[bytes, Offer] = {}
        self._in_flight = asyncio.Semaphore(REQUESTS_IN_FLIGHT_MAX)

    def __len__(self) -> int:
        return len(self._offers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._offers

    def put(self, keys: Iterable[bytes], port: int) -> list[bytes]:
        """Note keys as offered, and return them without repeats."""
        chosen = sorted(set(keys))
        for key in chosen:
            offer = self._offers.get(key)
            if offer is None or offer.port != port:
                self._offers[key] = Offer(port)
        return chosen

    def withdraw(self, keys: Iterable[bytes]) -> dict[bytes, Offer]:
        """Stop offering keys; returns what is to be told to their keepers."""
        chosen = sorted(set(keys) & self._offers.keys())
        return {key: self._offers.pop(key) for key in chosen}

    async def tell_withdrawn(self, withdrawn: dict[bytes, Offer]) -> None:
        """Send the keepers of withdrawn keys a record of each that ends now.

        A keeper that does not hear of it drops the record when it ends by itself.
        """
        told: dict[tuple[Contact, bytes, int], list[bytes]] = {}
        for key, offer in withdrawn.items():
            for keeper in offer.keepers:
                place = (keeper, write_scope(key), offer.port)
                told.setdefault(place, []).append(key)
        await asyncio.gather(
            *(
                self._tell_withdrawn(keeper, port, keys)
                for (keeper, _, port), keys in sorted(
                    told.items(), key=lambda each: each[0][0].node_id
                )
            )
        )

    async def _tell_withdrawn(
        self, keeper: Contact, port: int, keys: Sequence[bytes]
    ) -> None:
        """Ask one keeper for leave to write, then end records of one scope there."""
        core = self._core
        async with self._in_flight:
            leave = await self._asking.call(keeper, FindNode(keys[0]))
            if leave is None:
                return
            address = Address(leave.observed.host, port)
            now = core.clock.time()
            for start in range(0, len(keys), ANNOUNCE_ENTRIES_MAX):
                entries = [
                    ProviderRecord.sign(
                        core.signer, core.network.tag, key, address, now
                    ).entry
                    for key in keys[start : start + ANNOUNCE_ENTRIES_MAX]
                    if key not in self._offers
                ]
                if entries:
                    body = Announce(leave.body.write_token, port, entries)
                    await self._asking.call(keeper, body)

    def keys(self) -> list[bytes]:
        """Return all keys on offer."""
        return list(self._offers)

    def wanting(self) -> list[bytes]:
        """Return the keys that too few nodes store, now that more are known.

        One keeper that is missing is not worth a lookup until the next renewal.
        """
        known = GROWN_FROM * self._core.known
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
        now = self._core.clock.time()
        for key in wanted:
            offer = self._offers[key]
            offer.known = self._core.known
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
        for key in wanted:
            offered = self._offers.get(key)
            report.stored[key] = len(offered.keepers) if offered else 0
        return report

    def _begin_again(self, offer: Offer, now: float) -> None:
        """Start a new life of an offer: records of a later end, stored by nobody."""
        offer.expires_at = int(now) + PROVIDER_SECONDS
        offer.keepers.clear()
        offer.records.clear()

    async def _sweep_slice(
        self, family: int, keys: Sequence[bytes], report: OfferReport
    ) -> None:
        """Announce sorted keys, those of a neighbourhood together."""
        position = 0
        while position < len(keys):
            first = keys[position]
            alone = position + 1 == len(keys) or not self._are_near(
                family, first, keys[position + 1]
            )
            answers: dict[Contact, Answer] = {}

            def answered(answer: Answer, seen: dict[Contact, Answer] = answers) -> None:
                seen[answer.contact] = answer

            count = K if alone else 2 * K
            walk = Traversal(
                self._core,
                self._asking,
                self._loop,
                family,
                FindNode(first),
                first,
                count=count,
                paths=STORE_PATHS,
                patience=STORE_PATIENCE,
                on_answer=answered,
            )
            found = await walk.run()
            report.requests += walk.lookup.requests
            further = await widened(
                self._core, self._asking, self._loop, family, first, found, answered
            )
            group = [first] if further else _group(keys, position, found, count)
            width = K + len(further)
            await self._announce(group, [*found, *further], answers, report, width)
            position += len(group)

    def _are_near(self, family: int, first: bytes, second: bytes) -> bool:
        """Whether two keys probably share most of their k nearest nodes.

        The density of nodes is read off this node's own neighbourhood.
        """
        if write_scope(first) != write_scope(second):
            return False
        table = self._core.tables[family]
        own = int.from_bytes(self._core.node_id, "big")
        near = table.nearest(own, K)
        if len(near) < K:
            return True
        apart = int.from_bytes(first, "big") ^ int.from_bytes(second, "big")
        return apart < (near[K // 2].long_id ^ own)

    async def _announce(
        self,
        keys: Sequence[bytes],
        found: Sequence[Contact],
        answers: dict[Contact, Answer],
        report: OfferReport,
        width: int,
    ) -> None:
        """Send each key to its `width` nearest contacts, many keys in one datagram."""
        of_keeper: dict[tuple[Contact, int], list[bytes]] = {}
        for key in keys:
            offer = self._offers.get(key)
            if offer is None:
                continue  # withdrawn meanwhile
            target = int.from_bytes(key, "big")
            nearest = heapq.nsmallest(width, found, key=lambda c: c.long_id ^ target)
            for contact in nearest:
                if contact not in offer.keepers and self._may_name_me(contact):
                    of_keeper.setdefault((contact, offer.port), []).append(key)
        await asyncio.gather(
            *(
                self._announce_all(port, mine, answers[contact], report)
                for (contact, port), mine in of_keeper.items()
            )
        )

    def _may_name_me(self, keeper: Contact) -> bool:
        """Whether those whom a keeper tells of this node could reach it."""
        return not self._core.reach.is_read_only(keeper.address)

    async def _announce_all(
        self, port: int, keys: Sequence[bytes], answer: Answer, report: OfferReport
    ) -> None:
        """Announce keys to one contact, one datagram after the other.

        It verifies a signature for each key: more at a time would only make it late.
        """
        for start in range(0, len(keys), ANNOUNCE_ENTRIES_MAX):
            part = keys[start : start + ANNOUNCE_ENTRIES_MAX]
            async with self._in_flight:
                report.requests += 1
                await self._announce_to(port, part, answer)

    async def _announce_to(
        self, port: int, keys: Sequence[bytes], answer: Answer
    ) -> None:
        """Announce some keys to one contact and note which of them it stores."""
        contact = answer.contact
        offers = [(key, self._offers.get(key)) for key in keys]
        present = [(key, offer) for key, offer in offers if offer is not None]
        host = answer.observed.host
        entries = [self._record(key, offer, host).entry for key, offer in present]
        if not entries:
            return
        body = Announce(answer.body.write_token, port, entries)
        stored = await self._asking.call(contact, body)
        if stored is None:
            return
        for (_, offer), status in zip(present, stored.body.statuses, strict=False):
            if status == Stored.STORED:
                offer.keepers.add(contact)

    def _record(self, key: bytes, offer: Offer, host: str) -> ProviderRecord:
        """Return the signed record of an offer under an IP address."""
        address = Address(host, offer.port)
        record = offer.records.get(address)
        if record is None:
            core = self._core
            record = ProviderRecord.sign(
                core.signer, core.network.tag, key, address, offer.expires_at
            )
            offer.records[address] = record
        return record


def _group(
    keys: Sequence[bytes], position: int, found: Sequence[Contact], count: int
) -> list[bytes]:
    """Return the keys from `position` on that the found contacts serve.

    All of them lie in the block of ids that holds about half of the k nearest, so
    their own nearest nodes are among what was found; where the lookup found the
    whole network, every key is served. A write token covers one scope.
    """
    first = keys[position]
    scope = write_scope(first)
    target = int.from_bytes(first, "big")
    block = 1 << 256
    if len(found) >= count:
        if count == K:
            return [first]
        block = 1 << ((found[K // 2].long_id ^ target).bit_length() - 1)
    group = []
    for key in keys[position : position + _GROUP_KEYS_MAX]:
        apart = int.from_bytes(key, "big") ^ target
        if apart >= block or write_scope(key) != scope:
            break
        group.append(key)
    return group
