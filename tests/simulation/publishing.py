"""Publishing: a release record is stored at the k nearest, though many are dead.

What is timed is `Dht.store_record`, lookup and stores together. Stored is counted at
the keepers themselves, not by what they replied.
"""

from __future__ import annotations

import asyncio
import gc
import random
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import ReleaseRecord
from dht.limits import K
from tests.simulation.lookups import filled_swarm, kill_share
from tests.simulation.loop import VirtualClock, virtual_time
from tests.simulation.network import Link
from tests.simulation.report import Plot, Progress, Result, distribution, percentile
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

DEFAULTS = {"nodes": 1000, "dead": 0.3, "loss": 0.0, "lookups": 200, "seed": 1}


def release_of(number: int, now: float) -> ReleaseRecord:
    """Return a signed release record of some publisher."""
    key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big"))
    return ReleaseRecord.sign(
        key,
        publisher=key.public_key().public_bytes_raw(),
        name="demo",
        version="1.0",
        epoch=0,
        sequence=1,
        package=bytes(32),
        urgency="routine",
        issued_at=now - 60,
        expires_at=now + 86400,
    )


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    with virtual_time() as loop:
        link = Link(loss=options.loss)
        swarm = Swarm(loop, options.seed, link=link, cheap_keys=True)
        clock = VirtualClock(loop)
        seconds: list[float] = []
        stored: list[int] = []
        among: list[float] = []  # share of the copies at the k truly nearest
        requests: list[int] = []

        async def one(number: int) -> None:
            await asyncio.sleep(number / 10)
            record = release_of(number + 1, clock.time())
            started_at = loop.time()
            report = await rng.choice(alive).store_record(record)
            seconds.append(loop.time() - started_at)
            requests.append(report.requests)
            key = record.key(alive[0]._core.network)
            nearest = alive_ids.nearest(int.from_bytes(key, "big"), 2 * K)
            held = []
            for each in nearest:
                running: Any = swarm.at(each)._running
                held.append(running.local_storage.newest(key, loop.time()) is not None)
            stored.append(sum(held))
            among.append(sum(held[:K]) / K)
            progress.show("records", len(stored), options.lookups)

        async def scenario() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(options.lookups):
                    tasks.create_task(one(number))

        swarm.run(filled_swarm(swarm, options, progress))
        gc.freeze()
        rng = random.Random(f"publish {options.seed}")
        alive, alive_ids = kill_share(swarm, options.dead, rng)
        swarm.run(scenario())
        figures = {
            "p50_s": percentile(seconds, 0.50),
            "p95_s": percentile(seconds, 0.95),
            "p99_s": percentile(seconds, 0.99),
            "stored_p50": percentile(stored, 0.5),
            "stored_least": min(stored),
            "stored_18": sum(each >= 18 for each in stored) / len(stored),
            "among_nearest": sum(among) / len(among),
            "rpcs_p50": percentile(requests, 0.5),
            "records": len(stored),
            "messages": swarm.network.counters["sent"],
            "trace": swarm.network.trace[:16],
        }
        plot = Plot(
            f"a record stored on {K}: {options.nodes:,} nodes, {options.dead:.0%} dead",
            "seconds",
            "share of records",
            {"store_record": distribution(seconds)},
        )
        return Result(figures, plot)
