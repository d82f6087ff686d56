"""Lookups in a network whose nodes died without being noticed.

Each key is stored at its k nearest nodes; then a share of all nodes, holders among
them, vanishes. A lookup has found when the first provider record arrives. The walk
then goes on to its end, and is judged by the truly nearest nodes that are alive.
"""

from __future__ import annotations

import asyncio
import gc
import random
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from dht import Address, Network, ProviderRecord, provider_key
from dht.limits import PROVIDER_SECONDS, K
from tests.simulation.filled import Ids, fill
from tests.simulation.loop import VirtualClock, virtual_time
from tests.simulation.network import Link
from tests.simulation.options import OptionError
from tests.simulation.report import Plot, Progress, Result, distribution, percentile
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Dht

DEFAULTS = {
    "nodes": 1000, "dead": 0.0, "loss": 0.0, "lookups": 1000, "seed": 1,
}  # fmt: skip

_LOOKUPS_PER_SECOND = 50.0
_KEYS_MAX = 1000  # further lookups ask for the same keys again, from other nodes


@dataclass
class Seen:
    """What the lookups of a run came to."""

    first: list[float] = field(default_factory=list)  # seconds to the first record
    walks: list[float] = field(default_factory=list)
    hops: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    found: int = 0
    closest: int = 0
    recalled: int = 0
    wanted: int = 0
    dead_in_results: int = 0
    done: int = 0

    def add(self, other: Seen) -> None:
        """Add what other lookups came to."""
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            setattr(self, each.name, mine + theirs)

    def figures(self) -> dict[str, Any]:
        """Return the figures that every such run reports."""
        done = max(self.done, 1)
        return {
            "found": self.found / done,
            "closest_found": self.closest / done,
            "recall": self.recalled / max(self.wanted, 1),
            "dead_in_results": self.dead_in_results,
            "p50_s": percentile(self.first, 0.50),
            "p95_s": percentile(self.first, 0.95),
            "p99_s": percentile(self.first, 0.99),
            "walk_p50_s": percentile(self.walks, 0.50),
            "walk_p95_s": percentile(self.walks, 0.95),
            "hops_p50": percentile(self.hops, 0.50),
            "hops_p95": percentile(self.hops, 0.95),
            "rpcs_p50": percentile(self.requests, 0.50),
            "rpcs_p95": percentile(self.requests, 0.95),
        }


def key_of(number: int, seed: int) -> bytes:
    """Return the key of the simulated artifact of that number."""
    return provider_key(Network(), "sha256", b"%d %d" % (seed, number))


def place(
    swarm: Swarm, ids: Ids, key: bytes, provider: Dht, count: int = K
) -> ProviderRecord:
    """Put a provider record where a perfect announce would have put it."""
    clock = VirtualClock(swarm.loop)
    record = ProviderRecord.sign(
        provider._core.signer,
        tag=Network().tag,
        key=key,
        address=Address(provider.addresses[0].host, 5000),
        expires_at=clock.time() + PROVIDER_SECONDS,
    )
    for contact in ids.nearest(int.from_bytes(key, "big"), count):
        keeper = swarm.at(contact)
        running: Any = keeper._running
        store = running.local_storage.provider_store
        store.put(
            record.node,
            record.slice,
            provider.addresses[0].path,
            now=clock.monotonic(),
            lifetime=PROVIDER_SECONDS,
        )
    return record


def kill_share(swarm: Swarm, share: float, rng: random.Random) -> tuple[list[Dht], Ids]:
    """Let a share of all nodes vanish; returns the others, as a list and by id."""
    doomed = rng.sample(range(len(swarm.nodes)), round(share * len(swarm.nodes)))
    if len(doomed) > len(swarm.nodes) - 2:
        raise OptionError("Two nodes at least have to be left alive.")
    dead = set(doomed)
    for number in doomed:
        swarm.kill(swarm.nodes[number])
    alive = [node for n, node in enumerate(swarm.nodes) if n not in dead]
    return alive, Ids(swarm.shared_contact(node) for node in alive)


async def measure(
    node: Dht, key: bytes, alive: Ids, seen: Seen, provider: bytes | None = None
) -> None:
    """Look a key up, to the end, and note how it went.

    Found is the first record, or that of one provider if it is given.
    """
    search = node.find_providers(key)
    first: float | None = None
    async for record in search:
        if first is None and provider in (None, record.public_key):
            first = search.seconds
            seen.hops.append(search.hops)
    seen.done += 1
    seen.walks.append(search.seconds)
    seen.requests.append(search.requests)
    if first is not None:
        seen.found += 1
        seen.first.append(first)
    own = node.node_id
    others = alive.nearest(int.from_bytes(key, "big"), K + 1)
    nearest = [contact for contact in others if contact.node_id != own][:K]
    result = search.closest
    seen.closest += bool(result) and result[0] == nearest[0]
    seen.recalled += len(set(result) & set(nearest))
    seen.wanted += len(nearest)
    living = {contact.node_id for contact in alive.contacts}
    seen.dead_in_results += sum(1 for each in result if each.node_id not in living)


async def measure_all(
    askers: list[Dht],
    keys: list[bytes],
    alive: Ids,
    progress: Progress,
    label: str = "lookups",
) -> Seen:
    """Look all keys up, each from its asker, fifty a second."""
    seen = Seen()

    async def one(number: int) -> None:
        await asyncio.sleep(number / _LOOKUPS_PER_SECOND)
        await measure(askers[number], keys[number], alive, seen)
        progress.show(label, seen.done, len(keys))

    async with asyncio.TaskGroup() as tasks:
        for number in range(len(keys)):
            tasks.create_task(one(number))
    return seen


async def filled_swarm(
    swarm: Swarm, options: argparse.Namespace, progress: Progress
) -> Ids:
    """Start the nodes of a run and fill their tables."""
    for start in range(0, options.nodes, 100):
        await swarm.add(min(100, options.nodes - start), read_only=False)
        progress.show("starting nodes", start, options.nodes)
    return fill(swarm, swarm.nodes, options.seed)


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    with virtual_time() as loop:
        link = Link(loss=options.loss)
        swarm = Swarm(loop, options.seed, link=link, cheap_keys=True)

        async def scenario() -> Result:
            ids = await filled_swarm(swarm, options, progress)
            rng = random.Random(f"lookup {options.seed}")
            count = min(options.lookups, _KEYS_MAX)
            keys = [key_of(number, options.seed) for number in range(count)]
            for key in keys:
                place(swarm, ids, key, rng.choice(swarm.nodes))
            gc.freeze()
            alive, alive_ids = kill_share(swarm, options.dead, rng)
            askers = [rng.choice(alive) for _ in range(options.lookups)]
            wanted = [keys[n % count] for n in range(options.lookups)]
            seen = await measure_all(askers, wanted, alive_ids, progress)
            figures = seen.figures()
            figures["lookups"] = seen.done
            figures["messages"] = swarm.network.counters["sent"]
            figures["trace"] = swarm.network.trace[:16]
            return Result(
                figures,
                Plot(
                    f"{options.nodes:,} nodes, {options.dead:.0%} dead, "
                    f"{options.loss:.0%} loss",
                    "seconds",
                    "share of lookups",
                    {
                        "first provider": distribution(seen.first),
                        "end of the lookup": distribution(seen.walks),
                    },
                ),
            )

        return swarm.run(scenario())
