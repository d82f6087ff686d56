"""Activity: whether content moves now, so that work nobody waits for can pause.

The priority of a thread does not do this alone: Linux shares the processor among
sessions first (autogroups), so that a background thread of one process takes half of
it from a command of another, whatever its own priority is.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from transfer.errors import ClosedError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

QUIET_SECONDS = 0.2
"""Without a chunk or request for so long, nothing moves."""
PAUSES_SECONDS_MAX = 5.0
"""How long one job pauses in all, however much moves."""


class Activity:
    """When content last came or went, by a command or a peer; in any thread."""

    def __init__(self) -> None:
        self._moved_at = -math.inf

    def mark(self) -> None:
        """Say that content is moving at this moment."""
        self._moved_at = time.monotonic()

    def quiet_in(self, now: float) -> float:
        """Return in how many seconds it is quiet, if nothing moves; 0 if it is."""
        return max(self._moved_at + QUIET_SECONDS - now, 0.0)


class Pauses:
    """The pauses of one background job while content moves."""

    def __init__(self, activity: Activity, stop: threading.Event) -> None:
        self._activity = activity
        self._stop = stop
        self._left = PAUSES_SECONDS_MAX

    def pause(self, is_urgent: Callable[[], bool]) -> None:
        """Wait until nothing moves or somebody waits for the work.

        Raise ClosedError once `stop` is set.
        """
        while not self._stop.is_set():
            quiet_in = self._activity.quiet_in(time.monotonic())
            seconds = min(quiet_in, self._left, QUIET_SECONDS / 4)
            if seconds <= 0 or is_urgent():
                return
            self._stop.wait(seconds)
            self._left -= seconds
        raise ClosedError
