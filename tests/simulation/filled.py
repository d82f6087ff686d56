"""Networks that need not grow: tables filled from the sorted list of all ids.

Each node gets what a perfect join would have given it: all of its neighbourhood and
up to k random contacts of each bucket farther away. Nothing is sent.
"""

from __future__ import annotations

import bisect
import random
from typing import TYPE_CHECKING

from dht.limits import K
from dht.routing import ID_BITS, Bucket

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dht import Contact, Dht
    from dht.routing import Table
    from tests.simulation.swarm import Swarm


class Ids:
    """Contacts sorted by id, for exact answers about who is nearest."""

    def __init__(self, contacts: Iterable[Contact]) -> None:
        self.contacts = sorted(contacts, key=lambda contact: contact.long_id)
        self._ids = [contact.long_id for contact in self.contacts]

    def nearest(self, target: int, count: int = K) -> list[Contact]:
        """Return the contacts nearest to a target, nearest first.

        The smallest aligned block of ids around it that holds enough is sorted.
        """
        low, high = 0, ID_BITS
        while low < high:
            bits = (low + high) // 2
            start, end = self.block(target, bits)
            if end - start >= count:
                high = bits
            else:
                low = bits + 1
        start, end = self.block(target, low)
        inside = self.contacts[start:end]
        inside.sort(key=lambda contact: contact.long_id ^ target)
        return inside[:count]

    def block(self, target: int, bits: int) -> tuple[int, int]:
        """Return the places of the ids that differ in the lowest bits only."""
        first = target >> bits << bits
        last = first | ((1 << bits) - 1)
        start = bisect.bisect_left(self._ids, first)
        return start, bisect.bisect_right(self._ids, last, start)

    def between(self, first: int, last: int) -> tuple[int, int]:
        """Return the places of the ids from `first` to `last`."""
        start = bisect.bisect_left(self._ids, first)
        return start, bisect.bisect_right(self._ids, last, start)


def fill(swarm: Swarm, nodes: Sequence[Dht], seed: int) -> Ids:
    """Fill the tables of all nodes and return all contacts by id."""
    ids = Ids(swarm.shared_contact(node) for node in nodes)
    rng = random.Random(f"fill {seed}")
    for node in nodes:
        # What nodes would remember of the past, they begin without.
        fill_table(node._core.tables[4], node.node_id, ids, rng)
    return ids


def fill_table(table: Table, node_id: bytes, ids: Ids, rng: random.Random) -> None:
    """Fill one table: the range is halved towards the own id until it fits."""
    own = int.from_bytes(node_id, "big")
    first, last = 0, (1 << ID_BITS) - 1
    left: list[Bucket] = []
    right: list[Bucket] = []
    while True:
        start, end = ids.between(first, last)
        if end - start <= K + 1:
            break
        middle = (first + last) // 2
        if own <= middle:
            right.append(_bucket(middle + 1, last, own, ids, rng))
            last = middle
        else:
            left.append(_bucket(first, middle, own, ids, rng))
            first = middle + 1
    nearest = _bucket(first, last, own, ids, rng)
    table.buckets = [*left, nearest, *reversed(right)]


def _bucket(first: int, last: int, own: int, ids: Ids, rng: random.Random) -> Bucket:
    """Return a bucket with up to k random contacts of its range."""
    bucket = Bucket(first, last, 0.0)
    start, end = ids.between(first, last)
    places = range(start, end)
    for place in rng.sample(places, min(K + 1, len(places))):
        contact = ids.contacts[place]
        if contact.long_id != own and len(bucket.nodes) < K:
            bucket.nodes[contact.node_id] = contact
    return bucket
