"""Admission at the HTTP doors: how many connections a source has, and who gives way.

A connection is quiet until a whole request has come, and again when that has been
answered. Everything here is a plain object that gets the time as an argument. The
rules:

1. A source has a bounded number of connections, and a smaller one of quiet ones. At
   either bound the one of its own that has been quiet for longest gives way.
2. When all together are too many, it is one of the largest source: the longest quiet,
   or else the oldest. So no source takes the place of a smaller one.
3. If nobody has to give way, the newcomer is refused, and so is one whose source has
   replaced too many of its own within a second: that costs least.
4. What is quiet for too long goes in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

SHORT_SECONDS = 0.1
"""Nobody's connection gives way to more quiet ones before it had time to ask."""
_LOOK_SECONDS = 0.1


class DoorConnection:
    """One connection of a source, from its acceptance on."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.quiet_since = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it has ended by itself."""
        return False

    def close(self) -> None:
        """End it; twice does no harm."""


@dataclass(slots=True)
class _Source:
    """The connections of one source, the longest quiet and the oldest first."""

    quiet: dict[DoorConnection, None] = field(default_factory=dict)
    busy: dict[DoorConnection, None] = field(default_factory=dict)
    replaced: int = 0
    """Of its own connections, since a time."""
    replaced_since: float = 0.0

    def __len__(self) -> int:
        return len(self.quiet) + len(self.busy)

    def may_replace(self, per_second: int, now: float) -> bool:
        """Count that one of its connections gives way to another of it."""
        if now - self.replaced_since >= 1:
            self.replaced, self.replaced_since = 0, now
        self.replaced += 1
        return self.replaced <= per_second

    def first(self) -> DoorConnection | None:
        """Return the one that gives way."""
        return next(iter(self.quiet), None) or next(iter(self.busy), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorBounds:
    """How many connections a door has."""

    total: int
    per_source: int
    quiet: int
    quiet_per_source: int
    quiet_seconds: float
    replaced_per_second: int
    """How many of its own connections a source may replace."""


def _nobody(connection: DoorConnection) -> None:
    del connection


class DoorRoom:
    """The connections of a door, and which of them gives way."""

    def __init__(
        self, bounds: DoorBounds, on_left: Callable[[DoorConnection], object] = _nobody
    ) -> None:
        """`on_left` gets each connection that no longer counts."""
        self._bounds = bounds
        self._on_left = on_left
        self._sources: dict[str, _Source] = {}
        self._quiet = 0
        self._total = 0
        self._looked_at = 0.0

    def __len__(self) -> int:
        return self._total

    def make(self, source: str, now: float) -> bool:
        """Close the connection that gives way to a newcomer; False: refuse it."""
        if not self._is_crowded(source):
            return True
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._forget(one for one in self._all() if one.is_over)
        return self._close(source, now)

    def enter(self, connection: DoorConnection, now: float) -> None:
        """Count a new connection, which is quiet."""
        connection.quiet_since = now
        own = self._sources.setdefault(connection.source, _Source())
        own.quiet[connection] = None
        self._quiet += 1
        self._total += 1

    def busy(self, connection: DoorConnection) -> None:
        """Note that a whole request of a connection has come."""
        own = self._sources.get(connection.source)
        if own is not None and connection in own.quiet:
            del own.quiet[connection]
            own.busy[connection] = None
            self._quiet -= 1

    def answered(self, connection: DoorConnection, now: float) -> None:
        """Note that it has been answered."""
        own = self._sources.get(connection.source)
        if own is not None and connection in own.busy:
            del own.busy[connection]
            connection.quiet_since = now
            own.quiet[connection] = None
            self._quiet += 1

    def leave(self, connection: DoorConnection) -> None:
        """Forget a connection; twice does no harm."""
        own = self._sources.get(connection.source)
        if own is None:
            return
        if connection in own.quiet:
            del own.quiet[connection]
            self._quiet -= 1
        elif connection in own.busy:
            del own.busy[connection]
        else:
            return
        self._total -= 1
        if not own:
            del self._sources[connection.source]
        self._on_left(connection)

    def close(self) -> None:
        """Close all that are quiet."""
        for own in list(self._sources.values()):
            for one in list(own.quiet):
                self._end(one)

    def sweep(self, now: float) -> None:
        """Forget what is over, and close what has been quiet for too long."""
        self._forget(one for one in self._all() if one.is_over)
        for own in list(self._sources.values()):
            beyond = len(own.quiet) - self._bounds.quiet_per_source
            for place, one in enumerate(list(own.quiet)):
                quiet = now - one.quiet_since
                surplus = place < beyond and quiet >= SHORT_SECONDS
                if not surplus and quiet <= self._bounds.quiet_seconds:
                    break
                self._end(one)

    def _is_crowded(self, source: str) -> bool:
        own = self._sources.get(source)
        return (
            self._total >= self._bounds.total
            or self._quiet >= self._bounds.quiet
            or (
                own is not None
                and (
                    len(own) >= self._bounds.per_source
                    or len(own.quiet) >= self._bounds.quiet_per_source
                )
            )
        )

    def _close(self, source: str, now: float) -> bool:
        bounds, own = self._bounds, self._sources.get(source, _Source())
        longest = next(iter(own.quiet), None)
        # A burst of honest requests that nobody has read yet may be longer.
        is_surplus = (
            longest is not None
            and len(own.quiet) >= bounds.quiet_per_source
            and now - longest.quiet_since >= SHORT_SECONDS
        )
        if is_surplus or len(own) >= bounds.per_source:
            return own.may_replace(bounds.replaced_per_second, now) and (
                self._end(longest)
            )
        if self._total >= bounds.total:
            largest = max(self._sources.values(), key=len)
            return self._end(largest.first() if len(largest) > len(own) else longest)
        if self._quiet >= bounds.quiet:
            largest = max(self._sources.values(), key=lambda one: len(one.quiet))
            return self._end(next(iter(largest.quiet)))
        return True

    def _end(self, connection: DoorConnection | None) -> bool:
        if connection is None:
            return False
        self.leave(connection)
        connection.close()
        return True

    def _all(self) -> list[DoorConnection]:
        return [
            one for own in self._sources.values() for one in (*own.quiet, *own.busy)
        ]

    def _forget(self, gone: Iterable[DoorConnection]) -> None:
        for one in list(gone):
            self.leave(one)
