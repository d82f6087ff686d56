"""Datagrams that wait to be read: a bounded queue that is fair to every source.

Sources take turns, so a flood from one address delays nobody else. When the queue
is full, the source that has most waiting loses its newest datagram.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from dht.fairness import ShareLedger
from dht.limits import INGRESS_DATAGRAMS_MAX

if TYPE_CHECKING:
    from dht.addresses import Address


class FairQueue:
    """A bounded queue with one line per source.

    Who has only one datagram waiting needs no accounts, and that is nearly everybody.
    """

    __slots__ = ("_length", "_limit", "_lines", "_shares", "dropped")

    def __init__(self, limit: int = INGRESS_DATAGRAMS_MAX) -> None:
        self._limit = limit
        self._lines: OrderedDict[bytes, deque[tuple[bytes, Address]]] = OrderedDict()
        self._shares = ShareLedger()  # of those with more than one
        self._length = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._length

    def put(self, datagram: bytes, source: Address) -> None:
        """Add a datagram; something is dropped where there is no room."""
        name = source.source
        line = self._lines.get(name)
        if self._length >= self._limit:
            self.dropped += 1
            largest = self._shares.largest()
            mine = 0 if line is None else len(line)
            if largest is None or mine + 1 >= self._shares.of(largest):
                return
            self._lines[largest].pop()
            self._count(largest, -1)
        if line is None:
            line = self._lines[name] = deque()
        line.append((datagram, source))
        self._count(name, 1)

    def get(self) -> tuple[bytes, Address] | None:
        """Take the next datagram, from the source whose turn it is."""
        if not self._lines:
            return None
        name, line = self._lines.popitem(last=False)
        first = line.popleft()
        if line:
            self._lines[name] = line
            self._count(name, -1)
        else:
            self._length -= 1
        return first

    def _count(self, name: bytes, change: int) -> None:
        """Note that the line of a source has grown or shrunk by one."""
        self._length += change
        length = len(self._lines[name])
        known = self._shares.of(name)
        share = length if length > 1 else 0
        if share != known:
            self._shares.add(name, share - known)
