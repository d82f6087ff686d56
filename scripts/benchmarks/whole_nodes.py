"""Inventories of whole nodes: many processes on one machine, different files in each.

    scripts/bench whole-nodes [--nodes 50] [--files 3000] [--lookups 300] [--json]

Their stores are filled from outside, so what is measured is the start, and announcing
by three names. Processor time and memory are those of a node's process, its keeping for
the others included. `scripts/bench inventory` counts the bytes of the same by kind.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmarks.commands import fill, node_seconds, peak_mib
from scripts.benchmarks.report import Goal, Report, Row
from scripts.benchmarks.report import parser as make_parser
from tests.end_to_end.caravan import Caravan, at_once, caravan_in
from transfer import Digest

if TYPE_CHECKING:
    import argparse

    from node.demo.processes import NodeProcess

NAMES = 3
AT_ONCE = 5
READY_SECONDS = 300.0
PATIENCE_SECONDS = 900.0
ASK_SECONDS = 120.0
CPU_SECONDS = 3.0


def content_of(node: int, file: int) -> bytes:
    """Return the bytes of a file, which no other node has."""
    return b"%d %d " % (node, file) * 60


def main() -> None:
    parser = make_parser("whole-nodes", __doc__)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--lookups", type=int, default=300)
    options = parser.parse_args()
    report = Report("whole-nodes", options.json)
    with (
        tempfile.TemporaryDirectory(prefix="caravan-whole-") as folder,
        caravan_in(Path(folder)) as caravan,
    ):
        title = f"{options.nodes} whole nodes, {options.files:,} files each"
        report.section(title, _fleet(caravan, options))
    report.end()


def _fleet(caravan: Caravan, options: argparse.Namespace) -> list[Row]:
    nodes = [caravan.node(f"node{number}") for number in range(options.nodes)]
    for number, node in enumerate(nodes):
        fill(node.home, options.files, partial(content_of, number))
    began = time.monotonic()
    nodes[0].join()
    for start in range(1, len(nodes), AT_ONCE):
        starting = nodes[start : start + AT_ONCE]
        for node in starting:
            node.start(nodes[0].address)
        for node in starting:
            node.wait_ready(READY_SECONDS)
    ready = time.monotonic() - began
    placed = _until_placed(nodes, NAMES * options.files)
    announced = time.monotonic() - began
    used = [node_seconds(node) for node in nodes]
    found = _found(nodes, options)
    used_most = max(map(peak_mib, nodes))
    _stop(nodes)
    return [
        Row(
            what="found, of those looked up",
            ours=found,
            unit="",
            goal=Goal(1, ratio=False, at_least=True),
        ),
        Row(
            what="placed, of those offered",
            ours=placed,
            unit="",
            goal=Goal(1, ratio=False, at_least=True),
        ),
        Row(
            what="processor of a node, its start included",
            ours=statistics.mean(used),
            unit="s",
        ),
        Row(what="all started", ours=ready, unit="s"),
        Row(what="all placed, from the first start on", ours=announced, unit="s"),
        Row(what="memory of a node, at most", ours=used_most, unit="MiB"),
    ]


def _stop(nodes: list[NodeProcess]) -> None:
    """Stop the nodes, few at once: each hands on what it has to say."""
    for start in range(0, len(nodes), AT_ONCE):
        at_once(lambda node: node.stop(READY_SECONDS), nodes[start : start + AT_ONCE])


def _until_placed(nodes: list[NodeProcess], keys: int) -> float:
    """Wait until every node says that all it offers is placed; return the share."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        reports = at_once(
            lambda node: node.ask("status", seconds=ASK_SECONDS)["placement"], nodes
        )
        placed: int = sum(one["placed"] for one in reports)
        if placed >= keys * len(nodes) or time.monotonic() > until:
            return placed / (keys * len(nodes))
        time.sleep(2.0)


def _found(nodes: list[NodeProcess], options: argparse.Namespace) -> float:
    """Return the share of a sample of files that others find at their owners."""
    rng = random.Random("whole nodes")

    def look_up(_: int) -> bool:
        owner, asker = rng.sample(range(len(nodes)), 2)
        content = content_of(owner, rng.randrange(options.files))
        answer = nodes[asker].run(
            "lookup", str(Digest.of(content)), seconds=ASK_SECONDS
        )
        providers = answer.document.get("providers", [])
        return any(one["address"] == nodes[owner].address for one in providers)

    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(look_up, range(options.lookups))) / float(options.lookups)


if __name__ == "__main__":
    main()
