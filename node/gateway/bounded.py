"""Dictionaries that forget: the least recently used, or what is too old."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """A dictionary of bounded weight that forgets the least recently used."""

    def __init__(self, most: int, weight: Callable[[V], int] = lambda _: 1) -> None:
        self._most = most
        self._weight = weight
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._total = 0

    def get(self, key: K) -> V | None:
        """Return what is kept under a key, or None."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V) -> None:
        """Keep a value; what is heavier than the bound alone is not kept.

        It counts with the weight that it has now; one that grows is put again.
        """
        self.remove(key)
        weight = self._weight(value)
        self._values[key] = value, weight
        self._total += weight
        while self._total > self._most and self._values:
            self.remove(next(iter(self._values)))

    def remove(self, key: K) -> None:
        """Forget a key, if it is there."""
        found = self._values.pop(key, None)
        if found is not None:
            self._total -= found[1]

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._total = 0


class RecentKeys(Generic[K]):
    """Keys that count for some seconds after they were added."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._added: dict[K, float] = {}

    def add(self, key: K, now: float) -> None:
        """Add a key, and forget those whose time is over."""
        self._added = {
            one: at for one, at in self._added.items() if now - at < self.seconds
        }
        self._added[key] = now

    def discard(self, key: K) -> None:
        """Forget a key, if it is there."""
        self._added.pop(key, None)

    def has(self, key: K, now: float) -> bool:
        """Tell whether a key was added less than `seconds` ago."""
        at = self._added.get(key)
        return at is not None and now - at < self.seconds
