"""Datagrams that wait to be read: a bounded queue that is fair to every source.

Sources take turns, so a flood from one address delays no other source. When the queue
is full, the newest datagram of the largest prefix is dropped (`dht.prefix_tree`).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from dht.limits import INGRESS_DATAGRAMS_MAX
from dht.prefix_tree import PrefixTree

if TYPE_CHECKING:
    from dht.addresses import Address


class FairQueue:
    """A bounded queue with one line per source.

    Amounts by prefix are kept only while the queue is at least half full, because in
    quiet times they would cost more than the queue itself.
    """

    __slots__ = ("_length", "_limit", "_lines", "_tree", "dropped")

    def __init__(self, limit: int = INGRESS_DATAGRAMS_MAX) -> None:
        self._limit = limit
        self._lines: OrderedDict[bytes, deque[tuple[bytes, Address]]] = OrderedDict()
        self._tree: PrefixTree | None = None
        self._length = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._length

    def put(self, datagram: bytes, source: Address) -> None:
        """Add a datagram; one is dropped where there is no room."""
        line = self._lines.get(source.source)
        if line is None:
            line = self._lines[source.source] = deque()
        line.append((datagram, source))
        self._length += 1
        if 2 * self._length < self._limit:
            return
        if self._tree is None:
            self._tree = PrefixTree()
            for waiting in self._lines.values():
                self._tree.add(_path(waiting[0][1]), len(waiting))
        else:
            self._tree.add(_path(source), 1)
        if self._length > self._limit:
            self._drop(self._tree, source)

    def get(self) -> tuple[bytes, Address] | None:
        """Return the next datagram, from the source whose turn it is."""
        if not self._lines:
            return None
        name, line = self._lines.popitem(last=False)
        first = line.popleft()
        if line:
            self._lines[name] = line
        self._removed(first[1])
        return first

    def _drop(self, tree: PrefixTree, newcomer: Address) -> None:
        """Drop the newest datagram of the largest prefix."""
        name = tree.largest(_path(newcomer))[-1]
        line = self._lines[name]
        _, source = line.pop()
        if not line:
            del self._lines[name]
        self._removed(source)
        self.dropped += 1

    def _removed(self, source: Address) -> None:
        """Count one datagram less."""
        self._length -= 1
        if 4 * self._length < self._limit:
            self._tree = None
        elif self._tree is not None:
            self._tree.add(_path(source), -1)


def _path(source: Address) -> tuple[bytes, ...]:
    """Return the prefixes of a line: down to its source."""
    return (*source.path[:-1], source.source)
