"""Random faults all mixed, from many seeds, and invariants that must hold in all.

Each seed draws a network of its own: loss, duplication, nodes behind a NAT, liars
who name false addresses. Then nodes die, return, are parted and joined while they
offer keys and store records. In the end the network is whole again and is judged.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from dht.limits import PEERS_REMEMBERED_MAX, K
from tests.simulation.adversary import corrupt
from tests.simulation.filled import Ids
from tests.simulation.lookups import key_of
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.publishing import release_of
from tests.simulation.report import Progress, Result
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Dht, ReleaseRecord

DEFAULTS = {"seeds": 20, "seed": 1, "nodes": 40, "minutes": 15.0}
DRAWS = False


class Soak:
    """One run from one seed."""

    def __init__(self, seed: int, nodes: int, minutes: float) -> None:
        self.rng = random.Random(f"soak {seed}")
        self.seed = seed
        self.count = nodes
        self.seconds = 60 * minutes
        self.failures: list[str] = []
        self.messages = 0
        self.trace = ""
        self._offered: dict[int, bytes] = {}
        self._records: list[ReleaseRecord] = []
        self._cut: set[int] = set()
        self._liars: set[int] = set()

    def run(self) -> None:
        """Live through the faults and judge what is left."""
        with virtual_time() as loop:
            self.link = Link(
                loss=self.rng.choice([0.0, 0.02, 0.1]),
                duplication=self.rng.choice([0.0, 0.05]),
                sigma=self.rng.choice([0.3, 0.6, 1.2]),
            )
            self.swarm = Swarm(loop, self.seed, link=self.link, cheap_keys=True)
            self.swarm.run(self._scenario())
            self.messages = self.swarm.network.counters["sent"]
            self.trace = self.swarm.network.trace

    async def _scenario(self) -> None:
        await self.swarm.grow(self.count)
        for number in self.rng.sample(range(1, self.count), self.count // 10):
            self.swarm.network.put_behind_nat(self.swarm.host(number))
        end = self.swarm.loop.time() + self.seconds
        self._corrupt_some()
        while self.swarm.loop.time() < end:
            await asyncio.sleep(self.rng.expovariate(1 / 20))
            await self._fault()
        self.swarm.network.part({})
        self.swarm.network.link = Link()
        for number in sorted(self._cut):
            self.swarm.network.revive(self.swarm.host(number))
        self._cut.clear()
        await asyncio.sleep(300)
        self._judge_nodes()
        await self._judge_finding()
        await self.swarm.close()

    def _corrupt_some(self) -> None:
        chosen = self.rng.sample(range(self.count), self.rng.choice([0, 2]))
        liars = Ids(self.swarm.shared_contact(self.swarm.nodes[n]) for n in chosen)
        everybody = Ids(self.swarm.shared_contact(n) for n in self.swarm.nodes)
        for number in chosen:
            corrupt(self.swarm.nodes[number], "forged", liars, everybody)
            self._liars.add(number)

    async def _fault(self) -> None:
        """Let one thing happen."""
        deed = self.rng.choice(
            ["die", "die", "return", "part", "heal", "offer", "keep"]
        )
        number = self.rng.randrange(self.count)
        node = self.swarm.nodes[number]
        network = self.swarm.network
        if deed == "die" and len(self._cut) < self.count // 3:
            network.kill(self.swarm.host(number))
            self._cut.add(number)
        elif deed == "return" and self._cut:
            back = self.rng.choice(sorted(self._cut))
            network.revive(self.swarm.host(back))
            self._cut.discard(back)
        elif deed == "part":
            share = self.rng.uniform(0.1, 0.5)
            hosts = [self.swarm.host(each) for each in range(self.count)]
            network.part({host: self.rng.random() < share for host in hosts})
        elif deed == "heal":
            network.part({})
        elif deed == "offer" and number not in self._liars:
            key = key_of(number, self.seed)
            self._offered[number] = key
            await node.offer([key], 5000)
        elif deed == "keep" and number not in self._liars:
            now = node._core.clock.time()
            record = release_of(1 + len(self._records), now)
            self._records.append(record)
            await node.store_record(record, keep=True)

    def _judge_nodes(self) -> None:
        """Tables hold proven contacts only, and everything has its bound."""
        true = {n.public_key: n.addresses[0] for n in self.swarm.nodes}
        for number, node in enumerate(self.swarm.nodes):
            for status in node.contacts():
                contact = status.contact
                if true.get(contact.public_key) != contact.address:
                    self._fail(f"node {number} tables a false contact {contact}")
            for name, size, bound in sizes(node):
                if size > bound:
                    self._fail(f"node {number} holds {size} {name}, not {bound}")

    async def _judge_finding(self) -> None:
        """Look for everything that was offered or is kept, from anywhere."""
        askers = [n for n in range(self.count) if n not in self._liars]
        for number, key in self._offered.items():
            asker = self.swarm.nodes[self.rng.choice(askers)]
            found = {r.public_key async for r in asker.find_providers(key)}
            wanted = self.swarm.nodes[number].public_key
            if wanted not in found and asker.public_key != wanted:
                self._fail(f"the key of node {number} is not found")
        for record in self._records:
            asker = self.swarm.nodes[self.rng.choice(askers)]
            search = await asker.find_record(record.key(asker._core.network))
            if search.newest != record:
                self._fail("a kept record is not found")

    def _fail(self, sentence: str) -> None:
        self.failures.append(f"seed {self.seed}: {sentence}")


def sizes(node: Dht) -> list[tuple[str, int, int]]:
    """Return what a node holds, how much of it, and how much it may."""
    running: Any = node._running
    known: Any = node._core.peer_memory
    return [
        ("tokens", len(known._tokens), PEERS_REMEMBERED_MAX),
        ("proofs", len(known._proven), PEERS_REMEMBERED_MAX),
        ("silent addresses", len(known.unresponsive._addresses), PEERS_REMEMBERED_MAX),
        ("requests in flight", running.rpc_client.in_flight, 64),
        ("contacts", len(node.contacts()), K * 64),
        ("tasks", len(node._tasks), 16),
        ("waiting datagrams", len(running.transport._ingress), 1024),
    ]


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    failures: list[str] = []
    messages = 0
    for number in range(options.seeds):
        soak = Soak(options.seed + number, options.nodes, options.minutes)
        soak.run()
        failures += soak.failures
        messages += soak.messages
        progress.show("seeds", number + 1, options.seeds)
    figures = {
        "seeds": options.seeds,
        "failed_seeds": sorted({line.split(":")[0] for line in failures}),
        "messages": messages,
    }
    return Result(figures, failed=failures)
