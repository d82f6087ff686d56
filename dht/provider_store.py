"""The inventory slices this node keeps for others, with every bound applied.

1. A provider is a node key at an address of one family. It has one node record, which
   ends, and slices, which do not overlap: a newer slice drops those it overlaps.
2. `_index` holds the first 32 bits of every listed key together with the number of its
   slice. So the providers of a key are found without a look at the others.
3. What is kept is counted in bytes of memory, by prefix (`dht.prefix_tree`). When the
   store is full, the largest prefix loses its oldest slice; a newcomer that itself
   belongs to the largest is refused.
4. Of one key at most `PROVIDERS_PER_KEY_MAX` providers are listed. Beyond it one of the
   largest prefix is not listed any more under this key; its slice stays.
5. Answers are drawn evenly over prefixes.
6. Lifetimes are counted on the monotonic clock from the moment of storing, so a clock
   that jumps neither ends nor revives a provider.

`now` is in monotonic seconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.inventory import (
    BLOCK_BYTES,
    ENTRY_BYTES,
    ISSUED_BYTES,
    SLICE_HEAD_BYTES,
    Block,
    InventorySlice,
    has_entry,
)
from dht.limits import (
    ENTRY_COST_BYTES,
    INVENTORIES_BYTES_MAX,
    PROVIDER_OVERHEAD_BYTES,
    PROVIDER_SECONDS,
    PROVIDERS_PER_KEY_MAX,
    PROVIDERS_PER_REPLY_MAX,
    SLICE_OVERHEAD_BYTES,
    SLICE_RENEW_SECONDS,
    SLICE_SECONDS,
)
from dht.prefix_tree import Deal, Path, PrefixTree
from dht.providers import NodeRecord, ProviderRecord
from dht.sorted_numbers import SortedNumbers
from dht.wire import Stored

if TYPE_CHECKING:
    import random
    from collections.abc import Collection, Iterator

CURSOR_GIVEN_BITS: Final = 11  # of a cursor: how many were given; the rest is the seed
_SEEDS: Final = 1 << 21
_NUMBER_BITS: Final = 32  # of an index entry: the number of the slice
_ROOM_MAX: Final = 1 << 20
_SUMMARY_SECONDS: Final = 60.0  # for which a summary is remembered
_SUMMARIES_MAX: Final = 16  # of one provider


class Page(NamedTuple):
    """Some providers of a key; `cursor` is 0 where there are no more."""

    records: list[ProviderRecord]
    total: int
    cursor: int


class Summary(NamedTuple):
    """What is kept of a provider in a block: XOR of content ids, newest issue."""

    content: int
    newest: int


class _StoredSlice:
    """One slice: a flood of them must not cost much, so it stays packed."""

    __slots__ = ("line", "listed", "number", "packed", "provider", "until")

    def __init__(
        self, provider: _Provider, packed: bytes, *, number: int, until: float
    ) -> None:
        self.provider = provider
        self.packed = packed
        self.number = number
        self.until = until
        self.listed = 0  # keys under which it is listed
        self.line: _SourceLine | None = None  # None when the slice is dropped

    @property
    def path(self) -> Path:
        """The prefixes of the source that stored it."""
        return () if self.line is None else self.line.path

    @property
    def slice(self) -> InventorySlice:
        """The slice itself."""
        return InventorySlice.unpack(self.packed)

    @property
    def block(self) -> Block:
        """The block that it lists."""
        return Block.unpack(self.packed[:BLOCK_BYTES])

    def lists(self, head: int) -> bool:
        """Whether it lists a key of its block with these first 64 bits."""
        return has_entry(self.packed, head >> 32 - self.packed[0])

    @property
    def issued_at(self) -> int:
        """When it was signed, in milliseconds since 1970."""
        issued = self.packed[BLOCK_BYTES : BLOCK_BYTES + ISSUED_BYTES]
        return int.from_bytes(issued, "big")


class _Provider:
    """A node at an address of one family, and its slices in order of their blocks."""

    __slots__ = ("node", "path", "slices", "starts", "summaries", "until")

    def __init__(self, node: NodeRecord, until: float) -> None:
        self.node = node
        self.path: Path = ()  # to which its own overhead is charged
        self.until = until
        self.starts: array[int] = array("I")
        self.slices: list[_StoredSlice] = []
        self.summaries: dict[int, tuple[float, Summary]] = {}

    def inside(self, block: Block) -> list[_StoredSlice]:
        """Return the slices that overlap a block."""
        low = bisect_left(self.starts, block.start)
        high = len(self.starts)
        if block.end <= 0xFFFFFFFF:
            high = bisect_left(self.starts, block.end)
        if low and self.slices[low - 1].block.end > block.start:
            low -= 1
        return self.slices[low:high]

    def add(self, stored: _StoredSlice, start: int) -> None:
        """Put a slice in its place."""
        place = bisect_right(self.starts, start)
        self.starts.insert(place, start)
        self.slices.insert(place, stored)
        self.summaries.clear()

    def remove(self, stored: _StoredSlice) -> None:
        """Take a slice out."""
        place = bisect_left(self.starts, stored.block.start)
        del self.starts[place], self.slices[place]
        self.summaries.clear()


class _SourceLine:
    """The slices of a source, oldest first; those dropped are passed over."""

    __slots__ = ("_dropped", "_slices", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._slices: deque[_StoredSlice] = deque()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._slices) - self._dropped

    def add(self, stored: _StoredSlice) -> None:
        """Add a slice."""
        stored.line = self
        self._slices.append(stored)

    def drop(self, stored: _StoredSlice) -> None:
        """Count one more of the slices as dropped."""
        stored.line = None
        self._dropped += 1
        if self._dropped > 8 and 2 * self._dropped > len(self._slices):
            self._slices = deque(each for each in self._slices if each.line)
            self._dropped = 0

    def alive(self) -> Iterator[_StoredSlice]:
        """Yield the slices that are not dropped, oldest first."""
        return (each for each in self._slices if each.line is not None)

    def oldest(self) -> _StoredSlice:
        """Return the oldest slice that is not dropped."""
        while self._slices[0].line is None:
            self._slices.popleft()
            self._dropped -= 1
        return self._slices[0]


class _Crowd:
    """Amounts by prefix, and the deal, of a key with more providers than one reply."""

    __slots__ = ("deal", "tree")

    def __init__(self, listed: list[_StoredSlice]) -> None:
        self.tree = PrefixTree()
        for stored in listed:
            self.tree.add(stored.path, 1)
        self.deal: Deal[_StoredSlice] | None = None  # until a slice comes or goes


class ProviderStore:
    """Providers by key."""

    def __init__(
        self,
        rng: random.Random,
        *,
        bytes_max: int = INVENTORIES_BYTES_MAX,
        per_key_max: int = PROVIDERS_PER_KEY_MAX,
    ) -> None:
        self._rng = rng
        self._bytes_max = bytes_max
        self._per_key_max = per_key_max
        self._providers: dict[tuple[bytes, int], _Provider] = {}
        self._slices: dict[int, _StoredSlice] = {}
        self._numbers = 0
        self._index = SortedNumbers()
        self._crowds: dict[int, _Crowd] = {}
        self._lines: dict[Path, _SourceLine] = {}
        self._tree = PrefixTree()
        self._ends_at = 0.0  # no provider ends before

    def __len__(self) -> int:
        """How many keys are listed, each once for every provider."""
        return len(self._index)

    @property
    def bytes_held(self) -> int:
        """How much memory is taken, as it is counted."""
        return self._tree.total

    def node(self, public_key: bytes, family: int) -> NodeRecord | None:
        """Return the node record of a provider that is kept."""
        provider = self._providers.get((public_key, family))
        return None if provider is None else provider.node

    def has(self, node: NodeRecord, packed: bytes) -> bool:
        """Whether exactly this slice of a provider is kept."""
        provider = self._providers.get((node.public_key, node.address.family))
        if provider is None or len(packed) < BLOCK_BYTES:
            return False
        place = bisect_left(provider.starts, int.from_bytes(packed[1:5], "big"))
        slices = provider.slices
        return place < len(slices) and slices[place].packed == packed

    def renew(self, node: NodeRecord, *, now: float, lifetime: float) -> bool:
        """Take the newer node record of a provider that is kept.

        `lifetime` is how many seconds the record itself still claims; at most 5 h
        count. False where a record of a later end and another address is held.
        """
        provider = self._providers.get((node.public_key, node.address.family))
        if provider is None:
            return True
        if node.expires_at < provider.node.expires_at:
            return node.address == provider.node.address
        provider.node = node
        provider.until = now + min(lifetime, PROVIDER_SECONDS)
        self._ends_at = min(self._ends_at, provider.until)
        return True

    def put(
        self,
        node: NodeRecord,
        listed: InventorySlice,
        path: Path,
        *,
        now: float,
        lifetime: float,
        age: float = 0.0,
    ) -> Stored:
        """Keep a verified slice of a provider, and its node record.

        `path` holds the prefixes of the source that stores it, `lifetime` is how many
        seconds the node record still claims, `age` is that of the slice in seconds.
        """
        if not self.renew(node, now=now, lifetime=lifetime):
            return Stored.OLDER
        place = (node.public_key, node.address.family)
        provider = self._providers.get(place)
        before = [] if provider is None else provider.inside(listed.block)
        if any(each.issued_at > listed.issued_at for each in before):
            return Stored.OLDER
        until = now + min(lifetime, PROVIDER_SECONDS)
        paths = [(each, each.path) for each in before]
        for each in before:
            self._drop(each)
        if not listed.entries:
            return Stored.STORED
        ends_at = now + SLICE_SECONDS - age
        heads = set(listed.heads)
        provider = self._provider(node, until)
        stored = self._add(provider, listed, path, until=ends_at, heads=heads)
        if self._make_room(stored, path, heads):
            return Stored.STORED
        # What it would have replaced still says more than nothing.
        for each, before_path in paths:
            kept = each.slice
            self._add(
                self._provider(node, until),
                kept,
                before_path,
                until=each.until,
                heads=set(kept.heads),
            )
        return Stored.FULL

    def page(
        self, key: bytes, cursor: int, now: float, *, room: int = _ROOM_MAX
    ) -> Page:
        """Return at most 8 providers of a key, drawn evenly over prefixes.

        Packed, with three bytes each for their length, they take at most `room` bytes.
        The cursor holds the seed of the draw and how many were given before.
        """
        head = int.from_bytes(key[:8], "big")

        def offers(each: _StoredSlice) -> bool:
            until = min(each.until, each.provider.until)
            return until > now and each.lists(head)

        low = head >> 32 << _NUMBER_BITS
        total = self._index.count(low, low + (1 << _NUMBER_BITS))
        if total <= PROVIDERS_PER_REPLY_MAX:
            total = sum(map(offers, self._listed(head >> 32)))
        if not total:
            return Page([], 0, 0)
        seed, given = (
            cursor >> CURSOR_GIVEN_BITS,
            cursor & ((1 << CURSOR_GIVEN_BITS) - 1),
        )
        if cursor == 0:
            seed = self._rng.randrange(_SEEDS)
        # Of a crowd only those that are given are looked at: an answer costs what it
        # holds, not what others have stored.
        drawn = filter(offers, self._drawn(head >> 32, total, seed))
        records: list[ProviderRecord] = []
        is_end = True
        for each in islice(drawn, given, None):
            room -= len(each.provider.node.packed) + len(each.packed) + 3
            if room < 0 or len(records) == PROVIDERS_PER_REPLY_MAX:
                is_end = False
                break
            records.append(ProviderRecord(key, each.provider.node, each.slice))
        end = given + len(records)
        if is_end:
            total = end
        more = records and not is_end
        return Page(records, total, (seed << CURSOR_GIVEN_BITS | end) if more else 0)

    def summary(
        self, public_key: bytes, family: int, block: Block, *, now: float
    ) -> Summary:
        """Return what is kept of a provider in a block and not soon to end."""
        provider = self._providers.get((public_key, family))
        if provider is None:
            return Summary(0, 0)
        known = provider.summaries.get(block.code)
        if known is not None and known[0] > now:
            return known[1]
        content = newest = 0
        for each in provider.inside(block):
            newest = max(newest, each.issued_at)
            if each.until > now + SLICE_RENEW_SECONDS:
                content ^= each.slice.content_id
        summary = Summary(content, newest)
        provider.summaries[block.code] = (now + _SUMMARY_SECONDS, summary)
        if len(provider.summaries) > _SUMMARIES_MAX:
            del provider.summaries[next(iter(provider.summaries))]
        return summary

    def expire(self, now: float) -> None:
        """Drop the providers whose node record has ended, and all they list."""
        if now < self._ends_at:
            return
        self._ends_at = now + PROVIDER_SECONDS
        for provider in list(self._providers.values()):
            if provider.until <= now:
                for each in list(provider.slices):
                    self._drop(each)
            else:
                self._ends_at = min(self._ends_at, provider.until)

    def _listed(self, head: int) -> list[_StoredSlice]:
        """Return the slices that list a key with these first 32 bits."""
        low, high = head << _NUMBER_BITS, (head + 1) << _NUMBER_BITS
        mask = (1 << _NUMBER_BITS) - 1
        return [self._slices[one & mask] for one in self._index.between(low, high)]

    def _drawn(self, head: int, total: int, seed: int) -> Iterator[_StoredSlice]:
        """Return the slices listed under 32 bits of a key in the order of a draw."""
        if total <= PROVIDERS_PER_REPLY_MAX:
            listed = self._listed(head)
            start = seed % len(listed)
            return iter(listed[start:] + listed[:start])
        crowd = self._crowd(head)
        if crowd.deal is None:
            crowd.deal = Deal()
            for each in self._listed(head):
                crowd.deal.add(each.path, each)
        return crowd.deal.order(seed)

    def _crowd(self, head: int) -> _Crowd:
        """Return the amounts by prefix of a key, which are kept from then on."""
        crowd = self._crowds.get(head)
        if crowd is None:
            crowd = self._crowds[head] = _Crowd(self._listed(head))
        return crowd

    def _provider(self, node: NodeRecord, until: float) -> _Provider:
        """Return what is kept of a provider, even if that is nothing yet."""
        place = (node.public_key, node.address.family)
        provider = self._providers.get(place)
        if provider is None:
            self._ends_at = min(self._ends_at, until) if self._providers else until
            provider = self._providers[place] = _Provider(node, until)
        return provider

    def _add(
        self,
        provider: _Provider,
        listed: InventorySlice,
        path: Path,
        *,
        until: float,
        heads: Collection[int],
    ) -> _StoredSlice:
        """Put a slice into all tables, whatever their bounds.

        `heads` are the first 32 bits of each of its keys, once.
        """
        packed = listed.packed
        self._numbers = (self._numbers + 1) % (1 << _NUMBER_BITS)
        while self._numbers in self._slices:
            self._numbers = (self._numbers + 1) % (1 << _NUMBER_BITS)
        stored = _StoredSlice(provider, packed, number=self._numbers, until=until)
        self._slices[stored.number] = stored
        provider.add(stored, listed.block.start)
        line = self._lines.get(path)
        if line is None:
            line = self._lines[path] = _SourceLine(path)
        line.add(stored)
        self._tree.add(path, _cost(packed))
        self._charge(provider)
        for head in heads:
            self._index.add(head << _NUMBER_BITS | stored.number)
            self._count(head, path, 1)
        stored.listed = len(heads)
        return stored

    def _make_room(
        self, stored: _StoredSlice, path: Path, heads: Collection[int]
    ) -> bool:
        """Apply all bounds after a slice was added; False where it had to go."""
        # Fewer providers than may be listed under one key need not be counted.
        for head in heads if len(self._providers) > self._per_key_max else ():
            low = head << _NUMBER_BITS
            if self._index.count(low, low + (1 << _NUMBER_BITS)) > self._per_key_max:
                self._unlist_one(head, stored)
        if stored.line is None:
            return False
        while self._tree.total > self._bytes_max:
            loser = self._tree.largest(path)
            if loser == path:
                self._drop(stored)
                return False
            self._drop(self._lines[loser].oldest())
        return True

    def _unlist_one(self, head: int, newcomer: _StoredSlice) -> None:
        """List one provider less under a key; drop its slice if nothing is left."""
        loser = self._crowd(head).tree.largest(newcomer.path)
        chosen = newcomer
        if loser != newcomer.path:
            low = head << _NUMBER_BITS
            line = self._lines[loser].alive()
            chosen = next(each for each in line if low | each.number in self._index)
        self._index.remove(head << _NUMBER_BITS | chosen.number)
        self._count(head, chosen.path, -1)
        chosen.listed -= 1
        if not chosen.listed:
            self._drop(chosen)

    def _drop(self, stored: _StoredSlice) -> None:
        """Forget one slice, and its provider with the last one."""
        line, provider = stored.line, stored.provider
        assert line is not None
        del self._slices[stored.number]
        for head in stored.slice.heads:
            if self._index.remove(head << _NUMBER_BITS | stored.number):
                self._count(head, line.path, -1)
        provider.remove(stored)
        self._tree.add(line.path, -_cost(stored.packed))
        line.drop(stored)
        if not len(line):
            del self._lines[line.path]
        self._charge(provider)
        if not provider.slices:
            node = provider.node
            del self._providers[node.public_key, node.address.family]

    def _charge(self, provider: _Provider) -> None:
        """Charge what a provider costs to the source of one of its slices."""
        path = provider.slices[-1].path if provider.slices else ()
        if path == provider.path:
            return
        if provider.path:
            self._tree.add(provider.path, -PROVIDER_OVERHEAD_BYTES)
        if path:
            self._tree.add(path, PROVIDER_OVERHEAD_BYTES)
        provider.path = path

    def _count(self, head: int, path: Path, amount: int) -> None:
        """Count a provider of a key that has a crowd."""
        crowd = self._crowds.get(head)
        if crowd is None:
            return
        crowd.tree.add(path, amount)
        crowd.deal = None
        if crowd.tree.total <= PROVIDERS_PER_REPLY_MAX:
            del self._crowds[head]


def _cost(packed: bytes) -> int:
    """Return how much memory a slice takes."""
    entries = (len(packed) - SLICE_HEAD_BYTES) // ENTRY_BYTES
    return SLICE_OVERHEAD_BYTES + ENTRY_COST_BYTES * entries
