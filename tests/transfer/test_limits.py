"""Rates hold within five percent; who takes many slots waits for the others."""

from __future__ import annotations

import threading

import pytest

from transfer.connection.peer import source_of
from transfer.connection.rate_limit import RateLimiter


@pytest.mark.parametrize("piece", [1_000, 16_384, 262_144, 1_048_576])
@pytest.mark.parametrize("rate", [100_000, 10_000_000])
def test_a_rate_holds_within_five_percent(rate, piece):
    """Over half a minute, whatever the size of the pieces, from a pause on."""
    now = [50.0]
    limiter = RateLimiter(rate, threading.Event(), lambda: now[0])
    now[0] += 10.0
    began, passed = now[0], 0
    while now[0] < began + 30:
        step = limiter.slice_bytes(piece)
        now[0] += max(limiter.reserve(step), 0.0)
        passed += step
    seconds = now[0] - began
    assert 0.95 * rate * seconds <= passed <= 1.05 * rate * seconds


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("8.8.4.4", "8.8.4.4"),
        ("::ffff:8.8.4.4", "8.8.4.4"),
        ("2001:4860:1:2:3::4", "2001:4860:1:2::/64"),
        ("127.0.0.1", "127.0.0.1"),
        ("192.168.1.7", "192.168.1.7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_sources(host, source):
    """A host or one customer's network; the port counts for nothing."""
    assert source_of(host) == source
