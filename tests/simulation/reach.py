"""Reach: most nodes are behind NATs, and files are fetched from them all the same.

Every node has a NAT of some kind or a public address. Those that cannot be dialled
reserve at introducers and name them in their provider records; then some of the
reachable nodes vanish, and leechers of every kind look for providers of every kind
and connect as `node.reach.connector` does: directly, by a reverse connection, by
hole punching, through a relay. TCP is simulated as far as connections go.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dht import Network, Reachable, Way, provider_key
from node.reach.connector import CALL_SECONDS_MAX, HEAD_START_SECONDS, WAY_NAMES
from node.reach.punching import ROUND_SECONDS, ROUNDS
from tests.simulation.filled import fill, fill_table
from tests.simulation.loop import VirtualLoop, virtual_time
from tests.simulation.nat import Nat, NatKind
from tests.simulation.network import Link
from tests.simulation.options import positive, share, whole
from tests.simulation.report import Progress, Result, percentile
from tests.simulation.swarm import PORT, Swarm
from tests.simulation.tcp import SimulatedTcp

if TYPE_CHECKING:
    import argparse
    from collections.abc import Coroutine, Sequence

    from dht import CalledBy, Dht, ProviderRecord
    from tests.simulation.nat import SocketAddress

DEFAULTS = {
    "nodes": 1000, "natted": 0.6, "dead": 0.1, "fetches": 1000, "relays": 1,
    "hole": 120.0, "loss": 0.0, "seed": 1,
}  # fmt: skip
OPTIONS = {
    "natted": (share, "share of nodes behind NATs"),
    "dead": (share, "share of reachable nodes that vanish before the fetches"),
    "fetches": (whole(1), "how many fetches"),
    "relays": (whole(0), "1 if introducers relay, 0 if not"),
    "hole": (positive, "seconds for which a NAT keeps a hole"),
}
DRAWS = False
KINDS: tuple[NatKind, ...] = ("full", "address", "port", "port", "symmetric")
"""Drawn evenly: port-restricted NATs are the most frequent."""
SETTLE_SECONDS = 150.0
DIAL_BACK, REVERSE = b"d", b"r"  # how openings begin here


@dataclass
class Meeting:
    """Two ends that come to an introducer; each learns the other's outer address."""

    first: SocketAddress | None = None
    other: asyncio.Future[tuple[SocketAddress, SocketAddress]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    async def join(self, seen: SocketAddress) -> SocketAddress:
        """Return the other end's address once both are here."""
        if self.first is None:
            self.first = seen
            return (await self.other)[1]
        if not self.other.done():
            self.other.set_result((self.first, seen))
        return self.first


class Party:
    """One node and what `node.reach` does for it, over simulated TCP."""

    def __init__(
        self, dht: Dht, tcp: SimulatedTcp, *, relays: bool, parties: dict[str, Party]
    ) -> None:
        self.dht = dht
        self._tcp = tcp
        self._here = (dht.addresses[0].host, PORT)
        self._relays = relays
        self._parties = parties
        self._awaited: dict[bytes, asyncio.Future[bool]] = {}
        self._meetings: defaultdict[bytes, Meeting] = defaultdict(Meeting)
        self._tasks: set[asyncio.Task[Any]] = set()
        parties[self._here[0]] = self
        tcp.listen(self._here, self._accept)
        dht.dial_back.watch(PORT, self._dial_back)

    def step(self) -> None:
        """Introduce others where this node can be dialled, else look for some."""
        introductions = self.dht.introductions
        tcp = self.dht.dial_back.reachable("tcp").reachable
        introductions.tcp_port = PORT if tcp is Reachable.YES else 0
        introductions.relays = self._relays and tcp is Reachable.YES
        introductions.expect_meeting = lambda _: True
        introductions.expect_relay = lambda _: self._relays
        introductions.on_called = self._called
        introductions.maintain(wanted=tcp is Reachable.NO)

    # --- the leecher ---------------------------------------------------------------

    async def connect(self, record: ProviderRecord) -> str | None:
        """Return the way that led to a provider; None where none did."""
        if not record.introducers:
            to = (record.address.host, record.address.port)
            return "directly" if await self._tcp.connect(self._here, to, b"") else None
        ways = [Way.PUNCH, Way.RELAY]
        if self.dht.dial_back.reachable("tcp").reachable is not Reachable.NO:
            ways.insert(0, Way.REVERSE)
        tasks = [
            asyncio.create_task(self._try(record, way, place * HEAD_START_SECONDS))
            for place, way in enumerate(ways)
        ]
        try:
            for done in asyncio.as_completed(tasks):
                if (way := await done) is not None:
                    return WAY_NAMES[way]
            return None
        finally:
            for task in tasks:
                task.cancel()

    async def _try(self, record: ProviderRecord, way: int, pause: float) -> int | None:
        await asyncio.sleep(pause)
        token = self.dht._core.rng.randbytes(16)
        arrived = self._awaited[token] = asyncio.get_running_loop().create_future()
        passed_on = await self.dht.introductions.call(
            record.public_key, record.introducers, port=PORT, token=token, way=way
        )
        if passed_on is None:
            return None
        at = (passed_on[0].address.host, passed_on[1])
        try:
            async with asyncio.timeout(CALL_SECONDS_MAX):
                if way == Way.REVERSE:
                    found = await arrived
                else:
                    found = await self._meet(at, way, token)
        except TimeoutError:
            return None
        return way if found else None

    async def _meet(self, at: SocketAddress, way: int, token: bytes) -> bool:
        """Meet the other end at an introducer; whether that led to a connection."""
        seen = self._tcp.network.outward("tcp", self._here, at)
        if not await self._tcp.connect(self._here, at, b""):
            return False
        other = await self._parties[at[0]].meeting(token).join(seen)
        # The news of the other end takes its time, which the introducer evens out.
        await asyncio.sleep(self._tcp.network.link.median_seconds)
        if way == Way.RELAY:
            return True
        for _ in range(ROUNDS):
            if await self._tcp.open_together(self._here, other, ROUND_SECONDS):
                return True
        return False

    # --- the other nodes -----------------------------------------------------------

    def meeting(self, token: bytes) -> Meeting:
        """Return, as an introducer, the meeting of a token."""
        return self._meetings[token]

    def _called(self, call: CalledBy) -> bool:
        self._spawn(self._answer(call))
        return True

    async def _answer(self, call: CalledBy) -> None:
        if call.way == Way.REVERSE:
            to = (call.caller.host, call.port)
            await self._tcp.connect(self._here, to, REVERSE + call.token)
            return
        at = (call.introducer.address.host, call.introducer_port)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CALL_SECONDS_MAX):
                await self._meet(at, call.way, call.token)

    def _dial_back(self, host: str, port: int, nonce: bytes) -> None:
        source = (self._here[0], PORT + 1)
        self._spawn(self._tcp.connect(source, (host, port), DIAL_BACK + nonce))

    def _accept(self, opening: bytes, source: SocketAddress) -> None:
        what, token = opening[:1], opening[1:]
        if what == DIAL_BACK:
            self.dht.dial_back.arrived_tcp(token, source[0])
        elif what == REVERSE and token in self._awaited:
            arrived = self._awaited[token]
            if not arrived.done():
                arrived.set_result(True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Experiment:
    """One run."""

    def __init__(
        self, loop: VirtualLoop, options: argparse.Namespace, progress: Progress
    ) -> None:
        self._options = options
        self._progress = progress
        self._rng = random.Random(f"reach {options.seed}")
        link = Link(loss=options.loss)
        self._swarm = Swarm(loop, options.seed, link=link, cheap_keys=True)
        self._tcp = SimulatedTcp(loop, self._swarm.network)
        self._parties: dict[str, Party] = {}
        self._kinds: dict[Dht, str] = {}

    async def run(self) -> Result:
        """Let the network settle, let some vanish, and fetch."""
        options, swarm = self._options, self._swarm
        for _ in range(options.nodes):
            await self._add()
        nodes = swarm.nodes
        public = [node for node in nodes if self._kinds[node] == "public"]
        ids = fill(swarm, public, options.seed)
        for node in nodes:
            if self._kinds[node] != "public":
                fill_table(node._core.tables[4], node.node_id, ids, self._rng)
        await self._settle(SETTLE_SECONDS)
        for number, node in enumerate(nodes):
            await node.offer([self._key(number)], PORT)
        await self._settle(30.0)
        doomed = self._rng.sample(public, round(options.dead * len(public)))
        for node in doomed:
            swarm.kill(node)
        alive = [n for n in range(len(nodes)) if nodes[n] not in set(doomed)]
        outcomes = []
        for done in range(options.fetches):
            leecher, seeder = self._rng.sample(alive, 2)
            outcomes.append(await self._fetch(leecher, seeder))
            self._progress.show("fetches", done + 1, options.fetches)
        return Result(self._figures([one for one in outcomes if one is not None]))

    async def _add(self) -> None:
        swarm, rng = self._swarm, self._rng
        number = len(swarm.nodes)
        kind = rng.choice(KINDS) if rng.random() < self._options.natted else "public"
        if kind != "public":
            nat = Nat(
                f"{77 + number // 65536}.{number // 256 % 256}.{number % 256}.9",
                kind,
                rng=rng,
                seconds=self._options.hole,
            )
            swarm.network.put_behind(swarm.host(number), nat)
        (node,) = await swarm.add()
        self._kinds[node] = kind
        Party(node, self._tcp, relays=bool(self._options.relays), parties=self._parties)

    async def _settle(self, seconds: float) -> None:
        """Let time pass; every five seconds each node looks at its reach."""
        for at in range(round(seconds / 5)):
            self._progress.show("settling", 5 * at, seconds)
            await asyncio.sleep(5)
            for party in self._parties.values():
                party.step()

    def _key(self, number: int) -> bytes:
        return provider_key(Network(), "sha256", b"%032d" % number)

    async def _fetch(self, leecher: int, seeder: int) -> Outcome | None:
        """Find a provider and connect to it; None where no introducer of it lives."""
        nodes, network = self._swarm.nodes, self._swarm.network
        own = nodes[seeder].introductions.introducers
        if own and all(network.is_dead(one.contact.address.host) for one in own):
            return None
        kinds = (self._kinds[nodes[leecher]], self._kinds[nodes[seeder]])
        record: ProviderRecord | None = None
        search = nodes[leecher].find_providers(self._key(seeder))
        async for each in search:
            if each.public_key == nodes[seeder].public_key:
                record = each
                break
        await search.aclose()
        if record is None:
            return Outcome(kinds, found=False, way=None, seconds=0.0)
        began = asyncio.get_running_loop().time()
        way = await self._parties[nodes[leecher].addresses[0].host].connect(record)
        took = asyncio.get_running_loop().time() - began
        return Outcome(kinds, found=True, way=way, seconds=took)

    def _figures(self, outcomes: Sequence[Outcome]) -> dict[str, Any]:
        total = max(len(outcomes), 1)
        ways = Counter(one.way for one in outcomes)
        verdicts = Counter(
            node.dial_back.reachable("tcp").reachable.value
            for node in self._swarm.nodes
        )
        figures: dict[str, Any] = {
            "fetches": len(outcomes),
            "found": sum(one.found for one in outcomes) / total,
            "fetched": sum(one.way is not None for one in outcomes) / total,
            **{f"nodes {word}": count for word, count in sorted(verdicts.items())},
        }
        for name in ("directly", *WAY_NAMES.values()):
            took = [one.seconds for one in outcomes if one.way == name]
            figures[name] = ways[name] / total
            figures[f"{name}, p95_s"] = percentile(took, 0.95)
        for kinds in sorted({one.kinds for one in outcomes}):
            mine = [one for one in outcomes if one.kinds == kinds]
            label = f"{kinds[0]} from {kinds[1]}"
            figures[label] = sum(one.way is not None for one in mine) / len(mine)
        return figures


@dataclass(frozen=True)
class Outcome:
    """How one fetch ended: kinds of leecher and seeder, and the way there."""

    kinds: tuple[str, str]
    found: bool
    way: str | None
    seconds: float


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run once."""
    with virtual_time() as loop:
        experiment = Experiment(loop, options, progress)
        return loop.run_until_complete(experiment.run())
