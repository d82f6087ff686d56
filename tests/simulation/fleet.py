"""A fleet: cold nodes of a private network that want the same files at one moment.

The DHT and the gateway's leases are the shipping code. The bytes are not sent: a node
that follows another one hears of its first byte a one-way delay after it came there.
The origin needs 50 ms to the first byte of a file and half a second for all of it.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from dht import Network, provider_key
from node.gateway.leases import OriginLeases
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.options import whole
from tests.simulation.report import Plot, Progress, Result, distribution, percentile
from tests.simulation.swarm import Swarm
from transfer import Peer, PeerError
from transfer.arrivals import Arrivals
from transfer.limits import FOLLOW_SILENCE_SECONDS

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncGenerator, Callable

    from dht import Dht

DEFAULTS = {"nodes": 200, "files": 30, "loss": 0.0, "killed": 0, "seed": 1}
OPTIONS = {
    "files": (whole(1), "how many files each node wants"),
    "killed": (whole(0), "how many nodes die while they ask the origin"),
}
LAN = Network("fleet", b"f" * 32)
DELAY_SECONDS = 0.002
ORIGIN_FIRST_SECONDS = 0.05
ORIGIN_SECONDS = 0.5
FILES_AT_ONCE = 8
AGAIN_SECONDS = 0.05
KIND = "sha256"


class Coming:
    """What has come of a file: all that its followers wait for is its first byte."""

    def __init__(self) -> None:
        self.size = self.length = 1
        self.ended = False
        self.error: Exception | None = None
        self.watchers: set[Callable[[], None]] = set()

    def read(self, offset: int, count: int) -> bytes:
        return b"x"[offset : offset + count]


class FleetNode:
    """A node: its DHT, its leases, and what it has and brings."""

    def __init__(self, fleet: Fleet, dht: Dht) -> None:
        self.dht = dht
        self.arrivals = Arrivals()
        self.held: set[bytes] = set()
        self.is_dead = False
        self._fleet = fleet
        follower: Any = self
        self.leases = OriginLeases(
            router=self, arrivals=self.arrivals, follower=follower, is_private=True
        )

    is_leased = True

    async def lease_holder(
        self, kind: str, name: bytes, failed: bytes | None
    ) -> Peer | None:
        """Ask the keepers as `ContentRouter.lease_holder` does."""
        key = provider_key(LAN, kind, name)
        search = self.dht.find_providers(key, lease=failed or self.dht.public_key)
        async for _ in search:
            continue
        holder = search.decide_holder()
        if holder is None or holder.public_key == self.dht.public_key:
            return None
        return Peer(holder.address.host, holder.address.port, holder.public_key)

    async def follow(
        self, peer: Peer, kind: str, name: bytes, *, start: int = 0
    ) -> AsyncGenerator[tuple[bytes, int | None], None]:
        """Wait for the first byte at another node, by the rules of the wire."""
        del start
        loop = asyncio.get_running_loop()
        other = self._fleet.at(peer)
        await asyncio.sleep(3 * DELAY_SECONDS)  # connect, and ask
        silent_since = loop.time()
        while loop.time() - silent_since < FOLLOW_SILENCE_SECONDS:
            if other.is_dead:
                raise PeerError
            arrival = other.arrivals.find(kind, name)
            if name in other.held or (arrival and arrival.file):
                await asyncio.sleep(DELAY_SECONDS)
                yield b"x", 1
                while name not in other.held:
                    if other.is_dead:
                        raise PeerError
                    await asyncio.sleep(AGAIN_SECONDS)
                return
            if arrival is not None:
                silent_since = loop.time()  # it says that it waits
            await asyncio.sleep(AGAIN_SECONDS if arrival is None else DELAY_SECONDS)
        raise PeerError

    async def bring(self, name: bytes) -> None:
        """Bring a file: follow who holds the lease, or ask the origin."""
        fleet = self._fleet
        with self.leases.turn(KIND, name) as turn:
            failed: Peer | None = None
            while (peer := await turn.leader(failed)) is not None:
                try:
                    async for _ in self.follow(peer, KIND, name):
                        fleet.first_byte(self, name)
                except PeerError:
                    failed = peer
                else:
                    self.held.add(name)
                    return
            fleet.copies[name] += 1
            await asyncio.sleep(ORIGIN_FIRST_SECONDS)
            fleet.first_byte(self, name)
            turn.begin(Coming())  # type: ignore[arg-type]
            if fleet.dies_now(self):
                self.is_dead = True
                return
            await asyncio.sleep(ORIGIN_SECONDS)
            self.held.add(name)

    async def bring_all(self, names: list[bytes]) -> None:
        """Bring all files, some at a time, as a package manager asks for them."""
        waiting = list(reversed(names))

        async def work() -> None:
            while waiting and not self.is_dead:
                name = waiting.pop()
                self._fleet.asked(self, name)
                await self.bring(name)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(FILES_AT_ONCE):
                tasks.create_task(work())


class Fleet:
    """All nodes, and what the origin sent."""

    def __init__(self, names: list[bytes], killed: int) -> None:
        self.copies = dict.fromkeys(names, 0)
        self.seconds: list[float] = []
        self._nodes: dict[bytes, FleetNode] = {}
        self._asked_at: dict[tuple[bytes, bytes], float] = {}
        self._to_die = killed

    def add(self, dht: Dht) -> FleetNode:
        node = self._nodes[dht.public_key] = FleetNode(self, dht)
        return node

    def at(self, peer: Peer) -> FleetNode:
        assert peer.public_key is not None
        return self._nodes[peer.public_key]

    def dies_now(self, node: FleetNode) -> bool:
        if not self._to_die or node.is_dead:
            return False
        self._to_die -= 1
        return True

    def asked(self, node: FleetNode, name: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._asked_at[node.dht.public_key, name] = now

    def first_byte(self, node: FleetNode, name: bytes) -> None:
        asked_at = self._asked_at.pop((node.dht.public_key, name), None)
        if asked_at is not None:
            self.seconds.append(asyncio.get_running_loop().time() - asked_at)


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    link = Link(median_seconds=DELAY_SECONDS / 2, loss=options.loss)
    with virtual_time() as loop:
        swarm = Swarm(loop, options.seed, link=link, cheap_keys=True)

        async def scenario() -> Result:
            rng = random.Random(f"fleet {options.seed}")
            names = [rng.randbytes(32) for _ in range(options.files)]
            fleet = Fleet(names, options.killed)
            nodes: list[FleetNode] = []
            for number in range(options.nodes):
                known = [node.addresses[0] for node in swarm.nodes]
                (dht,) = await swarm.add(read_only=False, network=LAN)
                if known:
                    await dht.join(rng.sample(known, min(3, len(known))))
                nodes.append(fleet.add(dht))
                progress.show("joins", number + 1, options.nodes)
            await asyncio.sleep(30)
            await asyncio.gather(*(node.bring_all(names) for node in nodes))
            alive = [node for node in nodes if not node.is_dead]
            return _result(fleet, alive, options)

        return swarm.run(scenario())


def _result(
    fleet: Fleet, alive: list[FleetNode], options: argparse.Namespace
) -> Result:
    copies = list(fleet.copies.values())
    beyond = [seconds - ORIGIN_FIRST_SECONDS for seconds in fleet.seconds]
    whole = sum(len(node.held) for node in alive)
    figures = {
        "copies": sum(copies) / len(copies),
        "copies_most": max(copies),
        "got_all": whole / (len(alive) * options.files),
        "first_byte_beyond_origin_p50_s": percentile(beyond, 0.5),
        "first_byte_beyond_origin_p99_s": percentile(beyond, 0.99),
    }
    plot = Plot(
        f"{options.nodes:,} cold nodes want {options.files} files at one moment",
        "seconds to the first byte, beyond the origin's",
        "share of requests",
        {"first byte": distribution(beyond)},
    )
    return Result(figures, plot)
