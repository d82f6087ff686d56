"""Placement: on how many keepers each offered key is stored, and since when not.

The counts are kept up to date as announces end, so a report costs the same for ten
keys and for a million.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from dht.limits import RENEW_SECONDS, K

_RENEWED_SECONDS: Final = 1.5 * RENEW_SECONDS  # a renewal and the time it may take


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """How well the keys on offer can be found.

    A key is placed if at least half of the keepers that it could have store it: k, or
    all contacts where fewer are known. `keepers` says how many keys have each number
    of keepers. No announcement is older than `oldest_seconds`, which should stay below
    the five hours that a record lives; None before the first sweep has ended.
    `behind_seconds` says for how long not all keys were placed, or renewed within
    three hours; None if they are.
    """

    offered: int
    placed: int
    keepers: dict[int, int]
    oldest_seconds: float | None
    behind_seconds: float | None

    @property
    def unplaced(self) -> int:
        """How many keys no node stores: only this node itself can be asked for them."""
        return self.keepers.get(0, 0)


class Placement:
    """Counts of the keys on offer by their number of keepers.

    `now` is in monotonic seconds.
    """

    def __init__(self) -> None:
        self._of_number: Counter[int] = Counter()
        self._renewed_at: float | None = None
        self._behind_since: float | None = None

    def move(self, before: int | None, after: int | None, keys: int = 1) -> None:
        """Count keys whose keepers are more or fewer; None where not offered."""
        if before == after or not keys:
            return
        if before is not None:
            self._of_number[before] -= keys
            if not self._of_number[before]:
                del self._of_number[before]
        if after is not None:
            self._of_number[after] += keys

    @property
    def least(self) -> int:
        """How many nodes store each key at least; k where nothing is offered."""
        return min(self._of_number, default=K)

    def swept(self, known: int, now: float, *, all_since: float | None = None) -> None:
        """Judge the end of a sweep; one of all keys began at `all_since`."""
        if all_since is not None:
            self._renewed_at = all_since
        if self._placed(known) == self._of_number.total():
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now

    def report(self, known: int, now: float) -> PlacementReport:
        """Return the counts; `known` is the number of contacts of the tables."""
        oldest = None if self._renewed_at is None else now - self._renewed_at
        since = self._behind_since
        if since is None and oldest is not None and oldest > _RENEWED_SECONDS:
            since = now - (oldest - _RENEWED_SECONDS)
        return PlacementReport(
            offered=self._of_number.total(),
            placed=self._placed(known),
            keepers=dict(sorted(self._of_number.items())),
            oldest_seconds=oldest,
            behind_seconds=None if since is None else now - since,
        )

    def _placed(self, known: int) -> int:
        enough = max(1, min(K, known) // 2)
        return sum(n for number, n in self._of_number.items() if number >= enough)
