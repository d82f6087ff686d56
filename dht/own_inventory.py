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
5. Of a key only the first 64 bits are kept, its prefix: slices say no more of it. So a
   key costs 8 bytes, and 20 with its share of the slice. Two keys with one prefix are
   one, which no honest content of less than 2^32 files meets.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING, Final

from dht.inventory import (
    DEPTH_MAX,
    Block,
    InventorySlice,
    content_id,
    pack_prefixes,
    prefix_of,
)
from dht.limits import SLICE_ENTRIES_MAX
from dht.providers import REGION_DEPTH_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCOPES: Final = 1 << REGION_DEPTH_MIN


class OwnSlice:
    """The keys on offer in a block, by their prefixes, in order."""

    __slots__ = (
        "block",
        "counted_at",
        "fresh",
        "fresh_placed",
        "issued_at",
        "placed",
        "prefixes",
        "signature",
    )

    def __init__(self, block: Block, prefixes: array[int], placed: int = 0) -> None:
        self.block = block
        self.prefixes = prefixes
        self.placed = placed
        """How many nodes keep its keys, by the last announcement."""
        self.counted_at = 0
        """When the version was issued that they have at least."""
        self.fresh: frozenset[int] = frozenset()
        """The prefixes of keys that were added since."""
        self.fresh_placed = 0
        """How many nodes keep these too."""
        self.issued_at = 0
        """When it was signed, in milliseconds; 0 if its keys have changed since."""
        self.signature = b""

    def __len__(self) -> int:
        return len(self.prefixes)

    @property
    def entries(self) -> bytes:
        """The entries of its keys."""
        return pack_prefixes(self.prefixes[:SLICE_ENTRIES_MAX], self.block.depth)

    @property
    def signed(self) -> InventorySlice:
        """The slice as it was signed."""
        return InventorySlice(self.block, self.issued_at, self.entries, self.signature)

    def sign(self, signed: InventorySlice) -> None:
        """Keep the signature of the slice as it is."""
        self.issued_at, self.signature = signed.issued_at, signed.signature

    def change(self) -> None:
        """Drop the signature, as other keys are on offer now."""
        self.issued_at, self.signature = 0, b""

    def has(self, prefix: int) -> bool:
        """Whether a key with this prefix is on offer."""
        place = bisect_left(self.prefixes, prefix)
        return place < len(self.prefixes) and self.prefixes[place] == prefix

    def keepers_of(self, key: bytes) -> int:
        """Return how many nodes keep a key of it."""
        return self.fresh_placed if prefix_of(key) in self.fresh else self.placed

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
        return found is not None and found.has(prefix_of(key))

    def __iter__(self) -> Iterator[int]:
        """Yield the prefixes of all keys, in order."""
        for scope in self._scopes:
            for each in scope.slices:
                yield from each.prefixes

    def find(self, key: bytes) -> OwnSlice | None:
        """Return the slice in whose block a key lies."""
        scope = self._scopes[key[0] >> 4]
        place = bisect_right(scope.starts, int.from_bytes(key[:4], "big")) - 1
        if place >= 0 and scope.slices[place].block.has(key):
            return scope.slices[place]
        return None

    def add(self, key: bytes) -> bool:
        """Offer a key; False if it is on offer already."""
        found, prefix = self.find(key), prefix_of(key)
        if found is None:
            found = OwnSlice(self._block_for(key), array("Q"))
            self._insert(found)
        elif found.has(prefix):
            return False
        insort(found.prefixes, prefix)
        if len(found) == 1:
            found.placed = 0
        if found.placed or found.fresh:
            found.fresh |= {prefix}
        else:
            found.counted_at = 0  # no key of it is kept anywhere: all count alike
        found.change()
        self._count += 1
        if len(found) > SLICE_ENTRIES_MAX and found.block.depth < DEPTH_MAX:
            self._cut(found)
        return True

    def remove(self, key: bytes) -> int | None:
        """Offer a key no more; return how many keepers it had, None if not offered."""
        found, prefix = self.find(key), prefix_of(key)
        if found is None or not found.has(prefix):
            return None
        keepers = found.keepers_of(key)
        del found.prefixes[bisect_left(found.prefixes, prefix)]
        found.fresh -= {prefix}
        found.change()
        self._count -= 1
        return keepers

    def inside(self, region: Block) -> list[OwnSlice]:
        """Return the slices of a region, in order."""
        scope = self._scopes[region.start >> DEPTH_MAX - REGION_DEPTH_MIN]
        low = bisect_left(scope.starts, region.start)
        high = bisect_right(scope.starts, region.end - 1)
        return scope.slices[low:high]

    def deepen(self, depth: int) -> None:
        """Cut all slices that reach beyond a region of a depth."""
        before, self.depth_min = self.depth_min, depth
        if depth > before:
            for scope in self._scopes:
                for each in [one for one in scope.slices if one.block.depth < depth]:
                    self._cut(each)

    def regions(self, depth: int, within: Block | None = None) -> list[Block]:
        """Return the regions of a depth in which there are slices; cut those first.

        With `within` only those that lie in a block, or around it.
        """
        self.deepen(depth)
        if within is not None and within.depth >= depth:
            return [Block.around(within.start, depth)] if self.inside(within) else []
        found: dict[Block, None] = {}
        if within is not None:
            for each in self.inside(within):
                found[Block.around(each.block.start, depth)] = None
        else:
            for scope in self._scopes:
                for start in scope.starts:
                    found[Block.around(start, depth)] = None
        return list(found)

    def content_of(self, region: Block) -> int:
        """Return what a keeper of the region has, as `Announced.content` says it."""
        content = 0
        for each in self.inside(region):
            if each.prefixes:
                content ^= content_id(each.block, each.entries)
        return content

    def clear_empty(self, region: Block) -> None:
        """Forget the slices of a region that list nothing."""
        for each in self.inside(region):
            if not each.prefixes:
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
        # In order, so the first key of the upper half divides them.
        block = Block.around(found.block.start, depth)
        middle = bisect_left(found.prefixes, block.end << DEPTH_MAX)
        for start, prefixes in (
            (block.start, found.prefixes[:middle]),
            (block.end, found.prefixes[middle:]),
        ):
            if not prefixes:
                continue
            half = OwnSlice(Block(depth, start), prefixes, found.placed)
            half.counted_at = found.counted_at
            half.fresh_placed = found.fresh_placed
            if found.fresh:
                half.fresh = found.fresh.intersection(prefixes)
            self._insert(half)
            too_many = len(half) > SLICE_ENTRIES_MAX and depth < DEPTH_MAX
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
