"""One connection of a download, as its schedule sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from transfer.content.manifest import Manifest

_SMOOTHING = 0.3


@dataclass(slots=True, eq=False)
class PeerState:
    """What is known of one connection, and what was asked over it."""

    source: Hashable
    manifest: Manifest
    whole: bool
    """Whether its peer claims the whole artifact and vouches for the manifest."""
    have: bytearray
    """1 for each chunk of its manifest that the peer has."""
    mask: bytearray = field(default_factory=bytearray)
    """1 for each chunk of the favoured manifest that it can give."""
    asked: dict[int, float] = field(default_factory=dict)
    """Chunks asked of it and not yet answered, and when."""
    round_trip: float = 0.0
    chunk_seconds: float | None = None
    last_arrival: float = 0.0
    rest_until: float = 0.0
    rest_seconds: float = 0.0
    bytes_given: int = 0
    elsewhere: bytearray = field(default_factory=bytearray)
    """1 for each chunk that its peer sent to others lately, as far as it told."""
    declined: set[int] = field(default_factory=set)
    """Chunks that its peer sent us elsewhere for."""

    def note_arrival(self, index: int, now: float) -> None:
        """Learn how long a chunk took on its own, behind the one before it."""
        took = now - max(self.asked.get(index, now), self.last_arrival)
        if self.chunk_seconds is None:
            self.chunk_seconds = took
        else:
            self.chunk_seconds += _SMOOTHING * (took - self.chunk_seconds)
        self.last_arrival = now
        self.rest_until = self.rest_seconds = 0.0

    def sent_elsewhere(self, index: int) -> bool:
        """Whether its peer said that it sent this chunk to others lately."""
        return index < len(self.elsewhere) and self.elsewhere[index] == 1

    def waits_since(self, now: float) -> float:
        """Return since when the peer owes an answer; `now` where it owes none."""
        if not self.asked:
            return now
        return max(self.last_arrival, min(self.asked.values()))
