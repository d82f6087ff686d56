"""Partition: two halves cannot hear each other for an hour, and then they can again.

Each node offers one key. After the halves have been joined again, nodes of one look
for what the other offers, minute by minute.
"""

from __future__ import annotations

import asyncio
import gc
import random
from typing import TYPE_CHECKING

from dht.limits import K
from tests.simulation.filled import Ids
from tests.simulation.lookups import Seen, filled_swarm, key_of, measure
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.options import OptionError
from tests.simulation.report import Plot, Progress, Result
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Dht

DEFAULTS = {
    "nodes": 500, "minutes": 60.0, "loss": 0.02, "lookups": 300, "seed": 1,
}  # fmt: skip

_HEALING_MINUTES = 12


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    with virtual_time() as loop:
        swarm = Swarm(loop, options.seed, link=Link(loss=options.loss), cheap_keys=True)

        async def scenario() -> Result:
            ids = await filled_swarm(swarm, options, progress)
            gc.freeze()
            rng = random.Random(f"partition {options.seed}")
            await _offer_all(swarm.nodes, options.seed)
            sides = {n.addresses[0].host: rng.randrange(2) for n in swarm.nodes}
            halves = [
                [n for n in swarm.nodes if sides[n.addresses[0].host] == side]
                for side in (0, 1)
            ]
            if not all(halves):
                raise OptionError("These nodes all fell on one side: take more.")
            swarm.network.part(sides)
            await asyncio.sleep(60 * options.minutes)
            inside = Seen()
            await _look(swarm, halves, ids, rng, 100, inside, across=False)
            swarm.network.part({})
            minutes: list[float] = []
            last = Seen()
            for minute in range(_HEALING_MINUTES):
                last = Seen()
                across = options.lookups
                await _look(swarm, halves, ids, rng, across, last, across=True)
                minutes.append(last.found / last.done)
                progress.show("minutes", minute + 1, _HEALING_MINUTES)
            whole = [m for m, each in enumerate(minutes) if each >= 0.999]
            figures = {
                "found_while_parted": inside.found / inside.done,
                "found_by_minute": minutes,
                "found_in_minute_10": minutes[9],
                "minutes_to_999": whole[0] + 1 if whole else None,
                "holders": K,
                "messages": swarm.network.counters["sent"],
                "trace": swarm.network.trace[:16],
            }
            plot = Plot(
                f"{options.nodes:,} nodes, parted for {options.minutes:g} minutes",
                "minutes after healing",
                "share found across the former border",
                {"found": [(m + 1.0, share) for m, share in enumerate(minutes)]},
            )
            return Result(figures, plot)

        return swarm.run(scenario())


async def _offer_all(nodes: list[Dht], seed: int) -> None:
    """Let each node offer its key, fifty at a time."""
    for start in range(0, len(nodes), 50):
        await asyncio.gather(
            *(
                node.offer([key_of(start + place, seed)], 5000)
                for place, node in enumerate(nodes[start : start + 50])
            )
        )


async def _look(
    swarm: Swarm,
    halves: list[list[Dht]],
    ids: Ids,
    rng: random.Random,
    lookups: int,
    seen: Seen,
    *,
    across: bool,
) -> None:
    """Look for the other half's keys (or the own's), for one minute."""
    number_of = {node.public_key: n for n, node in enumerate(swarm.nodes)}
    async with asyncio.TaskGroup() as tasks:
        for _ in range(lookups):
            side = rng.randrange(2)
            asker = rng.choice(halves[side])
            provider = rng.choice(halves[1 - side if across else side])
            key = key_of(number_of[provider.public_key], swarm.seed)
            tasks.create_task(
                measure(asker, key, ids, seen, provider=provider.public_key)
            )
            await asyncio.sleep(60 / lookups)
