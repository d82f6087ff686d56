"""Offers that are withdrawn disappear at their keepers too."""

from __future__ import annotations

import dataclasses
import random

from dht.provider_store import ProviderStore
from dht.wire import Stored
from tests.dht.builders import NOW, address, key, provider
from tests.dht.test_service import providers, swarm, until

SOURCE = (b"source",)


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
    before = provider(key(1), 5, address(1), wall=NOW - 60)
    empty = dataclasses.replace(moved.slice, entries=b"")
    store.put(moved.node, moved.slice, SOURCE, now=0.0, lifetime=3600.0)
    status = store.put(before.node, empty, SOURCE, now=0.0, lifetime=3600.0)
    assert status is Stored.OLDER
    assert store.page(key(1), 0, 1.0).total == 1
    store.put(moved.node, empty, SOURCE, now=0.0, lifetime=3600.0)
    assert store.page(key(1), 0, 1.0).total == 0
    assert len(store) == store.bytes_held == 0
