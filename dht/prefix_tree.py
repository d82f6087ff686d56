"""Accounting by prefix: which network takes most, at every width at once.

1. A source costs what its network costs. Addresses inside a network are free: one
   machine has 2^64 of an IPv6 /64, a customer 65,536 /64s of a /48. So amounts are
   kept for a whole path of prefixes, from the widest to the narrowest
   (`Address.path`): IPv6 /32, /48, /56, /64; IPv4 /16, /24, address; in loopback and
   private ranges the IP alone, because there ports are free and prefixes are shared.
2. Families are apart, and contacts of the routing table are apart from strangers: the
   first element of a path names that class.
3. When something is full, one of the largest prefix goes: from the root, descend into
   the child with the largest amount until a leaf is reached.
4. A newcomer is counted before the choice. Where it ties with the largest, it is the
   one that goes, so what is held is stable and the last to come is refused.
5. Answers are drawn evenly over prefixes: `deal` gives every child of the root one
   turn, then the next one, and the same below. So a false majority inside of one
   prefix takes no more of an answer than a single true entry of another.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
Path = tuple[bytes, ...]

_MINUTE: Final = 60.0
_SCANNED_MAX: Final = 16  # children that need no heap


class _Prefix:
    """One prefix: its amount, and the prefixes inside of it."""

    __slots__ = ("amount", "children", "heap")

    def __init__(self) -> None:
        self.amount = 0
        self.children: dict[bytes, _Prefix] | None = None
        self.heap: list[tuple[int, bytes]] | None = None  # of children, may be stale

    def grown(self, name: bytes, amount: int) -> None:
        """Put a child's new amount where `largest` finds it."""
        if self.heap is not None:
            heapq.heappush(self.heap, (-amount, name))
            if len(self.heap) > 64 + 4 * len(self.children or ()):
                self.heap = None

    def largest(self) -> bytes:
        """Return the name of the child with the largest amount."""
        children = self.children or {}
        if len(children) <= _SCANNED_MAX:
            return max(children, key=lambda name: children[name].amount)
        if self.heap is None:
            self.heap = [(-child.amount, name) for name, child in children.items()]
            heapq.heapify(self.heap)
        while True:
            amount, name = self.heap[0]
            child = children.get(name)
            if child is not None and child.amount == -amount:
                return name
            heapq.heappop(self.heap)


class PrefixTree:
    """Amounts by prefix path."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root = _Prefix()

    @property
    def total(self) -> int:
        """The sum of all amounts."""
        return self._root.amount

    def of(self, path: Path) -> int:
        """Return the amount of a prefix."""
        prefix = self._root
        for name in path:
            if prefix.children is None or name not in prefix.children:
                return 0
            prefix = prefix.children[name]
        return prefix.amount

    def add(self, path: Path, amount: int) -> None:
        """Add an amount to a source and all its prefixes; negative ones take away."""
        prefix = self._root
        prefix.amount += amount
        for name in path:
            if prefix.children is None:
                prefix.children = {}
            child = prefix.children.get(name)
            if child is None:
                child = prefix.children[name] = _Prefix()
            child.amount += amount
            if child.amount <= 0:
                del prefix.children[name]
                return
            prefix.grown(name, child.amount)
            prefix = child

    def largest(self, newcomer: Path | None = None) -> Path:
        """Return the source that loses first.

        `newcomer` is a source whose last addition caused the question: where it ties
        with the largest, it is the answer (rule 4). Empty for an empty tree.
        """
        path: list[bytes] = []
        prefix = self._root
        while prefix.children:
            name = prefix.largest()
            if newcomer is not None:
                own = newcomer[len(path)] if len(path) < len(newcomer) else b""
                child = prefix.children.get(own)
                if child is None or child.amount < prefix.children[name].amount:
                    newcomer = None
                else:
                    name = own
            path.append(name)
            prefix = prefix.children[name]
        return tuple(path)


class FairMinute:
    """Lets something happen so often in a minute, and no prefix have it all.

    One IPv4 /16 or IPv6 /32 has a quarter of it, one IPv4 /24 or IPv6 /48 an eighth,
    and so has a private IP, so that a network with many addresses shuts nobody out.
    """

    __slots__ = ("_happened", "_most", "_tree")

    def __init__(self, most: int) -> None:
        self._most = most
        self._happened: deque[tuple[float, Path]] = deque()
        self._tree = PrefixTree()

    def allow(self, path: Path, now: float) -> bool:
        """Whether it may happen now for a source (`Address.path`); if so, count it."""
        while self._happened and now - self._happened[0][0] >= _MINUTE:
            self._tree.add(self._happened.popleft()[1], -1)
        if self._tree.total >= self._most or any(
            self._tree.of(path[:width]) >= self._most // part
            for width, part in ((2, 4), (3, 8))
            if len(path) >= width
        ):
            return False
        self._happened.append((now, path))
        self._tree.add(path, 1)
        return True


class Deal(Generic[T]):
    """Entries grouped by prefix, to be drawn evenly (rule 5)."""

    __slots__ = ("_entries", "_parts")

    def __init__(self) -> None:
        self._parts: dict[bytes, Deal[T]] = {}
        self._entries: list[T] = []

    def add(self, path: Path, entry: T) -> None:
        """Put an entry under its prefix path."""
        group = self
        for name in path:
            part = group._parts.get(name)
            if part is None:
                part = group._parts[name] = Deal()
            group = part
        group._entries.append(entry)

    def order(self, seed: int) -> Iterator[T]:
        """Yield all entries, prefixes in turn; the seed says where turns begin."""
        if self._entries:
            start = seed % len(self._entries)
            yield from self._entries[start:]
            yield from self._entries[:start]
            return
        parts = list(self._parts.values())
        if not parts:
            return
        rest, start = divmod(seed, len(parts))
        # Begun one by one: most answers end within the first round.
        turns: Iterable[Iterator[T]]
        turns = (part.order(rest) for part in chain(parts[start:], parts[:start]))
        while turns:
            going_on = []
            for turn in turns:
                try:
                    entry = next(turn)
                except StopIteration:
                    continue
                yield entry
                going_on.append(turn)
            turns = going_on
