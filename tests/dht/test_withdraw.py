"""Offers that are withdrawn disappear at their keepers too."""

from __future__ import annotations

import random

from dht.provider_store import ProviderStore
from tests.dht.builders import address, key, provider
from tests.dht.test_service import providers, swarm, until


async def test_keepers_are_told_that_an_offer_is_withdrawn() -> None:
    """It is found no more, long before its records would have ended."""
    async with swarm(8) as nodes:
        await nodes[1].offer([key(40), key(41)], 5000)
        nodes[1].withdraw([key(40)])
        kept = [node for node in nodes if node is not nodes[1]]
        await until(lambda: all(n.stats()["kept.providers"] == 1 for n in kept))
        assert await providers(nodes[5], key(40)) == []
        assert len(await providers(nodes[5], key(41))) == 1


def test_a_withdrawal_of_another_address_changes_nothing() -> None:
    """A node that has moved keeps what it announced since."""
    store = ProviderStore(random.Random(1))
    moved = provider(key(1), 5, address(2))
    store.put(moved, (b"source",), now=0.0, lifetime=3600.0)
    store.withdraw(provider(key(1), 5, address(1)))
    assert store.page(key(1), 0, 1.0).total == 1
    store.withdraw(moved)
    assert store.page(key(1), 0, 1.0).total == 0
    assert len(store) == 0
