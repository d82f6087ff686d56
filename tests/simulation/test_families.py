"""IPv4, IPv6 and both: three kinds of nodes are one network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dht import Address, Network, provider_key
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.swarm import PORT, Swarm

if TYPE_CHECKING:
    from dht import Dht

OFFERED = 5000


def key(number: int) -> bytes:
    """Return the key of some artifact."""
    return provider_key(Network(), "sha256", b"%032d" % number)


async def addresses(node: Dht, wanted: bytes) -> set[Address]:
    """Return the addresses under which a key is offered."""
    return {record.address async for record in node.find_providers(wanted)}


class Mixed:
    """A swarm that grows by thirds: IPv4 only, IPv6 only, both."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        self.four: list[Dht] = []
        self.six: list[Dht] = []
        self.both: list[Dht] = []

    async def grow(self, count: int) -> None:
        """Add so many of each; all of them join through nodes of both families."""
        for _ in range(count):
            for kind in (self.both, self.four, self.six):
                number = len(self.swarm.nodes)
                hosts = [self.swarm.host(number), self.swarm.host6(number)]
                if kind is not self.both:
                    hosts = [hosts[kind is self.six]]
                node = await self.swarm.start(number, hosts=hosts)
                self.swarm.nodes.append(node)
                known = [each.addresses for each in self.both[:3]]
                kind.append(node)
                if known:
                    await node.join([each for pair in known for each in pair])
                await asyncio.sleep(1)


def test_offers_cross_from_one_family_to_the_other() -> None:
    """Through nodes that have both: an offer made over one is found over the other."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=21, link=Link(loss=0.02), cheap_keys=True)

        async def scenario() -> None:
            mixed = Mixed(swarm)
            await mixed.grow(14)
            await mixed.four[2].offer([key(4)], OFFERED)
            await mixed.six[2].offer([key(6)], OFFERED)
            await mixed.both[2].offer([key(46)], OFFERED)
            four = Address(mixed.four[2].addresses[0].host, OFFERED)
            six = Address(mixed.six[2].addresses[0].host, OFFERED)
            pair = {Address(a.host, OFFERED) for a in mixed.both[2].addresses}
            assert len(pair) == 2
            for asker in (mixed.four[9], mixed.six[9], mixed.both[9]):
                assert await addresses(asker, key(4)) == {four}
                assert await addresses(asker, key(6)) == {six}
                assert await addresses(asker, key(46)) & pair
            assert await addresses(mixed.both[9], key(46)) == pair
            # Far more than the three through which they joined.
            assert all(len(node.contacts()) >= 15 for node in swarm.nodes)
            for node in mixed.four:
                assert {s.contact.address.family for s in node.contacts()} == {4}
            for node in mixed.six:
                assert {s.contact.address.family for s in node.contacts()} == {6}
            for node in mixed.both:
                assert {s.contact.address.family for s in node.contacts()} == {4, 6}

        swarm.run(scenario())


def test_only_nodes_with_both_join_the_families() -> None:
    """Without nodes that have both, neither family hears of the other's offers."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=22, cheap_keys=True)

        async def scenario() -> None:
            mixed = Mixed(swarm)
            await mixed.grow(8)
            await mixed.four[2].offer([key(4)], OFFERED)
            for node in mixed.both:
                swarm.kill(node)
            assert await addresses(mixed.four[5], key(4))
            assert await addresses(mixed.six[5], key(4)) == set()

        swarm.run(scenario())


def test_one_slash_64_gets_few_places() -> None:
    """Forty nodes of one IPv6 /64: three in a table, two in a bucket of it."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=23, cheap_keys=True)

        async def scenario() -> None:
            mixed = Mixed(swarm)
            await mixed.grow(10)
            honest = [*mixed.six, *mixed.both]
            crowd = []
            for number in range(40):
                hosts = [f"2a00:ffff:1:2::{number + 1:x}"]
                node = await swarm.start(1000 + number, hosts=hosts)
                swarm.nodes.append(node)
                crowd.append(node.public_key)
                await node.join([Address(swarm.host6(0), PORT)])
            await asyncio.sleep(60)
            told = set()
            for node in honest:
                table = node._core.tables[6]
                inside = [c for c in table if c.public_key in crowd]
                told.update(inside)
                assert len(inside) <= 3
                for bucket in table.buckets:
                    members = [c for c in bucket.members() if c.public_key in crowd]
                    assert len(members) <= 2
            assert told
            search = honest[3].find_providers(key(1))
            assert [record async for record in search] == []
            near = [c for c in search.closest if c.public_key in crowd]
            # Each family's lookup takes two, and the crowd has one family.
            assert len(near) <= 2

        swarm.run(scenario())
