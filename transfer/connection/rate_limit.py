"""Rate limits: a token bucket that worker threads share.

A bucket holds a tenth of a second's worth, so that the rate holds over any
longer time; without a limit it costs one comparison.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from transfer.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

_BURST_SECONDS = 0.1
_SLICES_PER_BURST = 2
_SLICE_BYTES_MIN = 4096


class RateLimiter:
    """Lets at most `bytes_per_second` through, summed over all threads."""

    def __init__(
        self,
        bytes_per_second: int | None,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = bytes_per_second
        self._stop = stop
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    @property
    def bytes_per_second(self) -> int | None:
        """The rate that holds now; None is no limit."""
        return self._rate

    def set_rate(self, bytes_per_second: int | None) -> None:
        """Let this much through from now on; None is no limit."""
        with self._lock:
            self._rate = bytes_per_second
            self._free_at = self._clock()

    def slice_bytes(self, largest: int) -> int:
        """Return how many bytes to take at once, at most `largest`."""
        rate = self._rate  # another thread may change it meanwhile
        if rate is None:
            return largest
        burst = int(rate * _BURST_SECONDS / _SLICES_PER_BURST)
        return min(largest, max(burst, _SLICE_BYTES_MIN))

    def acquire(self, count: int) -> None:
        """Wait until `count` bytes may pass; ClosedError once stopped."""
        delay = self.reserve(count)
        if delay > 0 and self._stop.wait(delay):
            raise ClosedError

    def reserve(self, count: int) -> float:
        """Take `count` bytes and return how many seconds to wait for them."""
        rate = self._rate  # another thread may change it meanwhile
        if rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - _BURST_SECONDS)
            self._free_at += count / rate
            return self._free_at - now
