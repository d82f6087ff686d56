"""Absence: whether a release outlives its publisher, in a network that churns.

The publisher publishes and is gone for good. Bystanders leave after a while and new
ones come in their place; holders come and go. Every hour a newcomer joins and asks
for the release, by the node's own code: it verifies what it gets.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

from dht import Address
from tests.simulation.holders import NAME, Holder, PackageSource, Publisher
from tests.simulation.loop import VirtualClock, VirtualLoop, virtual_time
from tests.simulation.options import whole
from tests.simulation.report import Plot, Progress, Result
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Dht

DEFAULTS = {
    "nodes": 300, "holders": 30, "hours": 24.0, "session": 120.0, "away": 120.0,
    "seed": 1,
}  # fmt: skip
OPTIONS = {"holders": (whole(1), "how many more nodes hold the package")}
HOUR = 3600.0


class Experiment:
    """One run."""

    def __init__(
        self, loop: VirtualLoop, options: argparse.Namespace, progress: Progress
    ) -> None:
        self.options = options
        self.loop = loop
        self.progress = progress
        self.rng = random.Random(f"absence {options.seed}")
        self.swarm = Swarm(loop, options.seed, cheap_keys=True)
        self.source = PackageSource(self.rng)
        self.publisher = Publisher(self.source, VirtualClock(loop).time)
        self.alive: set[Dht] = set()
        self.numbers = iter(range(60_000, 65_000))
        self.found: list[tuple[float, bool, int]] = []

    async def run(self) -> Result:
        """Publish, let the publisher vanish, and ask every hour."""
        options = self.options
        await self.swarm.grow(options.nodes)
        self.alive.update(self.swarm.nodes)
        package, record = self.publisher.release()
        author = self._holder()
        await author.come(self._contacts())
        await author.dht.store_record(record, keep=True)
        await author.leave()
        holders = [self._holder() for _ in range(options.holders)]
        for holder in holders:
            holder.hold(package, follow=True)
            holder.releases_known(record)
        tasks = [asyncio.create_task(self._churn(node)) for node in self.swarm.nodes]
        tasks += [asyncio.create_task(self._come_and_go(one)) for one in holders]
        for hour in range(1, max(1, round(options.hours)) + 1):
            await asyncio.sleep(HOUR)
            self.progress.show("hours", hour, options.hours)
            await self._probe(hour)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for node in self.swarm.nodes:
            await node.close()
        return self._result()

    async def _churn(self, node: Dht) -> None:
        """Let a bystander leave after its session, and a new one take its place."""
        while True:
            await asyncio.sleep(self._drawn(self.options.session))
            self.alive.discard(node)
            await node.close()
            (node,) = await self.swarm.add()
            await node.join(self._contacts())
            self.alive.add(node)

    async def _come_and_go(self, holder: Holder) -> None:
        await asyncio.sleep(self.rng.uniform(0, HOUR))
        try:
            while True:
                await holder.come(self._contacts())
                await asyncio.sleep(self._drawn(self.options.session))
                await holder.leave()
                await asyncio.sleep(self._drawn(self.options.away))
        finally:
            await holder.leave()

    async def _probe(self, hour: int) -> None:
        """Join as somebody who knows the publisher's key and the name alone."""
        newcomer = self._holder()
        await newcomer.come(self._contacts())
        key = self.publisher.key.publisher
        await newcomer.releases.refresh(key, NAME)
        known = newcomer.releases.known(key, NAME)
        confirmed = known.confirmed if known is not None else 0
        self.found.append((float(hour), known is not None, confirmed))
        await newcomer.leave()

    def _holder(self) -> Holder:
        return Holder(self.swarm, next(self.numbers), self.source)

    def _contacts(self) -> list[Address]:
        known = sorted(node.addresses[0] for node in self.alive)
        return self.rng.sample(known, min(3, len(known)))

    def _drawn(self, median_minutes: float) -> float:
        return self.rng.expovariate(math.log(2) / (60 * median_minutes))

    def _result(self) -> Result:
        steering = ("experiment", "json", "plot")
        chosen = vars(self.options).items()
        figures: dict[str, Any] = {
            "found": sum(found for _, found, _ in self.found) / len(self.found),
            "found_at_the_end": self.found[-1][1],
            "copies_min": min(copies for _, _, copies in self.found),
            "copies_at_the_end": self.found[-1][2],
            "nodes_ever": len(self.swarm.nodes),
            **{name: value for name, value in chosen if name not in steering},
        }
        line = [(hour, float(copies)) for hour, _, copies in self.found]
        plot = Plot(
            "Copies of a release whose publisher is gone",
            "hours since it was published",
            "nodes that confirm it",
            {"copies": line},
        )
        return Result(figures, plot)


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment in virtual time."""
    with virtual_time() as loop:
        return loop.run_until_complete(Experiment(loop, options, progress).run())
