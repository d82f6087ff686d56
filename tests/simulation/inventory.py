"""Inventories: every node offers many files, and each of them is found.

With `--same 1` all nodes offer the same files. `--sixteenths 1` takes only the keys
that begin with four certain bits: a sixteenth of the load at full density, where the
whole would not fit into one process. Figures of whole inventories are then scaled up.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.simulation.lookups import filled_swarm
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.options import whole
from tests.simulation.report import Progress, Result, percentile
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Dht

DEFAULTS = {
    "nodes": 200, "offering": 0, "files": 10_000, "same": 0, "sixteenths": 16,
    "lookups": 2000, "loss": 0.0, "seed": 1,
}  # fmt: skip
OPTIONS = {
    "offering": (whole(0), "how many nodes offer files, 0 for all"),
    "files": (whole(1), "how many files each node offers"),
    "same": (whole(0), "1 if all nodes offer the same files"),
    "sixteenths": (whole(1), "sixteenths of all keys that are offered"),
}
DRAWS = False

RENEWAL_SECONDS = 7200.0
RESIGNED_SECONDS = 9 * 86400  # the mean age at which a slice is signed anew
GOAL_BYTES_PER_SECOND = 150.0
GOAL_KEEPER_MB = 300.0
GOAL_PROVIDERS = 8
_AT_ONCE = 20  # nodes that announce side by side
_ANNOUNCE, _ANNOUNCED = 4, 68


class Traffic:
    """Bytes of announces and of everything else that all nodes send."""

    def __init__(self, swarm: Swarm) -> None:
        self.sent: Counter[str] = Counter()
        self.requests = 0
        send = swarm.network.send

        def counted(data: bytes, source: Any, to: Any) -> None:
            is_announce = data[10] in (_ANNOUNCE, _ANNOUNCED)
            self.requests += data[10] == _ANNOUNCE
            self.sent["announces" if is_announce else "lookups"] += len(data)
            send(data, source, to)

        swarm.network.send = counted  # type: ignore[method-assign]

    def take(self) -> Counter[str]:
        """Return what was sent since the last call."""
        sent, self.sent = self.sent, Counter()
        return sent


def keys_of(options: argparse.Namespace, number: int) -> list[bytes]:
    """Return the keys that a node offers."""
    owner = 0 if options.same else number
    rng = random.Random(f"files {options.seed} {owner}")
    count = max(1, options.files * options.sixteenths // 16)
    return [
        bytes([16 * rng.randrange(options.sixteenths) + rng.randrange(16)])
        + rng.randbytes(31)
        for _ in range(count)
    ]


async def announce_all(
    swarm: Swarm, options: argparse.Namespace, progress: Progress
) -> list[bytes]:
    """Let every node offer its files; return a sample of their keys."""
    rng = random.Random(f"sample {options.seed}")
    offering = swarm.nodes[: options.offering or None]
    each = -(-options.lookups // len(offering))
    sample: list[bytes] = []
    slots = asyncio.Semaphore(_AT_ONCE)
    done = 0

    async def one(number: int, node: Dht) -> None:
        nonlocal done
        async with slots:
            keys = keys_of(options, number)
            sample.extend(rng.sample(keys, min(each, len(keys))))
            await node.offer(keys, 5000)
            done += 1
            progress.show("announcing", done, len(offering))

    async with asyncio.TaskGroup() as tasks:
        for number, node in enumerate(offering):
            tasks.create_task(one(number, node))
    return sample[: options.lookups]


async def look_up(
    swarm: Swarm, sample: list[bytes], progress: Progress
) -> tuple[list[int], list[Counter[bytes]], list[float]]:
    """Return how many providers each search found, who came first, and when."""
    rng = random.Random("askers")
    counts, firsts, seconds = [], [], []
    for number, key in enumerate(sample):
        search = rng.choice(swarm.nodes).find_providers(key)
        found: list[bytes] = []
        async for record in search:
            if not found:
                seconds.append(search.seconds)
            found.append(record.public_key)
        counts.append(len(found))
        firsts.append(Counter(found[:GOAL_PROVIDERS]))
        progress.show("lookups", number + 1, len(sample))
    return counts, firsts, seconds


async def measure(
    swarm: Swarm, options: argparse.Namespace, progress: Progress
) -> Result:
    """Announce, look up, renew, and report."""
    await filled_swarm(swarm, options, progress)
    gc.freeze()
    traffic = Traffic(swarm)
    began, cpu = swarm.loop.time(), time.process_time()
    sample = await announce_all(swarm, options, progress)
    seconds, cpu = swarm.loop.time() - began, time.process_time() - cpu
    announced = traffic.take()
    requests = traffic.requests
    counts, firsts, waits = await look_up(swarm, sample, progress)
    traffic.take()
    offering = swarm.nodes[: options.offering or None]
    for number, node in enumerate(offering):
        running: Any = node._running
        await running.announcer.renew()
        progress.show("renewing", number + 1, len(offering))
    renewed = traffic.take()
    nodes, whole_is = len(offering), 16 / options.sixteenths
    looked_up = _looked_up(options, counts, firsts, waits)
    stores = [_store(node) for node in swarm.nodes]
    listed = sum(map(len, stores))
    mb = [store.bytes_held / 1e6 for store in stores]
    per_key = sum(store.bytes_held for store in stores) / max(1, listed)
    offered = sum(node.placement().offered for node in swarm.nodes)
    keeper_mb = per_key * listed * whole_is / len(swarm.nodes) / 1e6
    per_second = renewed["announces"] / nodes / RENEWAL_SECONDS
    resigned = whole_is * announced["announces"] / nodes / RESIGNED_SECONDS
    figures: dict[str, Any] = {
        "files_of_a_node": options.files,
        "offered_here": offered,
        "keepers_of_a_key": listed / offered,
        "announced_in_s": seconds,
        "announce_mb_of_a_node": announced["announces"] / nodes / 1e6,
        "lookup_mb_of_a_node": announced["lookups"] / nodes / 1e6,
        "announces_of_a_node": requests / nodes,
        "bytes_for_a_key_at_a_keeper": announced["announces"] / listed,
        "cpu_s_of_a_node_and_its_keepers": cpu / nodes,
        **looked_up,
        "keeper_mb_most_here": max(mb),
        "keeper_mb_whole_inventory": keeper_mb,
        "keeper_mb_goal": GOAL_KEEPER_MB,
        "renewal_lookups_bytes_per_second": renewed["lookups"] / nodes / 7200,
        "renewal_bytes_per_second": per_second + resigned,
        "renewal_bytes_per_second_goal": GOAL_BYTES_PER_SECOND,
        "trace": swarm.network.trace[:16],
    }
    failed = [] if all(counts) else ["Not every file was found."]
    if options.same and min(counts) < GOAL_PROVIDERS:
        failed.append("A search found fewer than eight providers.")
    if keeper_mb > GOAL_KEEPER_MB:
        failed.append("A keeper takes too much memory.")
    if per_second + resigned > GOAL_BYTES_PER_SECOND:
        failed.append("Renewals take too much.")
    return Result(figures, failed=failed)


def _looked_up(
    options: argparse.Namespace,
    counts: list[int],
    firsts: list[Counter[bytes]],
    waits: list[float],
) -> dict[str, Any]:
    """Return the figures of the searches."""
    figures: dict[str, Any] = {
        "lookups": len(counts),
        "found": sum(map(bool, counts)) / len(counts),
        "found_p95_s": percentile(waits, 0.95),
        "providers_least": min(counts),
    }
    if options.same:
        shares = sum(firsts, Counter[bytes]())
        mean = shares.total() / options.nodes
        figures["providers_goal"] = GOAL_PROVIDERS
        figures["providers_named_first"] = len(shares)
        figures["most_over_mean"] = max(shares.values()) / mean
    return figures


def _store(node: Dht) -> Any:
    running: Any = node._running
    return running.local_storage.provider_store


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    with virtual_time() as loop:
        swarm = Swarm(loop, options.seed, link=Link(loss=options.loss), cheap_keys=True)
        return swarm.run(measure(swarm, options, progress))
