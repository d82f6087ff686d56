"""The own inventory: the keys that this node offers, cut into slices.

1. The slices do not overlap, and each lists at most `SLICE_ENTRIES_MAX` keys. One that
   would list more is cut in halves. So a key that comes or goes changes one slice, and
   the same keys are cut in the same way again after a restart.
2. No slice reaches beyond a region (`depth_min`), because the nodes that keep a region
   are others than those of the next one.
3. A slice whose keys have changed has no signature (`issued_at` is 0) until it is sent.
   Times of issue are never used twice, so they also order the slices: a keeper that has
   all slices up to a time of issue lacks the later ones.
4. A slice without keys stays until its keepers have it: it withdraws the last ones.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Final

from dht.inventory import DEPTH_MAX, Block, content_id, pack_entries
from dht.limits import SLICE_ENTRIES_MAX
from dht.providers import REGION_DEPTH_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dht.inventory import InventorySlice

_SCOPES: Final = 1 << REGION_DEPTH_MIN


class OwnSlice:
    """The keys on offer in a block, in order."""

    __slots__ = (
        "block",
        "counted_at",
        "fresh",
        "fresh_placed",
        "keys",
        "placed",
        "signed",
    )

    def __init__(self, block: Block, keys: list[bytes], placed: int = 0) -> None:
        self.block = block
        self.keys = keys
        self.placed = placed
        """How many nodes keep its keys, by the last announcement."""
        self.counted_at = 0
        """When the version was issued that they have at least."""
        self.fresh: set[bytes] = set()
        """The keys that were added since."""
        self.fresh_placed = 0
        """How many nodes keep these too."""
        self.signed: InventorySlice | None = None

    @property
    def issued_at(self) -> int:
        """When it was signed, in milliseconds; 0 if its keys have changed since."""
        return 0 if self.signed is None else self.signed.issued_at

    @property
    def entries(self) -> bytes:
        """The entries of its keys."""
        return pack_entries(self.keys[:SLICE_ENTRIES_MAX], self.block.depth)

    def keepers_of(self, key: bytes) -> int:
        """Return how many nodes keep a key of it."""
        return self.fresh_placed if key in self.fresh else self.placed

    @property
    def least_placed(self) -> int:
        """How many nodes keep all of its keys."""
        return min(self.placed, self.fresh_placed) if self.fresh else self.placed


class _Scope:
    """The slices of one sixteenth of all keys, in order."""

    __slots__ = ("slices", "starts")

    def __init__(self) -> None:
        self.starts: array[int] = array("I")
        self.slices: list[OwnSlice] = []


class OwnInventory:
    """The keys on offer."""

    def __init__(self) -> None:
        self._scopes = [_Scope() for _ in range(_SCOPES)]
        self._count = 0
        self.depth_min = REGION_DEPTH_MIN

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: bytes) -> bool:
        found = self.find(key)
        return found is not None and _has(found.keys, key)

    def __iter__(self) -> Iterator[bytes]:
        for scope in self._scopes:
            for each in scope.slices:
                yield from each.keys

    def find(self, key: bytes) -> OwnSlice | None:
        """Return the slice in whose block a key lies."""
        scope = self._scopes[key[0] >> 4]
        place = bisect_right(scope.starts, int.from_bytes(key[:4], "big")) - 1
        if place >= 0 and scope.slices[place].block.has(key):
            return scope.slices[place]
        return None

    def add(self, key: bytes) -> bool:
        """Offer a key; False if it is on offer already."""
        found = self.find(key)
        if found is None:
            found = OwnSlice(self._block_for(key), [])
            self._insert(found)
        elif _has(found.keys, key):
            return False
        insort(found.keys, key)
        if len(found.keys) == 1:
            found.placed = 0
        found.fresh.add(key)
        found.signed = None
        self._count += 1
        if len(found.keys) > SLICE_ENTRIES_MAX and found.block.depth < DEPTH_MAX:
            self._cut(found)
        return True

    def remove(self, key: bytes) -> int | None:
        """Offer a key no more; return how many keepers it had, None if not offered."""
        found = self.find(key)
        if found is None or not _has(found.keys, key):
            return None
        keepers = found.keepers_of(key)
        del found.keys[bisect_left(found.keys, key)]
        found.fresh.discard(key)
        found.signed = None
        self._count -= 1
        return keepers

    def inside(self, region: Block) -> list[OwnSlice]:
        """Return the slices of a region, in order."""
        scope = self._scopes[region.start >> DEPTH_MAX - REGION_DEPTH_MIN]
        low = bisect_left(scope.starts, region.start)
        high = bisect_right(scope.starts, region.end - 1)
        return scope.slices[low:high]

    def regions(self, depth: int) -> list[Block]:
        """Return the regions of a depth in which there are slices; cut those first."""
        self.depth_min = depth
        found: dict[Block, None] = {}
        for scope in self._scopes:
            for each in [one for one in scope.slices if one.block.depth < depth]:
                self._cut(each)
            for start in scope.starts:
                found[Block.of(start.to_bytes(4, "big"), depth)] = None
        return list(found)

    def content_of(self, region: Block) -> int:
        """Return what a keeper of the region has, as `Announced.content` says it."""
        content = 0
        for each in self.inside(region):
            if each.keys:
                content ^= content_id(each.block, each.entries)
        return content

    def clear_empty(self, region: Block) -> None:
        """Forget the slices of a region that list nothing."""
        for each in self.inside(region):
            if not each.keys:
                self._discard(each)

    def _block_for(self, key: bytes) -> Block:
        """Return the widest block around a key that overlaps no slice."""
        scope = self._scopes[key[0] >> 4]
        head = int.from_bytes(key[:4], "big")
        place = bisect_right(scope.starts, head)
        depth = self.depth_min
        for start in scope.starts[max(place - 1, 0) : place + 1]:
            common = DEPTH_MAX - (start ^ head).bit_length()
            depth = max(depth, common + 1)
        return Block.of(key, min(depth, DEPTH_MAX))

    def _cut(self, found: OwnSlice) -> None:
        """Replace a slice by its halves, until none lists too much or is too wide."""
        self._discard(found)
        depth = found.block.depth + 1
        halves: dict[Block, list[bytes]] = {}
        for key in found.keys:
            halves.setdefault(Block.of(key, depth), []).append(key)
        for block, keys in halves.items():
            half = OwnSlice(block, keys, found.placed)
            half.counted_at = found.counted_at
            half.fresh_placed = found.fresh_placed
            if found.fresh:
                half.fresh = found.fresh.intersection(keys)
            self._insert(half)
            too_many = len(keys) > SLICE_ENTRIES_MAX and depth < DEPTH_MAX
            if too_many or depth < self.depth_min:
                self._cut(half)

    def _insert(self, each: OwnSlice) -> None:
        scope = self._scopes[each.block.start >> DEPTH_MAX - REGION_DEPTH_MIN]
        place = bisect_left(scope.starts, each.block.start)
        scope.starts.insert(place, each.block.start)
        scope.slices.insert(place, each)

    def _discard(self, each: OwnSlice) -> None:
        scope = self._scopes[each.block.start >> DEPTH_MAX - REGION_DEPTH_MIN]
        place = bisect_left(scope.starts, each.block.start)
        del scope.starts[place], scope.slices[place]


def _has(keys: list[bytes], key: bytes) -> bool:
    place = bisect_left(keys, key)
    return place < len(keys) and keys[place] == key
