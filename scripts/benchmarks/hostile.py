"""Hostile traffic against one node on real sockets, in the full counts.

Mutated datagrams; a flood while honest nodes look things up; stores from a hundred
addresses. The sender shares the process and the core, and its work is counted too.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import uvloop

from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.dht import hostile
from tests.dht.builders import key
from tests.dht.test_hostile import network
from tests.simulation.swarm import cheap_verify


async def fuzz(count: int) -> dict[str, Any]:
    """Mutated datagrams; afterwards the node must answer as before."""
    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: unhandled.append(context)
    )
    async with network(3) as nodes:
        await hostile.fuzz(nodes[0], 20_000, seed=0)  # what it needs once
        gc.collect()
        spent = await hostile.fuzz(nodes[0], count, seed=1)
        await nodes[1].offer([key(1)], 5000)
        answers = [record async for record in nodes[2].find_providers(key(1))]
        return {
            **spent.figures(),
            "unhandled": len(unhandled),
            "answers_afterwards": bool(answers),
        }


async def flood(count: int) -> dict[str, Any]:
    """Questions without a token from one address, beside honest lookups."""
    async with network(10) as nodes:
        for number, node in enumerate(nodes):
            await node.offer([key(number)], 5000)
        gc.collect()
        flooding = asyncio.create_task(hostile.flood(nodes[0], count, seed=2))
        asked = found = 0
        while not flooding.done():
            asker, offerer = nodes[1 + asked % 9], nodes[asked % 10]
            search = asker.find_providers(key(asked % 10))
            records = {record.public_key async for record in search}
            found += asker is offerer or offerer.public_key in records
            asked += 1
        spent = await flooding
        return {
            **spent.figures(),
            "honest_lookups": asked,
            "honest_found": found / asked,
        }


async def stores(count: int) -> dict[str, Any]:
    """Announces of eight keys each, from a hundred addresses, with good tokens."""
    async with network(3, verify=cheap_verify) as nodes:
        await nodes[1].offer([key(7)], 5000)
        spent = await hostile.spam_stores(nodes[0], count, hosts=100)
        found = [r.public_key async for r in nodes[2].find_providers(key(7))]
        stats = nodes[0].stats()
        return {
            **spent.figures(),
            "stores": 8 * spent.datagrams,
            "kept": stats["kept.providers"],
            "oldest_honest_served": found == [nodes[1].public_key],
        }


UNITS = {"memory_mb": "MB"}
GOALS = {
    "unhandled": Goal(0, ratio=False),
    "answers_afterwards": Goal(1, ratio=False, at_least=True),
    "honest_found": Goal(1, ratio=False, at_least=True),
    "oldest_honest_served": Goal(1, ratio=False, at_least=True),
}


def rows(figures: dict[str, Any]) -> list[Row]:
    """Return what one part counted; what is true or false counts as 1 or 0."""
    return [
        Row(
            what=name.replace("_", " "),
            ours=float(value),
            unit=UNITS.get(name, ""),
            goal=GOALS.get(name),
        )
        for name, value in figures.items()
    ]


def main() -> None:
    parser = make_parser("hostile", __doc__)
    parser.add_argument("--mutated", type=int, default=1_000_000)
    parser.add_argument("--flood", type=int, default=50_000)
    parser.add_argument("--stores", type=int, default=1_000_000)
    options = parser.parse_args()
    parts = {
        "Mutated datagrams": fuzz(options.mutated),
        "A flood from one address": flood(options.flood),
        "Stores from 100 addresses, 8 keys in a datagram": stores(options.stores),
    }
    report = Report("hostile", options.json)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for title, part in parts.items():
            report.section(title, rows(runner.run(part)))
    report.end()


if __name__ == "__main__":
    main()
