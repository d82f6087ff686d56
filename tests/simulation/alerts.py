"""Alerts: how many hear of a new release, how soon, and at what cost.

A swarm of N nodes, H of which hold the old version and have announced it; a part of
those is away when the new one is published, and comes back afterwards. The publisher
publishes as the node does: it stores the record, looks for its audience, tells some
of it, and is then cut off for good. Everything counted is counted on the wire.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from dht import Address
from dht.wire import REPLY
from tests.simulation.filled import fill
from tests.simulation.holders import Holder, PackageSource, Publisher
from tests.simulation.loop import VirtualClock, VirtualLoop, virtual_time
from tests.simulation.network import Link
from tests.simulation.options import OptionError, share, whole
from tests.simulation.report import Plot, Progress, Result, distribution, percentile
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

DEFAULTS = {"nodes": 1000, "holders": 100, "offline": 0.0, "loss": 0.0, "seed": 1}
OPTIONS = {
    "holders": (whole(1), "how many of the nodes hold the old version"),
    "offline": (share, "share of the holders that are away when it is published"),
}
NOTIFY_KIND = 7
KIND_OFFSET = 8 + 2  # after the network tag: an array, the version, the kind
SETTLE_SECONDS = 120.0
HEARD_SECONDS = 60.0
JOIN_AT_ONCE = 8
RETURN_SECONDS = 300.0
"""Those who were away come back within this time, and are given as much to hear."""


class Wire:
    """Counts the alerts that cross the network, by sender."""

    def __init__(self, swarm: Swarm) -> None:
        self.notifies: Counter[str] = Counter()
        self.replies = 0
        self._send = swarm.network.send
        swarm.network.send = self._count  # type: ignore[method-assign]

    def _count(self, data: bytes, source: Any, to: Any) -> None:
        kind = data[KIND_OFFSET]
        if kind == NOTIFY_KIND:
            self.notifies[source[0]] += 1
        elif kind == NOTIFY_KIND + REPLY:
            self.replies += 1
        self._send(data, source, to)


class Experiment:
    """One run."""

    def __init__(
        self, loop: VirtualLoop, options: argparse.Namespace, progress: Progress
    ) -> None:
        self.options = options
        self.loop = loop
        self.progress = progress
        self.rng = random.Random(f"alert {options.seed}")
        link = Link(loss=options.loss)
        self.swarm = Swarm(loop, options.seed, link=link, cheap_keys=True)
        self.source = PackageSource(self.rng)
        self.publisher = Publisher(self.source, VirtualClock(loop).time)
        self.holders: list[Holder] = []
        self.author = Holder(self.swarm, options.nodes, self.source)

    async def run(self) -> Result:
        """Build the swarm, publish twice, and say what was heard of."""
        await self._build()
        count = round(self.options.offline * self.options.holders)
        away = self.rng.sample(self.holders, count)
        for holder in away:
            await holder.leave()
        self.progress.show("alerting", 0, 1)
        wire = Wire(self.swarm)
        began = self.loop.time()
        told_by_author = await self._publish()
        await asyncio.sleep(max(0.0, began + HEARD_SECONDS - self.loop.time()))
        cost = sum(wire.notifies.values()) + wire.replies
        online = [holder for holder in self.holders if holder not in away]
        told = _delays(online, began)
        returned = await self._bring_back(away)
        figures = {
            "online_told": len(told) / max(1, len(online)),
            "p50_s": percentile(told, 0.50),
            "p99_s": percentile(told, 0.99),
            "publisher_messages": wire.notifies[self.author.host],
            "messages_per_holder": cost / max(1, len(told)),
            "returned_told": returned,
            "shown_twice": sum(len(one.heard.at) > 1 for one in self.holders),
            "publisher_told": told_by_author,
            "online": len(online),
            **vars(self.options),
        }
        await self._end()
        return Result(_plain(figures), _plot(told, len(online)))

    async def _build(self) -> None:
        """Fill a swarm of bystanders; holders and the publisher join it by hand."""
        options = self.options
        plain = await self.swarm.add(options.nodes - options.holders - 1)
        fill(self.swarm, plain, options.seed)
        first, _ = self.publisher.release()
        for number in range(options.holders):
            holder = Holder(self.swarm, options.nodes + 1 + number, self.source)
            holder.hold(first, follow=number % 2 == 0)
            self.holders.append(holder)
        self.author.hold(first, follow=False)
        await self._all_come([*self.holders, self.author])
        await asyncio.sleep(SETTLE_SECONDS)

    async def _publish(self) -> int:
        """Publish the next version as a node does; the author is gone afterwards."""
        author = self.author
        package, record = self.publisher.release()
        author.catalogue.add_package(
            f"sha256:{record.package.hex()}", package, held=True, own=True
        )
        author.releases.learn(record, confirmed=0)
        await author.dht.store_record(record, keep=True)
        audience = await author.alerter.audience(record)
        reach = await author.alerter.alert(record, audience)
        self.swarm.network.kill(author.host)
        return reach.alerted

    async def _all_come(self, holders: list[Holder]) -> None:
        slots, done = asyncio.Semaphore(JOIN_AT_ONCE), itertools.count(1)

        async def come(holder: Holder) -> None:
            async with slots:
                await holder.come(self._contacts())
            self.progress.show("joining", next(done), len(holders))

        async with asyncio.TaskGroup() as tasks:
            for holder in holders:
                tasks.create_task(come(holder))

    async def _bring_back(self, away: list[Holder]) -> float:
        """Let them return one after another; the share that hears within 5 min."""
        if not away:
            return 1.0

        async def come(holder: Holder, after: float) -> bool:
            await asyncio.sleep(after)
            joined_at = self.loop.time()
            await holder.come(self._contacts())
            await asyncio.sleep(max(0.0, joined_at + RETURN_SECONDS - self.loop.time()))
            return bool(holder.heard.at)

        pauses = [self.rng.uniform(0, RETURN_SECONDS) for _ in away]
        heard = await asyncio.gather(*map(come, away, pauses))
        return sum(heard) / len(away)

    def _contacts(self) -> list[Address]:
        known = [node.addresses[0] for node in self.swarm.nodes]
        return self.rng.sample(known, min(3, len(known)))

    async def _end(self) -> None:
        for holder in [*self.holders, self.author]:
            await holder.leave()
        await self.swarm.close()


def _delays(holders: list[Holder], since: float) -> list[float]:
    """Return after how many seconds each of those who heard of it did."""
    heard = [holder.heard.at[0] - since for holder in holders if holder.heard.at]
    return sorted(delay for delay in heard if delay <= HEARD_SECONDS)


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """Leave out what only steers the printing."""
    steering = ("experiment", "json", "plot")
    return {name: value for name, value in figures.items() if name not in steering}


def _plot(told: list[float], online: int) -> Plot:
    part = len(told) / max(1, online)
    line = [(0.0, 0.0), *((x, y * part) for x, y in distribution(told))]
    return Plot(
        f"Holders who know of a release ({online:,} online)",
        "seconds since it was published",
        "share that knows",
        {"told": line},
    )


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment in virtual time."""
    if options.holders + 2 > options.nodes:
        raise OptionError("The publisher and one more node hold nothing: more nodes.")
    with virtual_time() as loop:
        return loop.run_until_complete(Experiment(loop, options, progress).run())
