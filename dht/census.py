"""A census: all nodes of a small network, each asked once for its neighbours.

Where a network is so small that a lookup for one region meets most of it, a sweep over
many regions would ask every node again for each of them, and be given the same contacts
each time: with 50 nodes that is two thirds of all bytes. So such a sweep begins with a
census, and the keepers of each region are the nearest of those that answered.

1. A short lookup in each eighth of all ids finds somebody there. Then each node that is
   heard of is asked for the contacts nearest to its own id: it knows its neighbourhood
   best. Asked for one target, all would name those near that target and no others; and
   neighbours alone lead into no block of ids that holds more than k nodes.
2. As in a lookup only nodes that answered with a proven id count, and of one group only
   two. But a lookup passes over those that are slow, and on a busy machine many are.
   Here each has the time of a request, those too that were silent a moment ago.
3. It counts for nothing where more than `CENSUS_CONTACTS` are heard of, as the network
   is not small or somebody names contacts that do not exist; nor where many contacts
   of the own table did not answer. Then each region has a lookup of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.contacts import unpack_contacts
from dht.errors import DatagramError
from dht.limits import (
    CENSUS_CONTACTS,
    GROUP_CONTACTS_PER_BUCKET_MAX,
    GROWTH_SHARE,
    KEEPERS_KNOWN_SECONDS,
    REPLY_CONTACTS_MAX,
    REQUESTS_IN_FLIGHT_MAX,
)
from dht.traversal import Query
from dht.wire import FindNode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.lookups import Lookups
    from dht.rpc_client import RpcClient

CENSUS_DEPTH_MAX: Final = 2
"""Regions are no deeper in networks that are small enough."""
MISSED_SHARE: Final = 0.1
"""Of the contacts of the own table at most this part may not have answered."""
_SEEDS: Final = 4
"""Contacts that each of the first lookups finds."""


def _seeding(eighth: int) -> Query:
    target = bytes([eighth << 5 | 1 << 4]) + bytes(31)
    return Query(target=target, body=FindNode(target), count=_SEEDS)


_SEEDING: Final = [_seeding(eighth) for eighth in range(8)]


class _Census(NamedTuple):
    """The nodes of one family; none where there are too many."""

    contacts: Sequence[Contact]
    at: float
    known: int  # contacts of all tables then


class Censuses:
    """The newest census of each address family."""

    def __init__(self, core: Core, rpc_client: RpcClient, lookups: Lookups) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._lookups = lookups
        self._newest: dict[int, _Census] = {}

    async def take(self, family: int) -> int:
        """Meet all nodes, unless that was done lately; return the requests it took."""
        core = self._core
        now = core.clock.monotonic()
        newest = self._newest.get(family)
        if newest is not None and self._is_recent(newest, now):
            return 0
        known, table = core.known, core.tables[family]
        heard = dict.fromkeys(table)
        traversals = [self._lookups.start(family, query) for query in _SEEDING]
        for found in await asyncio.gather(*(each.run() for each in traversals)):
            heard.update(dict.fromkeys(found))
        asked: set[Contact] = set()
        answered: dict[Contact, None] = {}
        slots = asyncio.Semaphore(REQUESTS_IN_FLIGHT_MAX)

        async def ask(contact: Contact) -> None:
            async with slots:
                body = FindNode(contact.node_id)
                reply = await self._rpc_client.call(contact, body)
            if reply is not None:
                answered[contact] = None
                heard.update(dict.fromkeys(self._contacts_in(reply, family)))

        while len(heard) <= CENSUS_CONTACTS:
            new = [one for one in heard if one not in asked]
            if not new:
                break
            asked.update(new)
            await asyncio.gather(*map(ask, new))
        missed = sum(one not in answered for one in table)
        if len(heard) > CENSUS_CONTACTS or missed > MISSED_SHARE * len(table):
            answered.clear()
        self._newest[family] = _Census(list(answered), now, max(known, core.known))
        return len(asked) + sum(each.lookup.requests for each in traversals)

    def _contacts_in(self, reply: ProvenReply, family: int) -> list[Contact]:
        """Return the contacts of a family in a reply that it may name."""
        try:
            named = unpack_contacts(reply.body.contacts, REPLY_CONTACTS_MAX)
        except DatagramError:
            self._core.stats["refused.contacts"] += 1
            return []
        source, own = reply.contact.address, self._core.public_key
        return [
            one
            for one in named
            if one.address.family == family
            and source.believes(one.address)
            and one.public_key != own
        ]

    def nearest(self, family: int, key: bytes) -> list[Contact]:
        """Return all nodes by distance to a key, two of a group; empty: not known."""
        newest = self._newest.get(family)
        if newest is None or not self._is_recent(newest, self._core.clock.monotonic()):
            return []
        target = int.from_bytes(key, "big")
        groups: dict[bytes, int] = {}
        found = []
        for contact in sorted(newest.contacts, key=lambda one: one.long_id ^ target):
            group = contact.address.group
            if group is not None:
                groups[group] = groups.get(group, 0) + 1
                if groups[group] > GROUP_CONTACTS_PER_BUCKET_MAX:
                    continue
            found.append(contact)
        return found

    def clear(self) -> None:
        """Forget them: the own address or the network has changed."""
        self._newest.clear()

    def _is_recent(self, census: _Census, now: float) -> bool:
        """Whether a census still tells who the nodes are."""
        if now - census.at > KEEPERS_KNOWN_SECONDS:
            return False
        return GROWTH_SHARE * self._core.known <= census.known
