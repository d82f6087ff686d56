"""A sorted set of 64-bit integers at 8 bytes each.

It is a list of arrays of at most 1,024 numbers, so adding, removing and finding a
range all cost a few microseconds, for ten numbers and for ten million.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK_MAX: Final = 1024


class SortedNumbers:
    """Integers from 0 to 2^64 - 1, in order, each once."""

    __slots__ = ("_chunks", "_count", "_firsts")

    def __init__(self) -> None:
        self._chunks: list[array[int]] = [array("Q")]
        self._firsts: list[int] = [0]  # the lowest number that may be in each chunk
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> None:
        """Add a number, unless it is there."""
        place = bisect_right(self._firsts, number) - 1
        chunk = self._chunks[place]
        at = bisect_left(chunk, number)
        if at < len(chunk) and chunk[at] == number:
            return
        chunk.insert(at, number)
        self._count += 1
        if len(chunk) > _CHUNK_MAX:
            half = chunk[_CHUNK_MAX // 2 :]
            del chunk[_CHUNK_MAX // 2 :]
            self._chunks.insert(place + 1, half)
            self._firsts.insert(place + 1, half[0])

    def remove(self, number: int) -> bool:
        """Remove a number; False if it is not there."""
        place = bisect_right(self._firsts, number) - 1
        chunk = self._chunks[place]
        at = bisect_left(chunk, number)
        if at == len(chunk) or chunk[at] != number:
            return False
        del chunk[at]
        self._count -= 1
        if not chunk and place:
            del self._chunks[place], self._firsts[place]
        return True

    def __contains__(self, number: int) -> bool:
        chunk = self._chunks[bisect_right(self._firsts, number) - 1]
        at = bisect_left(chunk, number)
        return at < len(chunk) and chunk[at] == number

    def between(self, low: int, high: int) -> Iterator[int]:
        """Yield the numbers from `low` to below `high`."""
        place = bisect_right(self._firsts, low) - 1
        at = bisect_left(self._chunks[place], low)
        while place < len(self._chunks):
            chunk = self._chunks[place]
            end = bisect_left(chunk, high, at)
            yield from chunk[at:end]
            if end < len(chunk):
                return
            place, at = place + 1, 0

    def count(self, low: int, high: int) -> int:
        """Return how many numbers there are from `low` to below `high`."""
        place = bisect_right(self._firsts, low) - 1
        at = bisect_left(self._chunks[place], low)
        found = 0
        while place < len(self._chunks):
            chunk = self._chunks[place]
            end = bisect_left(chunk, high, at)
            found += end - at
            if end < len(chunk):
                break
            place, at = place + 1, 0
        return found
