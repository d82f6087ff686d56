"""Datagrams that wait to be read: a bounded queue that is fair to every source.

Sources take turns, so a flood from one address delays nobody else. When the queue
is full, the source that has most waiting loses its newest datagram.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from dht.fairness import Shares
from dht.limits import INGRESS_DATAGRAMS_MAX

if TYPE_CHECKING:
    from dht.addresses import Address


class Ingress:
    """A bounded queue with one line per source."""

    __slots__ = ("_limit", "_lines", "_shares", "dropped")

    def __init__(self, limit: int = INGRESS_DATAGRAMS_MAX) -> None:
        self._limit = limit
        self._lines: OrderedDict[bytes, deque[tuple[bytes, Address]]] = OrderedDict()
        self._shares = Shares()
        self.dropped = 0

    def __len__(self) -> int:
        return self._shares.total

    def put(self, datagram: bytes, source: Address) -> None:
        """Add a datagram; something is dropped where there is no room."""
        name = source.source
        if self._shares.total >= self._limit:
            self.dropped += 1
            largest = self._shares.largest()
            if largest is None or self._shares.of(name) + 1 >= self._shares.of(largest):
                return
            self._lines[largest].pop()
            self._shares.add(largest, -1)
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = deque()
        line.append((datagram, source))
        self._shares.add(name, 1)

    def get(self) -> tuple[bytes, Address] | None:
        """Take the next datagram, from the source whose turn it is."""
        if not self._lines:
            return None
        name, line = self._lines.popitem(last=False)
        first = line.popleft()
        if line:
            self._lines[name] = line
        self._shares.add(name, -1)
        return first
