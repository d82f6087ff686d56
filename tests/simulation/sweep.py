"""A sweep: one node announces many keys, and neighbouring keys share lookups."""

from __future__ import annotations

import gc
import random
from typing import TYPE_CHECKING, Any

from dht.limits import K
from tests.simulation.lookups import filled_swarm, key_of
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.report import Plot, Progress, Result, percentile
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

DEFAULTS = {"nodes": 1000, "keys": 10_000, "loss": 0.0, "lookups": 100, "seed": 1}


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment; `lookups` keys are announced one by one to compare."""
    with virtual_time() as loop:
        swarm = Swarm(loop, options.seed, link=Link(loss=options.loss), cheap_keys=True)

        async def scenario() -> Result:
            ids = await filled_swarm(swarm, options, progress)
            gc.freeze()
            rng = random.Random(f"sweep {options.seed}")
            single, sweeper = rng.sample(swarm.nodes, 2)
            alone: list[int] = []
            for number in range(options.lookups):
                report = await single.offer([key_of(-1 - number, options.seed)], 5000)
                alone.append(report.requests)
                progress.show("one by one", number + 1, options.lookups)
            keys = [key_of(number, options.seed) for number in range(options.keys)]
            started_at = loop.time()
            report = await sweeper.offer(keys, 5000)
            seconds = loop.time() - started_at
            among = []
            for key in rng.sample(keys, min(200, len(keys))):
                nearest = ids.nearest(int.from_bytes(key, "big"), K)
                held = 0
                for contact in nearest:
                    running: Any = swarm.at(contact)._running
                    store = running.local_storage.provider_store
                    held += store.page(key, 0, loop.time()).total > 0
                among.append(held / len(nearest))
            per_key = report.requests / len(keys)
            each = sum(alone) / len(alone)
            figures = {
                "requests_per_key_alone": each,
                "requests_per_key_swept": per_key,
                "times_cheaper": each / per_key,
                "seconds": seconds,
                "stored_p50": percentile(report.stored.values(), 0.5),
                "stored_least": min(report.stored.values()),
                "among_nearest": sum(among) / len(among),
                "messages": swarm.network.counters["sent"],
                "trace": swarm.network.trace[:16],
            }
            points = [(1.0, each)]
            if options.plot is not None:
                points += await _smaller(swarm, options, rng)
            plot = Plot(
                f"{options.keys:,} keys announced in {options.nodes:,} nodes",
                "keys",
                "requests for each key",
                {
                    "alone": [(1.0, each), (float(len(keys)), each)],
                    "swept": [*points, (float(len(keys)), per_key)],
                },
                log_x=True,
            )
            return Result(figures, plot)

        return swarm.run(scenario())


async def _smaller(
    swarm: Swarm, options: argparse.Namespace, rng: random.Random
) -> list[tuple[float, float]]:
    """Return the requests for each key of sweeps with fewer keys, for the plot."""
    points = []
    for size in (3, 10, 30, 100, 300, 1000, 3000):
        if size < options.keys:
            first = 1_000_000 + 10_000 * size
            keys = [key_of(first + number, options.seed) for number in range(size)]
            report = await rng.choice(swarm.nodes).offer(keys, 5000)
            points.append((float(size), report.requests / size))
    return points
