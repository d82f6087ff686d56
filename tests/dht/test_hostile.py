"""Hostile traffic on real sockets: a small, seeded share of `scripts/bench hostile`."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any

import pytest

from dht import Address, Dht, Network
from dht.limits import INVENTORIES_BYTES_MAX
from tests.dht import hostile
from tests.dht.builders import key, private_key
from tests.simulation.swarm import CheapSigner, cheap_verify

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Address("127.0.0.1", 0)


@contextlib.asynccontextmanager
async def network(count: int, **options: Any) -> AsyncIterator[list[Dht]]:
    """Run nodes that know one another."""
    cheap = options.get("verify") is cheap_verify
    nodes = [
        Dht(CheapSigner(b"%d" % n) if cheap else private_key(300 + n), **options)
        for n in range(count)
    ]
    try:
        for node in nodes:
            await node.start([HERE])
        for node in nodes[1:]:
            await node.join([nodes[0].addresses[0]])
        yield nodes
    finally:
        await asyncio.gather(*(node.close() for node in nodes))


@pytest.fixture
def unhandled() -> list[Any]:
    """Collect what tasks and callbacks raise and nobody handles."""
    return []


async def test_mutated_datagrams_are_counted_and_harmless(unhandled: list[Any]) -> None:
    """No crash, no task exception; the node answers as before."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    async with network(3) as nodes:
        spent = await hostile.fuzz(nodes[0], 20_000, seed=1)
        assert spent.handled > 15_000
        await nodes[1].offer([key(1)], 5000)
        assert [r async for r in nodes[2].find_providers(key(1))]
        stats = nodes[0].stats()
        assert stats["dropped.msgpack"] + stats["dropped.shape"] > 1000
    assert unhandled == []


async def test_honest_lookups_succeed_during_a_flood() -> None:
    """Sources take turns, so a flood from one address delays nobody for long."""
    async with network(6) as nodes:
        for number, node in enumerate(nodes):
            await node.offer([key(number)], 5000)
        flooding = asyncio.create_task(hostile.flood(nodes[0], 4000, seed=2))
        found = []
        for number in range(24):
            asker = nodes[1 + number % 5]
            records = [r async for r in asker.find_providers(key(number % 6))]
            found.append(bool(records) or nodes[number % 6] is asker)
        await flooding
        assert all(found)
        assert nodes[0].stats()["dropped.queue"] >= 0


async def test_stores_from_many_addresses_stay_within_their_caps() -> None:
    """And the oldest honest record is still served."""
    async with network(3, verify=cheap_verify) as nodes:
        await nodes[1].offer([key(7)], 5000)
        spent = await hostile.spam_stores(nodes[0], 4000, hosts=10)
        assert spent.handled >= 0.9 * spent.datagrams
        assert nodes[0].stats()["kept.provider_bytes"] <= INVENTORIES_BYTES_MAX
        assert nodes[0].stats()["kept.providers"] > 100
        found = [r.public_key async for r in nodes[2].find_providers(key(7))]
        assert found == [nodes[1].public_key]


async def test_a_token_is_good_for_its_address_only() -> None:
    """Replayed from elsewhere, it lets nobody write."""
    async with network(1, verify=cheap_verify) as (node,):
        rng = random.Random(3)
        tokens = []
        async for sock, signer, token in hostile.writers(node, 2):
            tokens.append(token)
            used = tokens[0]
            body = hostile.announce_of(signer, sock.getsockname()[0], used)
            before = node.stats()["received"]
            to = (node.addresses[0].host, node.addresses[0].port)
            sock.sendto(hostile.request(body, signer.public_key, rng), to)
            await hostile.read_by(node, before + 1, seconds=5)
        assert tokens[0] != tokens[1]
        assert node.stats()["kept.providers"] == 1


async def test_foreign_networks_get_no_answer() -> None:
    """Each is told from the other by its tag, and neither answers the other."""
    other = Network("other")
    async with network(2) as nodes, network(1, network=other) as (stranger,):
        assert await stranger.join([nodes[0].addresses[0]]) == 0
        assert nodes[0].stats()["dropped.network"] >= 1
        assert stranger.contacts() == []


async def test_a_bootstrap_node_that_lies_names_nobody_into_a_table() -> None:
    """Contacts enter a table only after they have proved their id themselves."""
    async with network(3) as nodes:
        liar = nodes[0]
        running: Any = liar._running
        fakes = [hostile.fake_contact(number) for number in range(20)]
        running.rpc_server._nearest = lambda asked, target, limit: fakes[:limit]
        newcomer = Dht(private_key(400))
        await newcomer.start([HERE])
        try:
            assert await newcomer.join([liar.addresses[0]]) == 1
            tabled = {status.contact for status in newcomer.contacts()}
            assert not tabled & set(fakes)
        finally:
            await newcomer.close()
