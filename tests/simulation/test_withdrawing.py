"""What is withdrawn vanishes from the network soon, and not only after its time."""

from __future__ import annotations

import asyncio

from dht import Dht, Network, provider_key
from tests.simulation.loop import virtual_time
from tests.simulation.swarm import Swarm

SECONDS = 10
KEYS = [provider_key(Network(), "sha256", bytes([n]) * 32) for n in range(20)]


async def providers(node: Dht, key: bytes) -> set[bytes]:
    return {record.public_key async for record in node.find_providers(key)}


def test_a_withdrawn_offer_is_found_no_more() -> None:
    """Others' offers of the same key stay; so do the node's other offers."""
    with virtual_time() as loop:
        swarm = Swarm(loop, 5)

        async def run() -> None:
            await swarm.grow(40)
            one, two, asker = swarm.nodes[3], swarm.nodes[17], swarm.nodes[30]
            await one.offer(KEYS, 5000)
            await two.offer(KEYS[:1], 5000)
            one.withdraw(KEYS[:10])
            await asyncio.sleep(SECONDS)
            assert await providers(asker, KEYS[0]) == {two.public_key}
            for key in KEYS[1:10]:
                assert await providers(asker, key) == set()
            for key in KEYS[10:]:
                assert await providers(asker, key) == {one.public_key}
            await one.offer(KEYS[:1], 5000)
            found = await providers(asker, KEYS[0])
            assert found == {one.public_key, two.public_key}
            await swarm.close()

        swarm.run(run())
