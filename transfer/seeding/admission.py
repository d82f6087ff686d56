"""Admission: who may connect, and who gives way when there is no room.

The room of a seeder is shared between sources (`source_of`: an IPv4 address, an IPv6
/64), so that nobody gains by opening more connections. Everything here is a plain
object that gets the time as an argument. The rules:

1. Room for handshakes is bounded in total. When it is full, the largest source loses
   the handshake that has gone longest without completing a step (magic, TLS, hello);
   single bytes are no step. A source with many handshakes loses those that stall even
   while there is room.
2. TLS costs processor time, so the handshakes a second are bounded, too. Those that
   wait for their turn get it in rounds, one for each source.
3. Room for connections is bounded in total and for each source. When either is full,
   the slowest connection of the largest source, or of the one at its bound, gives way,
   if it had time to show its pace and fell short of `bytes_per_second_min`. A slow
   line is therefore cut only when somebody waits for its place.
4. If nobody has to give way, the newcomer is refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_SILENT_SECONDS = 0.1
_STALL_SECONDS = 0.5
"""How long a step may take when all room is taken; the first comes with the peer."""
_ROUND_SECONDS = 10.0
_PACE_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Handshake:
    """One handshake under way."""

    source: str
    step_at: float
    """When it began, or completed its last step."""
    steps: int = 0

    def step(self, now: float) -> None:
        """Complete a step."""
        self.steps += 1
        self.step_at = now


class HandshakeRoom:
    """The handshakes under way, and which of them gives way."""

    def __init__(
        self, *, total_max: int, per_source_max: int, stall_seconds: float
    ) -> None:
        self._total_max = total_max
        self._per_source_max = per_source_max
        self._stall_seconds = stall_seconds
        self._sources: Counter[str] = Counter()
        self._open: dict[Handshake, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_full(self) -> bool:
        """Whether a newcomer has to wait until a handshake ends."""
        return len(self._open) >= self._total_max

    def begin(self, source: str, now: float) -> Handshake:
        """Count a handshake."""
        handshake = Handshake(source, now)
        self._open[handshake] = None
        self._sources[source] += 1
        return handshake

    def end(self, handshake: Handshake) -> None:
        """Forget a handshake; twice does no harm."""
        if handshake in self._open:
            del self._open[handshake]
            _discount(self._sources, handshake.source)

    def victim(self, source: str, now: float) -> Handshake | None:
        """Return the handshake that gives way to one of `source`, or None."""
        if self.is_full:
            largest = _largest(self._sources, source)
            return self._stalled(largest, now, _STALL_SECONDS)
        if self._sources[source] >= self._per_source_max:
            return self._stalled(source, now, self._stall_seconds)
        return None

    def _stalled(self, source: str, now: float, seconds: float) -> Handshake | None:
        """Return the one of a source that is furthest behind its time, or None."""

        def overdue(one: Handshake) -> float:
            # The first step comes with the connection: it needs no round trip.
            allowed = seconds if one.steps else min(seconds, _SILENT_SECONDS)
            return now - one.step_at - allowed

        candidates = (one for one in self._open if one.source == source)
        worst = max(candidates, key=overdue, default=None)
        return worst if worst is not None and overdue(worst) >= 0 else None


class TlsBudget:
    """How many TLS handshakes may begin, and whose is next."""

    def __init__(self, per_second: float, now: float) -> None:
        self._rate = per_second
        self._tokens = per_second  # so many at once, after a pause
        self._filled_at = self._round_at = now
        self._begun: Counter[str] = Counter()
        self._waiting: dict[Handshake, None] = {}

    @property
    def is_waiting(self) -> bool:
        """Whether anybody waits for a turn."""
        return bool(self._waiting)

    def ask(self, handshake: Handshake) -> None:
        """Wait for a turn."""
        self._waiting[handshake] = None

    def withdraw(self, handshake: Handshake) -> None:
        """Wait no longer."""
        self._waiting.pop(handshake, None)

    def grant(self, now: float) -> list[Handshake]:
        """Return those whose turn it is."""
        earned = (now - self._filled_at) * self._rate
        self._tokens = min(self._tokens + earned, self._rate)
        self._filled_at = now
        if now - self._round_at >= _ROUND_SECONDS:
            self._round_at = now
            self._begun.clear()
        granted = []
        while self._waiting and self._tokens >= 1:
            # The first of the source that had the fewest turns.
            chosen = min(self._waiting, key=lambda one: self._begun[one.source])
            del self._waiting[chosen]
            self._begun[chosen.source] += 1
            self._tokens -= 1
            granted.append(chosen)
        return granted


class Paced(Protocol):
    """What is asked of a connection that may have to give way."""

    @property
    def source(self) -> str:
        """Its source."""

    @property
    def pace(self) -> UploadPace:
        """How fast it takes what it is sent."""


C = TypeVar("C", bound=Paced)


class UploadPace:
    """How many bytes a second went out lately, over 5 to 10 seconds."""

    def __init__(self, now: float) -> None:
        self._older = self._newer = (now, 0)
        self._bytes = 0

    def add(self, count: int) -> None:
        """Count bytes that were sent."""
        self._bytes += count

    def tick(self, now: float) -> None:
        """Move the window on; call it at least every few seconds."""
        if now - self._newer[0] >= _PACE_SECONDS:
            self._older, self._newer = self._newer, (now, self._bytes)

    def is_known(self, now: float) -> bool:
        """Whether the connection is old enough to be judged."""
        return now - self._older[0] >= _PACE_SECONDS

    def bytes_per_second(self, now: float) -> float:
        """Return the rate over the window."""
        since, count = self._older
        return (self._bytes - count) / max(now - since, 1e-6)


class ConnectionRoom:
    """The connections of each source, and which of them gives way."""

    def __init__(
        self, *, total_max: int, per_source_max: int, bytes_per_second_min: float
    ) -> None:
        self.total_max = total_max
        self._per_source_max = per_source_max
        self._rate_min = bytes_per_second_min
        self._sources: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._sources.total()

    def begin(self, source: str) -> None:
        """Count a connection, from its acceptance on."""
        self._sources[source] += 1

    def end(self, source: str) -> None:
        """Forget a connection."""
        _discount(self._sources, source)

    def fullness(self, source: str) -> str | None:
        """Return why there is no room for one more of `source`, or None."""
        if self._sources[source] >= self._per_source_max:
            return "too many connections of one source"
        if len(self) >= self.total_max:
            return "too many connections"
        return None

    def victim(self, source: str, candidates: Collection[C], now: float) -> C | None:
        """Return the one of `candidates` that gives way to `source`, or None."""
        if self._sources[source] >= self._per_source_max:
            loser = source
        else:
            loser = _largest(self._sources, source)
        return self.slowest((one for one in candidates if one.source == loser), now)

    def slowest(self, candidates: Iterable[C], now: float) -> C | None:
        """Return the slowest of those that are judged to be too slow, or None."""
        judged = (one for one in candidates if one.pace.is_known(now))
        slowest = min(
            judged, key=lambda one: one.pace.bytes_per_second(now), default=None
        )
        if slowest and slowest.pace.bytes_per_second(now) < self._rate_min:
            return slowest
        return None


def _largest(sources: Counter[str], newcomer: str) -> str:
    """Return the source that would have the most after one more of `newcomer`."""
    return max(sources, key=lambda one: (sources[one] + (one == newcomer), one))


def _discount(sources: Counter[str], source: str) -> None:
    sources[source] -= 1
    if sources[source] <= 0:
        del sources[source]
