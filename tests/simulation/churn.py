"""Churn: nodes come and go all day, and everything on offer is still found.

Sessions and absences are exponential. A node dies without a word, and comes back
with its key, its address and a few contacts, but with nothing that it kept for
others. Each offers one key while it is there. Found is a key if its provider, which
is there, is among the records of a lookup from a random node. With `--offers 0` only
the nodes nearest to the keys are looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dht import Address
from tests.simulation.filled import Ids, fill
from tests.simulation.lookups import Seen, key_of, measure
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.report import Plot, Progress, Result, percentile
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Dht

DEFAULTS = {
    "nodes": 1000, "hours": 24.0, "session": 120.0, "away": 60.0, "loss": 0.02,
    "lookups": 500, "offers": 1, "seed": 1,
}  # fmt: skip

CONTACTS_REMEMBERED = 8
_SETTLED_SECONDS = 30.0  # a provider that returned has announced itself by then


@dataclass
class Host:
    """A machine whose node comes and goes."""

    number: int
    node: Dht | None = None
    since: float = 0.0
    remembered: list[Address] = field(default_factory=list)


class Churn:
    """Keeps about `nodes` hosts there, out of all that exist."""

    def __init__(
        self,
        swarm: Swarm,
        *,
        nodes: int,
        session_seconds: float,
        away_seconds: float,
        offering: bool = True,
    ) -> None:
        """Sessions and absences are given by their medians."""
        self.swarm = swarm
        self.session = session_seconds / math.log(2)
        self.away = away_seconds / math.log(2)
        self.rng = random.Random(f"churn {swarm.seed}")
        count = round(nodes * (self.session + self.away) / self.session)
        self.hosts = [Host(number) for number in range(count)]
        self.up: dict[int, Host] = {}
        self.node_seconds = 0.0
        self._nodes = nodes
        self._offering = offering
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Start the first nodes, with filled tables, and let all live from now on."""
        first = self.hosts[: self._nodes]
        for host in first:
            await self._start(host, life=0)
        nodes = [host.node for host in first if host.node is not None]
        fill(self.swarm, nodes, self.swarm.seed)
        gc.freeze()
        for host in self.hosts:
            self._tasks.append(asyncio.create_task(self._live(host)))
        await asyncio.sleep(2 * _SETTLED_SECONDS)  # first offers and first deaths

    async def end(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for host in list(self.up.values()):
            await self._stop(host)

    def ids(self) -> Ids:
        """Return the contacts of all nodes that are there."""
        return Ids(
            self.swarm.shared_contact(host.node)
            for host in self.up.values()
            if host.node is not None
        )

    async def _start(self, host: Host, life: int) -> Dht:
        node = await self.swarm.start(host.number, life, read_only=False)
        host.node, host.since = node, self.swarm.loop.time()
        self.up[host.number] = host
        return node

    async def _stop(self, host: Host) -> None:
        """Let a node die; it remembers whom it knew."""
        node, host.node = host.node, None
        if node is None:
            return
        del self.up[host.number]
        self.node_seconds += self.swarm.loop.time() - host.since
        known = [status.contact.address for status in node.contacts()]
        count = min(CONTACTS_REMEMBERED, len(known))
        host.remembered = self.rng.sample(known, count)
        await node.close()

    async def _live(self, host: Host) -> None:
        life = 0
        while True:
            if host.node is None:
                await asyncio.sleep(self.rng.expovariate(1 / self.away))
                life += 1
                await self._return(host, await self._start(host, life))
            elif self._offering:
                await asyncio.sleep(self.rng.uniform(0, _SETTLED_SECONDS))
                await self._offer(host, host.node)
            await asyncio.sleep(self.rng.expovariate(1 / self.session))
            await self._stop(host)

    async def _return(self, host: Host, node: Dht) -> None:
        """Join through remembered contacts, or by asking around."""
        everybody = [each for n, each in self.up.items() if n != host.number]
        for _ in range(5):
            if host.remembered and await node.join(host.remembered):
                break
            some = self.rng.sample(everybody, min(3, len(everybody)))
            host.remembered = [
                Address(self.swarm.host(each.number), 4747) for each in some
            ]
        if self._offering:
            await self._offer(host, node)

    async def _offer(self, host: Host, node: Dht) -> None:
        await node.offer([key_of(host.number, self.swarm.seed)], 5000)

    def pick(self, seconds: float = _SETTLED_SECONDS) -> Host | None:
        """Return some host that has been there for that long, if there is one."""
        now = self.swarm.loop.time()
        ready = [host for host in self.up.values() if now - host.since >= seconds]
        return self.rng.choice(ready) if ready else None

    def sent_per_second(self, bytes_before: int, seconds_before: float) -> float:
        """Return the payload bytes each node has sent a second, since then."""
        sent = sum(self.swarm.network.bytes_sent.values()) - bytes_before
        return sent / (self.lived() - seconds_before)

    def lived(self) -> float:
        """Return the seconds that all nodes together have been there."""
        now = self.swarm.loop.time()
        return self.node_seconds + sum(now - h.since for h in self.up.values())


async def look(churn: Churn, seen: Seen) -> None:
    """Look up the key of one host from another; a dead asker tells nothing."""
    asker, offerer = churn.pick(), churn.pick()
    if asker is None or offerer is None:
        return
    node, provider = asker.node, offerer.node
    if node is None or provider is None or asker is offerer:
        return
    one = Seen()
    key = key_of(offerer.number, churn.swarm.seed)
    with contextlib.suppress(asyncio.CancelledError):
        await measure(node, key, churn.ids(), one, provider=provider.public_key)
    if asker.node is node and offerer.node is provider:
        seen.add(one)


async def look_for(
    churn: Churn, seconds: float, lookups: int, seen: Seen, progress: Progress
) -> None:
    """Spread lookups over some time."""
    async with asyncio.TaskGroup() as tasks:
        for number in range(lookups):
            progress.show("lookups of this hour", number, lookups)
            await asyncio.sleep(seconds / lookups)
            tasks.create_task(look(churn, seen))


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    with virtual_time() as loop:
        swarm = Swarm(loop, options.seed, link=Link(loss=options.loss), cheap_keys=True)

        async def scenario() -> Result:
            churn = Churn(
                swarm,
                nodes=options.nodes,
                session_seconds=60 * options.session,
                away_seconds=60 * options.away,
                offering=options.offers > 0,
            )
            await churn.begin()
            hours = max(1, round(options.hours))
            slot = 3600 * options.hours / hours
            every: list[Seen] = []
            rates: list[float] = []
            for hour in range(hours):
                sent = sum(swarm.network.bytes_sent.values())
                lived = churn.lived()
                every.append(Seen())
                await look_for(churn, slot, options.lookups, every[-1], progress)
                rates.append(churn.sent_per_second(sent, lived))
                progress.show("hours", hour + 1, hours)
            await churn.end()
            return _result(options, swarm, every, rates)

        return swarm.run(scenario())


def _result(
    options: argparse.Namespace, swarm: Swarm, every: list[Seen], rates: list[float]
) -> Result:
    total = Seen()
    for seen in every:
        total.add(seen)
    shares = [seen.found / max(seen.done, 1) for seen in every]
    figures = {
        "found_worst_hour": min(shares),
        **total.figures(),
        "lookups": total.done,
        "lost": total.done - total.found,
        "bytes_per_second_per_node": sum(rates) / len(rates),
        "bytes_per_second_worst_hour": max(rates),
        "bytes_per_second_p50": percentile(rates, 0.5),
        "found_by_hour": shares,
        "messages": swarm.network.counters["sent"],
        "trace": swarm.network.trace[:16],
    }
    hours = [float(hour + 1) for hour in range(len(every))]
    plot = Plot(
        f"{options.nodes:,} nodes, median session {options.session:g} min",
        "hour",
        "share of lookups that found the provider",
        {"found": list(zip(hours, shares, strict=True))},
    )
    return Result(figures, plot)
