"""Inventories on real sockets: many nodes that offer many different files each.

All nodes share one process and loopback. Processor time and bytes are those of
announcing alone, the keepers' part included, divided by the number of nodes. A file has
`--names` keys (SHA-256 and its aliases); aliases follow after the names.
"""

from __future__ import annotations

import asyncio
import random
import resource
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import uvloop

from dht import Address, Dht, Network, provider_key
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.dht.builders import private_key

if TYPE_CHECKING:
    import argparse

HERE = Address("127.0.0.1", 0)
ALGORITHMS = ("sha256", "sha512", "blake2b-256")
KIND_AT, REPLY = 10, 64
KINDS = {2: "lookups", 3: "searches", 4: "announces"}
PLACED_SECONDS_MAX = 180.0
SECONDS = 3.0
MEGABYTES = 3.0


def keys_of(number: int, files: int, algorithm: str) -> list[bytes]:
    """Return the keys of a node's files under one of their names."""
    return [
        provider_key(Network(), algorithm, b"%d %d" % (number, file))
        for file in range(files)
    ]


def count_bytes(nodes: list[Dht]) -> Counter[str]:
    """Return a counter that grows by the bytes that the nodes send, by their kind."""
    sent = Counter[str]()
    for node in nodes:
        running: Any = node._running
        transport = running.transport
        for owner in (transport, running.rpc_client):
            name = "send" if owner is transport else "_send"
            send = getattr(owner, name)

            def counted(data: bytes, to: Address, send: Any = send) -> Any:
                sent[KINDS.get(data[KIND_AT] % REPLY, "other")] += len(data)
                return send(data, to)

            setattr(owner, name, counted)
    return sent


async def until_placed(nodes: list[Dht]) -> float:
    """Wait until the nodes say that all is placed; return how long that took."""
    began = time.perf_counter()
    while time.perf_counter() - began < PLACED_SECONDS_MAX:
        reports = [node.placement() for node in nodes]
        if all(one.placed == one.offered for one in reports):
            break
        await asyncio.sleep(1.0)
    return time.perf_counter() - began


async def fleet(options: argparse.Namespace) -> list[Row]:
    """Announce everything, then look some files up."""
    nodes = [Dht(private_key(10_000 + n)) for n in range(options.nodes)]
    try:
        for node in nodes:
            await node.start([HERE])
        for number, node in enumerate(nodes[1:], 1):
            await node.join([nodes[0].addresses[0], nodes[number // 2].addresses[0]])
        await asyncio.sleep(3)
        sent = count_bytes(nodes)
        wall, cpu = time.perf_counter(), time.process_time()
        for algorithm in ALGORITHMS[: options.names]:
            for start in range(0, len(nodes), options.at_once):
                await asyncio.gather(
                    *(
                        nodes[n].offer(keys_of(n, options.files, algorithm), 5000)
                        for n in range(start, min(start + options.at_once, len(nodes)))
                    )
                )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        megabytes = {kind: n / 1e6 / len(nodes) for kind, n in sent.items()}
        placed = sum(node.placement().placed for node in nodes)
        later = await until_placed(nodes)
        again = sum(node.stats().get("retransmitted", 0) for node in nodes)
        given_up = sum(node.stats().get("timeouts", 0) for node in nodes)
        found = await look_up(nodes, options)
        placed_later = sum(node.placement().placed for node in nodes)
        offered = sum(node.placement().offered for node in nodes)
        kept = max(node.stats()["kept.provider_bytes"] for node in nodes)
    finally:
        await asyncio.gather(*(node.close() for node in nodes))
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        Row(
            what="found, of those looked up",
            ours=found,
            unit="",
            goal=Goal(1, ratio=False, at_least=True),
        ),
        Row(
            what="placed, of those offered",
            ours=placed_later / offered,
            unit="",
            goal=Goal(1, ratio=False, at_least=True),
            more={"at once": placed / offered, "s later": later},
        ),
        Row(
            what="processor for a node",
            ours=cpu / len(nodes),
            unit="s",
            goal=Goal(SECONDS, ratio=False),
        ),
        Row(
            what="sent by a node",
            ours=sum(megabytes.values()),
            unit="MB",
            goal=Goal(MEGABYTES, ratio=False),
            more={f"MB of {kind}": n for kind, n in sorted(megabytes.items())},
        ),
        Row(what="requests sent again", ours=again / len(nodes), unit="a node"),
        Row(what="requests given up", ours=given_up / len(nodes), unit="a node"),
        Row(what="by the clock, all nodes", ours=wall, unit="s"),
        Row(what="kept by the fullest keeper", ours=kept / 1e6, unit="MB"),
        Row(what="process, all nodes", ours=rss, unit="MB"),
    ]


async def look_up(nodes: list[Dht], options: argparse.Namespace) -> float:
    """Return the share of a sample of files that others find at their owners."""
    rng = random.Random("inventory")
    found = 0
    for _ in range(options.lookups):
        owner = rng.randrange(len(nodes))
        asker = rng.choice([n for n in range(len(nodes)) if n != owner])
        file = b"%d %d" % (owner, rng.randrange(options.files))
        key = provider_key(Network(), rng.choice(ALGORITHMS[: options.names]), file)
        records = {one.public_key async for one in nodes[asker].find_providers(key)}
        found += nodes[owner].public_key in records
    return found / float(options.lookups)


def main() -> None:
    parser = make_parser("inventory", __doc__)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--names", type=int, choices=(1, 2, 3), default=3)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--lookups", type=int, default=300)
    options = parser.parse_args()
    report = Report("inventory", options.json)
    title = f"{options.nodes} nodes, {options.files} files each"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report.section(title, runner.run(fleet(options)))
    report.end()


if __name__ == "__main__":
    main()
