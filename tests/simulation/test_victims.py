"""False contacts: a stranger's address, told to everybody, is left alone soon.

Liars name one address for keys that they have made up. Whoever believes them asks
there for somebody who does not exist, and the bystander at that address gets the
datagrams. A node spends ten requests an hour on an address that never answers.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from dht import Address, Contact, Network, provider_key
from tests.simulation.loop import virtual_time
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    from dht import Dht
    from dht.in_flight import Asked

VICTIM = Address("99.9.9.9", 4747)
ATTEMPTS_PER_HOUR = 10
SENDINGS = 3  # a request is sent twice more


def key(number: int) -> bytes:
    """Return the key of some artifact."""
    return provider_key(Network(), "sha256", b"%032d" % number)


def accuse(node: Dht, named: Address, rng: random.Random) -> None:
    """Let a node answer every question with false contacts at one address."""
    running: Any = node._running

    def false(asked: Asked, target: bytes, limit: int) -> list[Contact]:
        # Near the target, so that they are asked before anybody else.
        return [Contact(rng.randbytes(32), named) for _ in range(limit)]

    running.rpc_server._nearest = false


class Wire:
    """Counts what is sent to a host, by who sends it."""

    def __init__(self, swarm: Swarm, host: str) -> None:
        self.sent: Counter[str] = Counter()
        self.bytes_sent = 0
        self._host = host
        self._send = swarm.network.send
        swarm.network.send = self._count  # type: ignore[method-assign]

    def _count(self, data: bytes, source: Any, to: Any) -> None:
        if to[0] == self._host:
            self.sent[source[0]] += 1
            self.bytes_sent += len(data)
        self._send(data, source, to)


def test_a_victim_named_thousands_of_times_is_asked_ten_times_an_hour() -> None:
    """By each node that is lied to, however often it looks something up."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=31, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(30)
            rng = random.Random(31)
            for liar in swarm.nodes[:6]:
                accuse(liar, VICTIM, rng)
            wire = Wire(swarm, VICTIM.host)
            asker = swarm.nodes[20]
            await asker.offer([key(-1)], 5000)
            for number in range(100):
                search = swarm.nodes[20].find_providers(key(number))
                assert [record async for record in search] == []
                await asyncio.sleep(30)
            spent = wire.sent[asker.addresses[0].host]
            assert 0 < spent <= ATTEMPTS_PER_HOUR * SENDINGS
            assert max(wire.sent.values()) <= ATTEMPTS_PER_HOUR * SENDINGS
            await swarm.close()

        swarm.run(scenario())


def test_a_node_that_is_slandered_is_found_all_the_same() -> None:
    """False keys at the address of an honest keeper do not hide the keeper."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=32, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(30)
            rng = random.Random(32)
            honest = swarm.nodes[25]
            for liar in swarm.nodes[:6]:
                accuse(liar, honest.addresses[0], rng)
            newcomer = await swarm.start(100)
            await newcomer.join([node.addresses[0] for node in swarm.nodes[:8]])
            for number in range(20):
                async for _ in newcomer.find_providers(key(number)):
                    pass
            wanted = [n for n in range(20, 400) if swarm.nearest(key(n), 1) == [honest]]
            assert wanted
            for number in wanted:
                search = newcomer.find_providers(key(number))
                assert [record async for record in search] == []
                assert search.closest[0].node_id == honest.node_id

        swarm.run(scenario())
