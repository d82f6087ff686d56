"""How fast upstreams have answered lately, so that peers cost no time beside them.

Peers are asked before an origin, to spare it. An origin that would have sent the file
by then is not spared but waited for, so peers get a part of the time that it is
expected to take. What is expected follows recent answers, each counting for a quarter.
"""

from __future__ import annotations

SMALL_BYTES = 128 * 1024  # an answer of which hardly any time goes into its bytes
_WEIGHT = 0.25


class OriginPace:
    """Latencies in seconds and rates in bytes a second, by upstream."""

    def __init__(self) -> None:
        self._latency: dict[str, float] = {}
        self._rate: dict[str, float] = {}

    def measure(self, upstream: str, seconds: float, size: int) -> None:
        """Take in that an answer of `size` bytes took this long."""
        if size <= SMALL_BYTES:
            _blend(self._latency, upstream, seconds)
            return
        latency = self._latency.get(upstream, 0.0)
        # Where the latency is not known, it counts as part of the way of the bytes.
        _blend(self._rate, upstream, size / max(seconds - latency, seconds / 2, 1e-6))

    def expected(self, upstream: str, size: int | None) -> float | None:
        """Return how many seconds a file will take; None where nothing is known."""
        latency = self._latency.get(upstream)
        rate = self._rate.get(upstream)
        if latency is None and rate is None:
            return None
        return (latency or 0.0) + ((size or 0) / rate if rate else 0.0)

    def head_start(self, upstream: str, size: int | None, most: float) -> float:
        """Return for how many seconds peers are alone, `most` at most."""
        expected = self.expected(upstream, size)
        return most if expected is None else min(most, expected / 2)


def _blend(known: dict[str, float], name: str, value: float) -> None:
    before = known.get(name, value)
    known[name] = before + _WEIGHT * (value - before)
