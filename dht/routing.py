"""The routing table: the contacts of this node, nearest first.

The buckets are those of the `kademlia` package, whose table is made for 160-bit ids
and a running event loop. Here ids have 256 bits, only the bucket that holds the own
id is split (Kademlia paper, section 2.4), neighbours are exact, nothing is pinged:
a full bucket names the contact that ought to be, and the caller decides. Only
contacts that proved their id are added.
"""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from dht.limits import (
    CONTACT_FAILURES_MAX,
    CONTACT_STALE_SECONDS,
    GROUP_CONTACTS_PER_BUCKET_MAX,
    GROUP_CONTACTS_PER_FAR_BUCKET_MAX,
    GROUP_CONTACTS_PER_TABLE_MAX,
    REPLACEMENTS_PER_BUCKET_MAX,
    SLICE_BITS,
    SLICE_CONTACTS_MAX,
    K,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dht.contacts import Contact

ID_BITS: Final = 256


class Bucket(KBucket):  # type: ignore[misc]  # the package is untyped
    """A bucket that knows when a lookup last went through it."""

    def __init__(self, lower: int, upper: int, refreshed_at: float) -> None:
        super().__init__(lower, upper, K)
        self.max_replacement_nodes = REPLACEMENTS_PER_BUCKET_MAX
        self.refreshed_at = refreshed_at

    def touch_last_updated(self) -> None:
        """Do nothing: the time of a refresh is an argument, never read from a clock."""

    def split(self) -> tuple[Bucket, Bucket]:
        """Return the two halves, with the contacts shared out."""
        middle = (self.range[0] + self.range[1]) // 2
        one = Bucket(self.range[0], middle, self.refreshed_at)
        two = Bucket(middle + 1, self.range[1], self.refreshed_at)
        for contact in [*self.nodes.values(), *self.replacement_nodes.values()]:
            (one if contact.long_id <= middle else two).add_node(contact)
        return one, two

    def members(self) -> Iterator[Contact]:
        """Yield contacts and replacements."""
        yield from self.nodes.values()
        yield from self.replacement_nodes.values()


class ContactHistory:
    """How a contact has behaved."""

    __slots__ = ("failures", "first_seen", "last_seen", "rtt_seconds")

    def __init__(self, now: float) -> None:
        self.first_seen = now
        self.last_seen = now
        self.failures = 0
        self.rtt_seconds: float | None = None


class Table(RoutingTable):  # type: ignore[misc]  # the package is untyped
    """The contacts of one address family. Times are in monotonic seconds."""

    def __init__(self, own_id: bytes, now: float) -> None:
        self._created_at = now
        self._groups: Counter[bytes] = Counter()
        self._status: dict[bytes, ContactHistory] = {}
        self._failing: set[bytes] = set()  # ids that did not answer last time
        self.buckets: list[Bucket]
        super().__init__(None, K, Node(own_id))

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    def __contains__(self, contact: Contact) -> bool:
        return _is_same(self._bucket(contact.long_id).nodes, contact)

    def __iter__(self) -> Iterator[Contact]:
        for bucket in self.buckets:
            yield from bucket.nodes.values()

    def flush(self) -> None:
        """Forget all contacts."""
        self.buckets = [Bucket(0, (1 << ID_BITS) - 1, self._created_at)]
        self._groups.clear()
        self._status.clear()
        self._failing.clear()

    def get_bucket_for(self, node: Any) -> int:
        """Return the index of the bucket whose range holds a contact."""
        return self._index(node.long_id)

    def get(self, node_id: bytes) -> Contact | None:
        """Return the contact of an id, if it is in the table."""
        contact: Contact | None = self._bucket(int.from_bytes(node_id, "big"))[node_id]
        return contact

    def status(self, contact: Contact) -> ContactHistory | None:
        """Return how a contact has behaved, if anything is known of it."""
        return self._status.get(contact.node_id)

    def wants(self, contact: Contact, now: float) -> bool:
        """Whether the contact would enter the table if it proved its id."""
        if contact.node_id == self.node.id:
            return False
        bucket = self._bucket(contact.long_id)
        known = bucket.nodes.get(contact.node_id)
        if known is not None:
            return bool(known != contact)
        if len(bucket) >= K and not bucket.has_in_range(self.node):
            if len(bucket.replacement_nodes) >= REPLACEMENTS_PER_BUCKET_MAX:
                return False
            if self._questionable(bucket, now) is None:
                return False
        return self._is_diverse(bucket, contact)

    def add(self, contact: Contact, now: float) -> Contact | None:
        """Add a contact that has just proved its id.

        Returns a contact of the same bucket that should be pinged, because the
        bucket is full and that one has not been heard of for long.
        """
        if contact.node_id == self.node.id:
            return None
        known = self.get(contact.node_id)
        if known is not None and known != contact:
            self.remove(known)  # the key has moved to another address
            known = None
        if known is None and not self._enter(contact):
            return self._questionable(self._bucket(contact.long_id), now)
        self.heard(contact, now)
        return None

    def _enter(self, contact: Contact) -> bool:
        """Put a new contact into its bucket; False if it only is a replacement."""
        while True:
            index = self.get_bucket_for(contact)
            bucket = self.buckets[index]
            if contact.node_id in bucket.replacement_nodes:
                return False
            if not self._is_diverse(bucket, contact):
                return False
            if len(bucket) < K or not bucket.has_in_range(self.node):
                break
            self.split_bucket(index)
        fallen = None
        if len(bucket) >= K and len(bucket.replacement_nodes) >= (
            bucket.max_replacement_nodes
        ):
            fallen = next(iter(bucket.replacement_nodes.values()))
        added = bool(bucket.add_node(contact))
        self._count(contact, 1)
        if fallen is not None:
            self._count(fallen, -1)
        return added

    def heard(self, contact: Contact, now: float, rtt: float | None = None) -> bool:
        """Record that a contact has answered or asked; False if it is not tabled."""
        bucket = self._bucket(contact.long_id)
        if not _is_same(bucket.nodes, contact):
            return False
        bucket.nodes.move_to_end(contact.node_id)
        status = self._status.get(contact.node_id)
        if status is None:
            status = self._status[contact.node_id] = ContactHistory(now)
        status.last_seen = now
        if status.failures:
            status.failures = 0
            self._failing.discard(contact.node_id)
        if rtt is not None:
            old = status.rtt_seconds
            status.rtt_seconds = rtt if old is None else 0.75 * old + 0.25 * rtt
        return True

    def failed(self, contact: Contact, now: float) -> None:
        """Record that a contact did not answer; the second time it leaves."""
        bucket = self._bucket(contact.long_id)
        if not _is_same(bucket.nodes, contact):
            if _is_same(bucket.replacement_nodes, contact):
                self.remove(contact)
            return
        status = self._status.setdefault(contact.node_id, ContactHistory(now))
        status.failures += 1
        self._failing.add(contact.node_id)
        if status.failures >= CONTACT_FAILURES_MAX:
            self.remove(contact)

    def remove(self, contact: Contact) -> None:
        """Take a contact out; the newest replacement moves up."""
        bucket = self._bucket(contact.long_id)
        node_id = contact.node_id
        known = bucket.nodes.get(node_id) or bucket.replacement_nodes.get(node_id)
        if known == contact:
            bucket.remove_node(contact)
            self._count(contact, -1)
            self._status.pop(node_id, None)
            self._failing.discard(node_id)

    def nearest(
        self, target: int, count: int, exclude: bytes | None = None
    ) -> list[Contact]:
        """Return the contacts nearest to a target, exactly, nearest first.

        Those that failed to answer come only where there are not enough others.
        """

        # Buckets are aligned blocks of ids, so the XOR distances of two buckets do
        # not overlap: whole buckets are taken in the order of their least distance.
        def least(bucket: Bucket) -> int:
            lower, upper = bucket.range
            return int((lower ^ target) & ~(upper - lower))

        found: list[Contact] = []
        doubtful: list[Contact] = []
        failing = self._failing
        for bucket in sorted(self.buckets, key=least):
            inside = bucket.nodes.values()
            if failing:
                doubtful += [each for each in inside if each.node_id in failing]
                inside = [each for each in inside if each.node_id not in failing]
            if exclude in bucket.nodes:
                inside = [each for each in inside if each.node_id != exclude]
            found += sorted(inside, key=lambda c: c.long_id ^ target)
            if len(found) >= count:
                return found[:count]
        doubtful = [each for each in doubtful if each.node_id != exclude]
        missing = count - len(found)
        found += heapq.nsmallest(missing, doubtful, key=lambda c: c.long_id ^ target)
        return sorted(found, key=lambda c: c.long_id ^ target)

    def touch(self, target: int, now: float) -> None:
        """Record that a lookup went through the bucket of a target."""
        self._bucket(target).refreshed_at = now

    def stale_buckets(self, now: float, age_seconds: float) -> list[Bucket]:
        """Return the buckets through which no lookup went for that long."""
        return [b for b in self.buckets if now - b.refreshed_at >= age_seconds]

    def _bucket(self, long_id: int) -> Bucket:
        return self.buckets[self._index(long_id)]

    def _index(self, long_id: int) -> int:
        """Return the place of the bucket whose range holds an id."""
        buckets = self.buckets
        low, high = 0, len(buckets) - 1
        while low < high:
            middle = (low + high) // 2
            if buckets[middle].range[1] < long_id:
                low = middle + 1
            else:
                high = middle
        return low

    def _is_diverse(self, bucket: Bucket, contact: Contact) -> bool:
        """Whether one more contact like this is allowed, replacements counted.

        Public contacts of one group are few, and so are those whose ids crowd in one
        slice of the bucket: honest ids are spread evenly, ids ground for a key are not.
        """
        group = contact.address.group
        if group is None:
            return True
        if not self._is_spread(bucket, contact):
            return False
        in_table = self._groups[group]
        if in_table == 0:
            return True
        if in_table >= GROUP_CONTACTS_PER_TABLE_MAX:
            return False
        if not bucket.has_in_range(self.node):
            most = GROUP_CONTACTS_PER_FAR_BUCKET_MAX
        else:
            most = GROUP_CONTACTS_PER_BUCKET_MAX
        same = sum(1 for other in bucket.members() if other.address.group == group)
        return same < most

    def _is_spread(self, bucket: Bucket, contact: Contact) -> bool:
        """Whether the contact's slice of the bucket has room.

        The bucket of the own id is exempt: it is split where it is full.
        """
        if len(bucket) < SLICE_CONTACTS_MAX or bucket.has_in_range(self.node):
            return True
        lower, upper = bucket.range
        bits = (upper - lower).bit_length() - SLICE_BITS
        if bits <= 0:
            return True
        wanted = contact.long_id >> bits
        same = sum(1 for other in bucket.members() if other.long_id >> bits == wanted)
        return same < SLICE_CONTACTS_MAX

    def _count(self, contact: Contact, change: int) -> None:
        group = contact.address.group
        if group is None:
            return
        self._groups[group] += change
        if self._groups[group] <= 0:
            del self._groups[group]

    def _questionable(self, bucket: Bucket, now: float) -> Contact | None:
        """Return the bucket's least recently seen contact if that is long ago."""
        oldest: Contact | None = next(iter(bucket.nodes.values()), None)
        if oldest is None:
            return None
        status = self._status.get(oldest.node_id)
        last_seen = self._created_at if status is None else status.last_seen
        return oldest if now - last_seen >= CONTACT_STALE_SECONDS else None


def _is_same(nodes: Mapping[bytes, Contact], contact: Contact) -> bool:
    """Whether nodes by id hold just this contact; as good as `==`, and quicker."""
    known = nodes.get(contact.node_id)
    return known is not None and known.packed == contact.packed
