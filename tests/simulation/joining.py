"""A network that grows: nodes join one after the other through some earlier ones."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from dht.limits import K
from tests.simulation.filled import Ids
from tests.simulation.lookups import key_of, measure_all
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.report import Plot, Progress, Result, percentile
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

DEFAULTS = {"nodes": 500, "loss": 0.02, "lookups": 500, "seed": 1}


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    with virtual_time() as loop:
        swarm = Swarm(loop, options.seed, link=Link(loss=options.loss), cheap_keys=True)

        async def scenario() -> Result:
            rng = random.Random(f"join {options.seed}")
            seconds: list[float] = []
            for number in range(options.nodes):
                known = [node.addresses[0] for node in swarm.nodes]
                (node,) = await swarm.add(read_only=False)
                started_at = loop.time()
                if known:
                    await node.join(rng.sample(known, min(3, len(known))))
                    seconds.append(loop.time() - started_at)
                progress.show("joins", number + 1, options.nodes)
            await asyncio.sleep(30)
            sent = swarm.network.counters["sent"]
            ids = Ids(swarm.shared_contact(node) for node in swarm.nodes)
            askers = [rng.choice(swarm.nodes) for _ in range(options.lookups)]
            keys = [key_of(number, options.seed) for number in range(options.lookups)]
            for number, key in enumerate(keys[: min(20, options.nodes)]):
                await swarm.nodes[number].offer([key], 5000)
            seen = await measure_all(askers, keys, ids, progress)
            sizes = [len(node.contacts()) for node in swarm.nodes]
            figures = {
                "closest_found": seen.closest / seen.done,
                "recall": seen.recalled / seen.wanted,
                "offered_found": seen.found / min(20, options.nodes, len(keys)),
                "join_p50_s": percentile(seconds, 0.5),
                "join_p95_s": percentile(seconds, 0.95),
                "messages_per_join": sent / options.nodes,
                "contacts_p50": percentile(sizes, 0.5),
                "contacts_least": min(sizes),
                "isolated": sum(
                    size < min(K, options.nodes - 1) // 2 for size in sizes
                ),
                "messages": swarm.network.counters["sent"],
                "trace": swarm.network.trace[:16],
            }
            plot = Plot(
                f"{options.nodes:,} nodes join one after the other",
                "nodes in the network",
                "seconds that a join takes",
                {"join": [(n + 1.0, each) for n, each in enumerate(seconds)]},
            )
            return Result(figures, plot)

        return swarm.run(scenario())
