"""Memory that forgets: dictionaries and sets with a bound, and with a lifetime.

All of the layer's memory of others is made of these. Each forgets the entry that was
set longest ago once it is full, and none reads a clock: `now` is in monotonic seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(OrderedDict[K, V]):
    """A dictionary that drops the entry set longest ago once it exceeds its bound."""

    __slots__ = ("_entries_max",)

    def __init__(self, entries_max: int) -> None:
        super().__init__()
        self._entries_max = entries_max

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._entries_max:
            self.popitem(last=False)


class TtlMap(Generic[K, V]):
    """A bounded dictionary whose entries live for `seconds` after they were set."""

    __slots__ = ("_entries", "_seconds")

    def __init__(self, seconds: float, entries_max: int) -> None:
        self._seconds = seconds
        self._entries: BoundedDict[K, tuple[V, float]] = BoundedDict(entries_max)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: K, value: V, now: float, *, until: float | None = None) -> None:
        """Set an entry; with `until` it lives to that moment instead."""
        self._entries[key] = (value, now + self._seconds if until is None else until)

    def get(self, key: K, now: float) -> V | None:
        """Return the value of a living entry."""
        entry = self._entries.get(key)
        return entry[0] if entry is not None and entry[1] > now else None

    def end_of(self, key: K) -> float:
        """Return when an entry ends; 0 if there is none."""
        entry = self._entries.get(key)
        return entry[1] if entry is not None else 0.0

    def discard(self, key: K) -> None:
        """Remove an entry if it is there."""
        self._entries.pop(key, None)

    def expire(self, now: float) -> None:
        """Remove the entries that have ended, oldest first, up to a living one."""
        while self._entries:
            key = next(iter(self._entries))
            if self._entries[key][1] > now:
                return
            del self._entries[key]


class TtlSet(Generic[K]):
    """A bounded set whose members live for `seconds` after they were added."""

    __slots__ = ("_ends", "_seconds")

    def __init__(self, seconds: float, entries_max: int) -> None:
        self._seconds = seconds
        self._ends: BoundedDict[K, float] = BoundedDict(entries_max)

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, member: K, now: float) -> None:
        """Add a member, from now on."""
        self._ends[member] = now + self._seconds
        self.expire(now)

    def has(self, member: K, now: float) -> bool:
        """Whether a member is in the set and alive."""
        return self._ends.get(member, 0.0) > now

    def discard(self, member: K) -> None:
        """Remove a member if it is there."""
        self._ends.pop(member, None)

    def expire(self, now: float) -> None:
        """Remove the members that have ended."""
        ends = self._ends
        while ends and next(iter(ends.values())) <= now:
            ends.popitem(last=False)
