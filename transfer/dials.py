"""How often one address is dialled in vain.

Anybody may have a leecher dial some address, by an announcement or as a seeder's word.
So that this cannot be aimed at a stranger, an address that did not turn out to be the
peer it was named as is dialled ten times an hour and no more.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from transfer.limits import DIALS_PER_HOUR_MAX, DIALS_REMEMBERED_MAX, DIALS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[str, int]


class Dials:
    """Counts what failed, by IP address and port."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[Key, tuple[float, int]] = {}
        """When the hour of an address began, and how often it has failed since."""

    def allow(self, host: str, port: int) -> bool:
        """Whether this may be dialled once more now."""
        began, count = self._failed.get((host, port), (0.0, 0))
        if count and self._clock() - began >= DIALS_SECONDS:
            del self._failed[host, port]
            return True
        return count < DIALS_PER_HOUR_MAX

    def failed(self, host: str, port: int) -> None:
        """Learn that nobody answered there, or not the one who was meant."""
        began, count = self._failed.pop((host, port), (self._clock(), 0))
        self._failed[host, port] = (began, count + 1)
        while len(self._failed) > DIALS_REMEMBERED_MAX:
            del self._failed[next(iter(self._failed))]

    def succeeded(self, host: str, port: int) -> None:
        """Learn that the peer that was meant is there."""
        self._failed.pop((host, port), None)
