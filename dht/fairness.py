"""Fair shares: who takes most room, and who may do something again.

Both are plain bookkeeping that takes `now`. A *source* is whatever bytes a limit
blames: a /24, an address of a private range, a node key, a publisher.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict


class ShareLedger:
    """How much each source takes, and which one takes most."""

    __slots__ = ("_amounts", "_largest", "total")

    def __init__(self) -> None:
        self._amounts: dict[bytes, int] = {}
        self._largest: list[tuple[int, bytes]] = []
        self.total = 0

    def of(self, source: bytes) -> int:
        """Return what a source takes."""
        return self._amounts.get(source, 0)

    def add(self, source: bytes, amount: int) -> None:
        """Change what a source takes; a negative amount gives back."""
        taken = self._amounts.get(source, 0) + amount
        self.total += amount
        if taken <= 0:
            self._amounts.pop(source, None)
            return
        self._amounts[source] = taken
        heapq.heappush(self._largest, (-taken, source))
        if len(self._largest) > 64 + 4 * len(self._amounts):
            self._largest = [(-each, name) for name, each in self._amounts.items()]
            heapq.heapify(self._largest)

    def largest(self) -> bytes | None:
        """Return the source that takes most."""
        while self._largest:
            taken, source = self._largest[0]
            if self._amounts.get(source) == -taken:
                return source
            heapq.heappop(self._largest)
        return None


class TokenBuckets:
    """Lets each source do something so often a second, with a burst.

    At most `sources_max` are remembered; a forgotten one starts afresh.
    """

    __slots__ = ("_burst", "_rate", "_sources", "_sources_max")

    def __init__(
        self, per_second: float, burst: float, sources_max: int = 4096
    ) -> None:
        self._rate = per_second
        self._burst = burst
        self._sources_max = sources_max
        self._sources: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def take(self, source: bytes, now: float) -> bool:
        """Whether the source may do it now; if so, it is counted."""
        left, since = self._sources.pop(source, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        allowed = left >= 1.0
        self._sources[source] = (left - 1.0 if allowed else left, now)
        if len(self._sources) > self._sources_max:
            self._sources.popitem(last=False)
        return allowed


class TtlSet:
    """Things that were done lately, each forgotten after some seconds."""

    __slots__ = ("_entries", "_entries_max", "_seconds")

    def __init__(self, seconds: float, entries_max: int) -> None:
        self._seconds = seconds
        self._entries_max = entries_max
        self._entries: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: bytes, now: float) -> None:
        """Remember an entry from now on."""
        self._entries.pop(entry, None)
        self._entries[entry] = now + self._seconds
        self.expire(now)
        if len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)

    def has(self, entry: bytes, now: float) -> bool:
        """Whether an entry is still remembered."""
        until = self._entries.get(entry)
        return until is not None and until > now

    def discard(self, entry: bytes) -> None:
        """Forget an entry."""
        self._entries.pop(entry, None)

    def expire(self, now: float) -> None:
        """Forget what has served its time."""
        while self._entries:
            entry, until = next(iter(self._entries.items()))
            if until > now:
                return
            del self._entries[entry]
