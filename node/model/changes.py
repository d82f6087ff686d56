"""Digests of which something was said, until the one who acts on that takes them.

What is offered follows from the catalogue. With this, a change costs what it touches,
not what is held.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet


class Changes:
    """Collects digests for one taker."""

    def __init__(self) -> None:
        self._pending: set[str] = set()

    @property
    def pending(self) -> AbstractSet[str]:
        """What `take` would return now."""
        return self._pending

    def mark(self, digests: Iterable[str]) -> None:
        """Count digests as changed."""
        self._pending.update(digests)

    def drain(self) -> frozenset[str]:
        """Return what changed, and begin anew."""
        taken, self._pending = self._pending, set()
        return frozenset(taken)
