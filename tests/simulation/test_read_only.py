"""Nodes that can ask and cannot be asked: behind a NAT, or read-only by wish.

They are in nobody's table, keep nothing for others and announce nothing, since who
came to fetch it would find a closed door. They look up and find like everybody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dht import Network, provider_key
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.publishing import release_of
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    from dht import Dht

REACHABLE = 30
HIDDEN = 10
OFFERED = 5000


def key(number: int) -> bytes:
    """Return the key of some artifact."""
    return provider_key(Network(), "sha256", b"%032d" % number)


async def providers(node: Dht, wanted: bytes) -> set[bytes]:
    """Return who offers a key."""
    return {record.public_key async for record in node.find_providers(wanted)}


def tabled(swarm: Swarm) -> set[bytes]:
    """Return the keys of all nodes that some table holds."""
    return {s.contact.public_key for n in swarm.nodes for s in n.contacts()}


async def hide(swarm: Swarm, count: int) -> list[Dht]:
    """Add nodes behind a NAT each: an address of its own, closed to the unasked."""
    hidden = []
    for _ in range(count):
        number = len(swarm.nodes)
        host = swarm.host(number)
        swarm.network.put_behind_nat(host, f"77.{number}.7.7")
        hidden += await swarm.add()
        await hidden[-1].join([each.addresses[0] for each in swarm.nodes[:3]])
    return hidden


def test_nodes_behind_a_nat_ask_and_are_not_asked() -> None:
    """A quarter of the network is: it finds all the rest has, and is told to nobody."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=41, link=Link(loss=0.02), cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(REACHABLE)
            hidden = await hide(swarm, HIDDEN)
            now = swarm.nodes[0]._core.clock.time()
            records = [release_of(1 + number, now) for number in range(5)]
            for node, number, record in zip(
                swarm.nodes, range(5), records, strict=False
            ):
                await node.offer([key(number)], OFFERED)
                await node.store_record(record)
            await asyncio.sleep(900)
            keys = {node.public_key for node in hidden}
            assert all(node.is_read_only for node in hidden)
            assert not tabled(swarm) & keys
            for place, node in enumerate(hidden):
                number = place % 5
                assert await providers(node, key(number)) == {
                    swarm.nodes[number].public_key
                }
                found = await node.find_record(records[number].key(Network()))
                assert found.newest == records[number]
                stats = node.stats()
                assert stats["kept.providers"] == stats["kept.records"] == 0
            for node in swarm.nodes[:REACHABLE]:
                search = node.find_providers(key(99))
                assert [record async for record in search] == []
                assert not {each.public_key for each in search.closest} & keys

        swarm.run(scenario())


def test_what_cannot_be_fetched_is_not_announced() -> None:
    """Not at once, not after an hour, and no lookups are spent on it."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=42, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(REACHABLE)
            (hidden,) = await hide(swarm, 1)
            (asked,) = await swarm.add(read_only=True)
            await asked.join([swarm.nodes[0].addresses[0]])
            for node in (hidden, asked):
                report = await node.offer([key(7), key(8)], OFFERED)
                assert report.stored == {key(7): 0, key(8): 0}
                assert report.requests == 0
            sent = hidden.stats()["sent"]
            await asyncio.sleep(3600)
            for number in (3, 12, 25):
                assert await providers(swarm.nodes[number], key(7)) == set()
            assert all(n.stats()["kept.providers"] == 0 for n in swarm.nodes)
            # Upkeep of an hour: some pings and refreshed buckets, no sweep a minute.
            assert hidden.stats()["sent"] - sent < 1000

        swarm.run(scenario())


def test_offers_are_announced_once_the_door_is_found_open() -> None:
    """The NAT forwards the port: the first probe shows it, and the offer goes out."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=43, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(REACHABLE)
            (node,) = await swarm.add()
            swarm.network.translate(swarm.host(REACHABLE), "77.7.7.7")
            await node.join([each.addresses[0] for each in swarm.nodes[:3]])
            assert (await node.offer([key(7)], OFFERED)).stored == {key(7): 0}
            while node.is_read_only:
                assert loop.time() < 7200
                await asyncio.sleep(10)
            await asyncio.sleep(120)
            found = swarm.nodes[12].find_providers(key(7))
            assert {str(r.address) async for r in found} == {f"77.7.7.7:{OFFERED}"}
            assert node.public_key in tabled(swarm)

        swarm.run(scenario())
