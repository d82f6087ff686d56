"""A census: all nodes of a small network, met by one lookup.

Where a network is so small that a lookup for one region meets most of it, a sweep over
many regions would ask every node again for each of them, and be given the same contacts
each time: with 50 nodes that is two thirds of all bytes. So such a sweep begins with
one lookup for more nodes than there are. Where it ends with fewer than it looked for,
it has met them all, and the keepers of each region are the nearest of those.

It is the same rule as in a lookup: only nodes that answered with a proven id count, and
of one group only two. But a lookup passes over those that are slow, and on a busy
machine many are: keepers chosen from the others would be the wrong ones. So those that
were passed over are asked once more, with the patience of a single request, and a
census that lacks many contacts of the own table counts for nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.limits import (
    CENSUS_CONTACTS,
    GROUP_CONTACTS_PER_BUCKET_MAX,
    GROWTH_SHARE,
    KEEPERS_KNOWN_SECONDS,
)
from dht.traversal import Query

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
        answered: set[Contact] = set()

        def on_reply(reply: ProvenReply) -> None:
            answered.add(reply.contact)

        query = Query.storing(core.node_id, CENSUS_CONTACTS)
        traversal = self._lookups.start(family, query, on_reply)
        known = core.known
        await traversal.run()
        table = core.tables[family]
        # Of the table also those that were silent a moment ago, which nobody asked.
        heard = dict.fromkeys(one.contact for one in traversal.lookup.candidates)
        heard |= dict.fromkeys(table)
        late = [one for one in heard if one not in answered]
        if len(heard) <= CENSUS_CONTACTS:
            calls = (self._rpc_client.write_token(one, core.node_id) for one in late)
            replies = await asyncio.gather(*calls)
            answered.update(one.contact for one in replies if one is not None)
        missed = sum(one not in answered for one in table)
        if len(heard) > CENSUS_CONTACTS or missed > MISSED_SHARE * len(table):
            answered.clear()
        self._newest[family] = _Census(list(answered), now, max(known, core.known))
        return traversal.lookup.requests + len(late)

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
