"""Eclipse: an attacker makes ids until its nodes are the nearest to a key.

Every node hears of all attackers and tables as many as its rules on /24 networks
allow: those that its full buckets have room for or, with `--first 1`, as if they had
been there before all others. Attackers name one another, keep nothing, and answer
that nobody offers the key. A provider then offers it, and others look for it. Found
is the provider.
"""

from __future__ import annotations

import gc
import random
from typing import TYPE_CHECKING

from dht import Network, provider_key
from dht.limits import K
from tests.simulation.adversary import corrupt
from tests.simulation.filled import Ids
from tests.simulation.lookups import Seen, filled_swarm, key_of, measure
from tests.simulation.loop import virtual_time
from tests.simulation.network import Link
from tests.simulation.options import OptionError, whole
from tests.simulation.report import Plot, Progress, Result
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    import argparse

    from dht import Contact, Dht
    from dht.routing import Table

DEFAULTS = {
    "nodes": 1000, "attackers": 45, "groups": 10, "keys": 20, "lookups": 200,
    "first": 0, "spread": 0, "loss": 0.0, "seed": 1,
}  # fmt: skip
OPTIONS = {
    "first": (whole(0), "1 if the attackers came before the tables were full"),
    "spread": (whole(0), "attackers of a key that spread over its half of the ids"),
}

_TRIES_PER_ATTACKER = 1500


async def surround(
    swarm: Swarm, number: int, key: bytes, options: argparse.Namespace
) -> list[Dht]:
    """Start the attackers of one key, with ids ground for it, in their /24s.

    Some may spread over the half of all ids that the key lies in, to be in the
    buckets through which others come near it.
    """
    attackers, groups = options.attackers, options.groups
    target = int.from_bytes(key, "big")
    first = (number + 1) * 10_000_000
    tried = range(first, first + attackers * _TRIES_PER_ATTACKER)
    nearest = sorted(tried, key=lambda each: swarm.long_id(each) ^ target)
    half = [each for each in tried if (swarm.long_id(each) ^ target) >> 255 == 0]
    chosen = nearest[: attackers - options.spread] + half[: options.spread]
    swarm.rng.shuffle(chosen)
    nodes = []
    for place, each in enumerate(chosen):
        group, host = place % groups, place // groups
        address = f"{100 + number // 250}.{number % 250}.{group}.{host + 1}"
        nodes.append(await swarm.start(each, hosts=[address], read_only=False))
    swarm.nodes += nodes
    ids = Ids(swarm.shared_contact(node) for node in nodes)
    for node in nodes:
        corrupt(node, "colluders", ids, ids)
    return nodes


def announce(
    swarm: Swarm, honest: list[Dht], attackers: list[Dht], first: random.Random | None
) -> int:
    """Let all attackers prove themselves to every node; how many were tabled.

    With a generator, `first`, they take places of contacts drawn by it.
    """
    contacts = [swarm.shared_contact(node) for node in attackers]
    false = {contact.node_id for contact in contacts}
    for node in honest:
        for contact in contacts:
            if first is not None:
                _make_place(node._core.tables[4], contact, false, first)
            node._core.table(contact, swarm.loop.time())
    return sum(contact in n._core.tables[4] for n in honest for contact in contacts)


def _make_place(
    table: Table, contact: Contact, false: set[bytes], rng: random.Random
) -> None:
    """Take an honest contact out of a full bucket that would take this one in."""
    bucket = table._bucket(contact.long_id)
    if len(bucket) < K or not table._is_diverse(bucket, contact):
        return
    honest = [each for each in bucket.nodes.values() if each.node_id not in false]
    if honest:
        table.remove(rng.choice(honest))


def run(options: argparse.Namespace, progress: Progress) -> Result:
    """Run the experiment."""
    _check(options)
    with virtual_time() as loop:
        link = Link(loss=options.loss)
        swarm = Swarm(loop, options.seed, link=link, cheap_keys=True)
        return swarm.run(_scenario(swarm, options, progress))


def _check(options: argparse.Namespace) -> None:
    if options.groups > 256 or options.attackers > 250 * options.groups:
        raise OptionError("Attackers have 1 to 256 groups, of 250 addresses each.")
    if options.spread > options.attackers:
        raise OptionError("No more attackers can spread than there are.")
    if options.lookups < options.keys:
        raise OptionError("There is a lookup for each key at least.")
    if options.nodes <= options.lookups // options.keys:
        raise OptionError("The lookups of a key come from as many other nodes.")


async def _scenario(
    swarm: Swarm, options: argparse.Namespace, progress: Progress
) -> Result:
    """Attack one key after the other; all attackers stay."""
    await filled_swarm(swarm, options, progress)
    gc.freeze()
    honest = list(swarm.nodes)
    honest_ids = Ids(swarm.shared_contact(node) for node in honest)
    rng = random.Random(f"eclipse {options.seed}")
    total, tabled = Seen(), 0
    shares: list[float] = []
    for number in range(options.keys):
        key = key_of(number, options.seed)
        attackers = await surround(swarm, number, key, options)
        first = random.Random(f"first {key.hex()}") if options.first else None
        tabled += announce(swarm, honest, attackers, first)
        provider, *askers = rng.sample(honest, 1 + options.lookups // options.keys)
        await provider.offer([key], 5000)
        seen = Seen()
        for asker in askers:
            await measure(asker, key, honest_ids, seen, provider=provider.public_key)
        shares.append(seen.found / seen.done)
        total.add(seen)
        progress.show("keys", number + 1, options.keys)
    figures = total.figures()
    for name in ("dead_in_results", "recall", "closest_found"):
        del figures[name]
    figures["keys_always_found"] = shares.count(1.0) / len(shares)
    figures["tabled_per_node_and_key"] = tabled / len(honest) / options.keys
    # What the region costs where nobody attacks: how often it is suspected.
    figures["suspected_elsewhere"] = await suspected(swarm, honest, rng)
    figures["messages"] = swarm.network.counters["sent"]
    figures["trace"] = swarm.network.trace[:16]
    plot = Plot(
        f"{options.attackers} attackers in {options.groups} /24s",
        "key",
        "share of lookups that found the provider",
        {"found": [(float(n), each) for n, each in enumerate(shares)]},
    )
    return Result(figures, plot)


async def suspected(swarm: Swarm, honest: list[Dht], rng: random.Random) -> float:
    """Return the share of lookups of other keys that took chance for an attack."""
    count = 200
    before = sum(node._core.stats["crowded"] for node in honest)
    for number in range(count):
        key = provider_key(Network(), "sha256", b"elsewhere %d" % number)
        async for _ in rng.choice(honest).find_providers(key):
            pass
    return (sum(node._core.stats["crowded"] for node in honest) - before) / count
