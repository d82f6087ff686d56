"""Liars among honest nodes: they answer every question, and never with the truth.

Their ids are genuine and random, as an id has to be proved. In the mode `colluders`
a liar names the liars nearest to the target. In the mode `forged` it names the very
nodes that are nearest, at addresses where liars answer. In both it keeps nothing it
was given to keep. Found is a key if an honest keeper's record arrives.
"""

from __future__ import annotations

import gc
import math
import random
from typing import TYPE_CHECKING, Any

from dht import Contact
from dht.limits import K
from dht.wire import Stored
from tests.simulation.filled import Ids
from tests.simulation.lookups import filled_swarm, key_of, measure_all, place
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.options import OptionError
from tests.simulation.report import Plot, Progress, Result, distribution
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Dht
    from dht.in_flight import Asked

DEFAULTS = {
    "nodes": 2000, "liars": 0.2, "mode": "colluders", "loss": 0.0, "lookups": 1000,
    "seed": 1,
}  # fmt: skip


def corrupt(node: Dht, mode: str, liars: Ids, everybody: Ids) -> None:
    """Make a node lie from now on."""
    running: Any = node._running
    rpc_server = running.rpc_server

    def named(asked: Asked, target: bytes, limit: int) -> list[Contact]:
        wanted = int.from_bytes(target, "big")
        accomplices = liars.nearest(wanted, limit)
        if mode == "colluders":
            return accomplices
        victims = everybody.nearest(wanted, limit)
        return [
            Contact(victim.public_key, accomplice.address)
            for victim, accomplice in zip(victims, accomplices, strict=False)
        ]

    rpc_server._nearest = named
    store = running.local_storage.provider_store
    store.put = lambda *record, **more: Stored.STORED
    store.expire(math.inf)


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    with virtual_time() as loop:
        link = Link(loss=options.loss)
        swarm = Swarm(loop, options.seed, link=link, cheap_keys=True)

        async def scenario() -> Result:
            ids = await filled_swarm(swarm, options, progress)
            rng = random.Random(f"adversary {options.seed}")
            keys = [key_of(number, options.seed) for number in range(options.lookups)]
            for key in keys:
                place(swarm, ids, key, rng.choice(swarm.nodes))
            count = round(options.liars * options.nodes)
            if count > options.nodes - 2:
                raise OptionError("Two honest nodes at least have to be left.")
            liars = rng.sample(swarm.nodes, count)
            liar_ids = Ids(swarm.shared_contact(node) for node in liars)
            for node in liars:
                corrupt(node, options.mode, liar_ids, ids)
            gc.freeze()
            lying = {node.node_id for node in liars}
            honest = [node for node in swarm.nodes if node.node_id not in lying]
            askers = [rng.choice(honest) for _ in keys]
            honest_ids = Ids(swarm.shared_contact(node) for node in honest)
            seen = await measure_all(askers, keys, honest_ids, progress)
            figures = seen.figures()
            del figures["dead_in_results"], figures["recall"], figures["closest_found"]
            figures["holders"] = K
            figures["messages"] = swarm.network.counters["sent"]
            figures["trace"] = swarm.network.trace[:16]
            plot = Plot(
                f"{options.nodes:,} nodes, {options.liars:.0%} {options.mode}",
                "seconds",
                "share of lookups",
                {"first provider": distribution(seen.first)},
            )
            return Result(figures, plot)

        return swarm.run(scenario())
