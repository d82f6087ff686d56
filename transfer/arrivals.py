"""Arrivals: content that this node is bringing from elsewhere, for others to follow.

The program registers what it brings in from an origin, before the first byte; the
seeder sends what has come of it to leechers that follow (`wire.Follow`). Nothing of it
is verified yet, and whoever follows knows that: it is held back until the whole is.

An arrival is named by a kind and bytes, as on the wire: a digest's algorithm and raw
bytes, or another kind that both ends agree on. `find` may be called in any thread, all
else belongs to the event loop's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Content(Protocol):
    """What has come of an arrival: a growing file, or bytes that are held whole."""

    size: int
    length: int
    """How many bytes from the start on may be read."""
    ended: bool
    error: Exception | None
    """Why it ended before its end."""
    watchers: set[Callable[[], None]]

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on, of those that have come."""


class HeldBytes:
    """Bytes that are there as a whole, in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = self.length = len(data)
        self.ended = True
        self.error: Exception | None = None
        self.watchers: set[Callable[[], None]] = set()

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on."""
        return self._data[offset : offset + count]


class Arrival:
    """One content on its way here."""

    def __init__(self) -> None:
        self.file: Content | None = None
        """What has come so far; None before its size is known."""
        self.has_failed = False
        """Whether nothing more will come and there is no file."""
        self.watchers: set[Callable[[], None]] = set()
        """Called on the event loop whenever more has come."""

    def begin(self, file: Content) -> None:
        """Let the bytes of a growing file be followed from now on."""
        self.file = file
        file.watchers.add(self._wake)
        self._wake()

    def fail(self) -> None:
        """Say that nothing will come, where no file was begun."""
        self.has_failed = self.file is None
        self._wake()

    def _wake(self) -> None:
        for watcher in list(self.watchers):
            watcher()


class Arrivals:
    """The arrivals of a node, by kind and name."""

    def __init__(self) -> None:
        self._arrivals: dict[tuple[str, bytes], Arrival] = {}

    def begin(self, kind: str, name: bytes) -> Arrival:
        """Register an arrival in the place of an earlier one; `end` takes it back."""
        arrival = self._arrivals[kind, name] = Arrival()
        return arrival

    def end(self, kind: str, name: bytes, arrival: Arrival) -> None:
        """Forget an arrival; those that follow it already keep it."""
        arrival.fail()
        if self._arrivals.get((kind, name)) is arrival:
            del self._arrivals[kind, name]

    def find(self, kind: str, name: bytes) -> Arrival | None:
        """Return the arrival of this name, or None."""
        return self._arrivals.get((kind, name))
