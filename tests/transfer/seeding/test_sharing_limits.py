"""Budgets are shared: every byte is counted once, slots go round, nobody lingers."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.transfer.conftest import until
from transfer import LeecherLimits, SeederLimits
from transfer.connection.rate_limit import RateLimiter

CHUNK = 256 * 1024
QUICK = 10**12
"""A limit that keeps nobody waiting, so that only its accounting shows."""


class Waiting:
    """As much of a session as its turn depends on."""

    def __init__(self, source: str) -> None:
        self.source = source


@pytest.fixture
def counted(monkeypatch):
    """Return how many bytes each limiter let through."""
    passed: dict[RateLimiter, int] = {}
    reserve = RateLimiter.reserve

    def count(self, length):
        passed[self] = passed.get(self, 0) + length
        return reserve(self, length)

    monkeypatch.setattr(RateLimiter, "reserve", count)
    return passed


@pytest.mark.parametrize("encryption", [True, False], ids=["tls", "plaintext"])
async def test_every_byte_of_all_downloads_passes_one_limiter_once(
    new_node, counted, encryption
):
    """Upload and download, large and small, whole and passed on, several at a time."""
    limits = {
        "seeder_limits": SeederLimits(bytes_per_second=QUICK),
        "leecher_limits": LeecherLimits(bytes_per_second=QUICK),
        "encryption": encryption,
    }
    seeder, leecher = await new_node(**limits), await new_node(**limits)
    sizes = [5, 20_000, CHUNK, CHUNK + 1, 7 * CHUNK]
    artifacts = [seeder.store.add_bytes(os.urandom(size)) for size in sizes]
    await asyncio.gather(
        *(leecher.download(one.digest, [seeder.peer]) for one in artifacts)
    )
    up = seeder.seeder._uploads.rate
    down = leecher.leecher._context.rate
    assert seeder.seeder.stats.bytes_sent == sum(sizes)
    assert leecher.leecher.stats.bytes_received == sum(sizes)
    for limiter in (up, down):
        assert sum(sizes) <= counted[limiter] <= 1.01 * sum(sizes)  # heads count too


async def test_a_free_slot_goes_to_the_source_with_the_fewest(new_node):
    """Whoever opens many connections waits behind who has one."""
    seeder = (await new_node()).seeder
    busy = [Waiting("many") for _ in range(3)]
    seeder._serving = dict.fromkeys(busy[:1])
    alone = Waiting("one")
    seeder._waiting.extend([*busy[1:], alone])
    try:
        assert seeder._next_session() is alone
        assert seeder._next_session() is busy[1]
    finally:
        seeder._serving = {}
        seeder._waiting.clear()


async def test_a_connection_that_nobody_needs_ends(new_node):
    """The leecher closes it, well before the seeder would."""
    seeder = await new_node()
    leecher = await new_node(leecher_limits=LeecherLimits(warm_seconds=0.2))
    artifact = seeder.store.add_bytes(os.urandom(CHUNK + 1))
    await leecher.download(artifact.digest, [seeder.peer])
    await until(lambda: seeder.seeder.stats.connections == 0)
