"""Lookups on real sockets, beside `kademlia.network.Server` with the same ids.

Both networks live in this process, one after the other, on loopback. Ten seconds after
the last node has joined a share of the nodes is closed; then lookups of random targets
start from random live nodes. Recall is the share of the truly nearest live nodes in a
result.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kademlia.crawling import NodeSpiderCrawl
from kademlia.network import Server
from kademlia.node import Node

from dht import Address, Contact, Dht
from dht.limits import K
from dht.wire import FindNode
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.simulation.report import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

SETTLE_SECONDS = 10.0  # joins have brought about what they bring about

Found = tuple[float, list[bytes]]  # seconds, ids nearest first


def private_keys(count: int, seed: int) -> list[Ed25519PrivateKey]:
    """Return the node keys of a run."""
    rng = random.Random(f"keys {seed}")
    return [
        Ed25519PrivateKey.from_private_bytes(rng.randbytes(32)) for _ in range(count)
    ]


async def ours(count: int) -> list[Dht]:
    """Start our network; each node joins through three earlier ones."""
    rng = random.Random("join")
    nodes: list[Dht] = []
    for key in private_keys(count, 1):
        node = Dht(key)
        await node.start([Address("127.0.0.1", 0)])
        if nodes:
            known = rng.sample(nodes, min(3, len(nodes)))
            await node.join([each.addresses[0] for each in known])
        nodes.append(node)
    return nodes


async def our_lookup(node: Dht, target: bytes) -> Found:
    started_at = time.perf_counter()
    search = node.find_providers(target)
    async for _ in search:
        pass
    seconds = time.perf_counter() - started_at
    return seconds, [contact.node_id for contact in search.closest]


async def theirs(ids: list[bytes]) -> list[Server]:
    """Start a network of the package with the same ids, cut to its 160 bits."""
    rng = random.Random("join")
    servers: list[Server] = []
    ports: list[int] = []
    for node_id in ids:
        server = Server(ksize=K, alpha=3, node_id=node_id[:20])
        await server.listen(0, interface="127.0.0.1")
        ports.append(server.transport.get_extra_info("sockname")[1])
        if servers:
            known = rng.sample(ports[:-1], min(3, len(servers)))
            await server.bootstrap([("127.0.0.1", port) for port in known])
        servers.append(server)
    return servers


async def their_lookup(server: Server, target: bytes) -> Found:
    started_at = time.perf_counter()
    node = Node(target[:20])
    nearest = server.protocol.router.find_neighbors(node)
    crawl = NodeSpiderCrawl(server.protocol, node, nearest, server.ksize, server.alpha)
    found = await crawl.find()
    return time.perf_counter() - started_at, [each.id for each in found]


async def measure(
    members: list[Any],
    ids: list[bytes],
    dead: set[int],
    lookups: int,
    look: Callable[[Any, bytes], Coroutine[Any, Any, Found]],
    *,
    side_by_side: int,
) -> dict[str, Any]:
    """Look up random targets and judge the results."""
    rng = random.Random("targets")
    alive = [number for number in range(len(members)) if number not in dead]
    turns = asyncio.Semaphore(side_by_side)
    seconds: list[float] = []
    hits = wanted = corpses = 0
    dead_ids = {ids[number] for number in dead}

    async def one(asker: int, target: bytes) -> None:
        nonlocal hits, wanted, corpses
        async with turns:
            took, result = await look(members[asker], target)
        seconds.append(took)
        others = [ids[number] for number in alive if number != asker]
        aim = int.from_bytes(target[: len(ids[0])], "big")
        nearest = sorted(others, key=lambda each: int.from_bytes(each, "big") ^ aim)
        hits += len(set(nearest[:K]) & set(result))
        wanted += len(nearest[:K])
        corpses += len(dead_ids & set(result))

    await asyncio.gather(
        *(one(rng.choice(alive), rng.randbytes(32)) for _ in range(lookups))
    )
    return {
        "p50_ms": round(1000 * percentile(seconds, 0.5), 2),
        "p95_ms": round(1000 * percentile(seconds, 0.95), 2),
        "recall": round(hits / wanted, 4),
        "dead_per_result": round(corpses / lookups, 2),
        "lookups": lookups,
    }


async def compare(count: int, share: float, lookups: int) -> dict[str, Any]:
    """Measure both networks at one size and one share of dead nodes."""
    doomed = set(random.Random("dead").sample(range(count), round(share * count)))
    nodes = await ours(count)
    ids = [node.node_id for node in nodes]
    await asyncio.sleep(SETTLE_SECONDS)
    for number in sorted(doomed):
        await nodes[number].close()
    row = {
        "nodes": count,
        "dead": share,
        "caravan": await measure(
            nodes, ids, doomed, lookups, our_lookup, side_by_side=1
        ),
    }
    await asyncio.gather(*(node.close() for node in nodes))
    servers = await theirs(ids)
    await asyncio.sleep(SETTLE_SECONDS)
    for number in sorted(doomed):
        servers[number].stop()
    # Those that wait for timeouts wait side by side, or this would take hours.
    row["kademlia"] = await measure(
        servers,
        [each[:20] for each in ids],
        doomed,
        min(lookups, 40) if share else lookups,
        their_lookup,
        side_by_side=20 if share else 1,
    )
    for number, server in enumerate(servers):
        if number not in doomed:
            server.stop()
    return row


class Echo(asyncio.DatagramProtocol):
    """Sends back what comes, or counts it."""

    def __init__(self, *, answers: bool, in_flight: int = 0, total: int = 0) -> None:
        self.answers, self.in_flight, self.left = answers, in_flight, total
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.answers:
            self.transport.sendto(data, addr)
            return
        self.left -= 1
        if self.left > 0:
            self.transport.sendto(data, addr)
        elif not self.done.done():
            self.done.set_result(None)


async def echo_cpu(total: int) -> float:
    """Return the CPU microseconds of one bare exchange, both ends together."""
    loop = asyncio.get_running_loop()
    answering, _ = await loop.create_datagram_endpoint(
        lambda: Echo(answers=True), local_addr=("127.0.0.1", 0)
    )
    asking, counter = await loop.create_datagram_endpoint(
        lambda: Echo(answers=False, total=total), local_addr=("127.0.0.1", 0)
    )
    to = answering.get_extra_info("sockname")
    started_at = time.process_time()
    for _ in range(16):
        asking.sendto(bytes(200), to)
    async with asyncio.timeout(60):
        await counter.done
    used = time.process_time() - started_at
    answering.close()
    asking.close()
    return 1e6 * used / total


async def rpc_cpu(total: int) -> float:
    """Return the CPU microseconds of one find_node, both ends together."""
    nodes = [Dht(key) for key in private_keys(2, 9)]
    for node in nodes:
        await node.start([Address("127.0.0.1", 0)])
    await nodes[0].join([nodes[1].addresses[0]])
    running = nodes[0]._running
    assert running is not None
    asking = running.rpc_client
    contact = Contact(nodes[1].public_key, nodes[1].addresses[0])
    rng = random.Random(5)

    async def some() -> None:
        for _ in range(total // 16):
            assert await asking.call(contact, FindNode(rng.randbytes(32)))

    await some()
    started_at = time.process_time()
    await asyncio.gather(*(some() for _ in range(16)))
    used = time.process_time() - started_at
    await asyncio.gather(*(node.close() for node in nodes))
    return 1e6 * used / (16 * (total // 16))


def on_loop(name: str, work: Callable[[int], Coroutine[Any, Any, float]]) -> float:
    """Run a measurement on one kind of loop; the best of three."""
    make = uvloop.new_event_loop if name == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=make) as runner:
        return round(min(runner.run(work(8000)) for _ in range(3)), 1)


def rows(found: dict[str, Any], share: float) -> list[Row]:
    """Return one comparison as rows; only the healthy network has goals for time."""
    ours, theirs = found["caravan"], found["kademlia"]
    wanted = {
        "p50_ms": ("median lookup", "ms", Goal(0.05 if share else 1.0)),
        "p95_ms": ("95th percentile", "ms", Goal(0.05 if share else 1.0)),
        "recall": ("share of the truly nearest found", "", Goal(0.99, False, True)),
        "dead_per_result": ("dead nodes in a result", "", Goal(0, False)),
    }
    return [
        Row(
            what=what,
            ours=ours[name],
            unit=unit,
            theirs=theirs[name],
            beside="kademlia",
            goal=goal,
            more={"lookups": f"{ours['lookups']} and {theirs['lookups']}"},
        )
        for name, (what, unit, goal) in wanted.items()
    ]


def main() -> None:
    parser = make_parser("lookup", __doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[50, 200])
    parser.add_argument("--dead", type=float, nargs="*", default=[0.0, 0.3])
    parser.add_argument("--lookups", type=int, default=100)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the package logs every timeout
    report = Report("lookup", options.json)
    for count in options.nodes:
        for share in options.dead:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(compare(count, share, options.lookups))
            report.section(f"{count} nodes, {share:.0%} dead", rows(found, share))
    cpu = [
        Row(
            what=f"processor time of a find_node, both ends, on {name}",
            ours=on_loop(name, rpc_cpu),
            unit="us",
            theirs=on_loop(name, echo_cpu),
            beside="bare datagram echo",
        )
        for name in ("uvloop", "asyncio")
    ]
    report.section("Processor time", cpu, "The best of three runs.")
    report.end()


if __name__ == "__main__":
    main()
