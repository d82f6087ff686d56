"""The only place of the DHT that reads a clock or draws entropy by itself.

Everything else is handed a `Clock` and a `random.Random`, so that the simulator
can run the same code in virtual time and replay it from a seed.
"""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for what is signed, one for what is measured."""

    def time(self) -> float:
        """Seconds since 1970, for the dates in records; may jump."""

    def monotonic(self) -> float:
        """Seconds that only grow, for timers and lifetimes."""


class SystemClock:
    """The clocks of this machine."""

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()


def system_entropy() -> random.Random:
    """Return the system's secure generator, behind the interface of `random`."""
    return random.SystemRandom()
