"""Wall-clock time, in one place: dates of records need it, timers never do."""

from __future__ import annotations

import time
from collections.abc import Callable

Now = Callable[[], float]
"""Returns seconds since the epoch, UTC."""


def now() -> float:
    """Return the time of day of this machine."""
    return time.time()
