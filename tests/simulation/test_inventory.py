"""Inventories in whole networks: kept, renewed, withdrawn, and repaired."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

from tests.dht.builders import key
from tests.simulation.experiments import load, options_of
from tests.simulation.inventory import Traffic
from tests.simulation.loop import virtual_time
from tests.simulation.report import Progress
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dht import Dht

NODES = 25
KEYS = [key(number) for number in range(400)]


def store_of(node: Dht) -> Any:
    running: Any = node._running
    return running.local_storage.provider_store


async def renew(node: Dht) -> None:
    running: Any = node._running
    await running.announcer.renew()


def offered_at(keepers: Iterable[Dht], provider: Dht) -> set[bytes]:
    """Return which of the keys each of the keepers lists for a provider."""
    common = set(KEYS)
    for keeper in keepers:
        if keeper is not provider:
            common &= {
                each
                for each in KEYS
                for record in store_of(keeper).page(each, 0, 0.0).records
                if record.public_key == provider.public_key
            }
    return common


def test_every_file_of_every_node_is_found() -> None:
    """A seeded share of the large experiment."""
    options = options_of(
        "inventory", nodes=22, files=800, sixteenths=2, lookups=20, loss=0.02
    )
    result = load("inventory").run(options, Progress(shown=False))
    assert result.failed == []
    assert result.figures["found"] == 1
    assert result.figures["keepers_of_a_key"] >= 18
    assert result.figures["bytes_for_a_key_at_a_keeper"] < 40


def test_all_who_offer_the_same_files_are_found_and_drawn_evenly() -> None:
    """Whoever asks finds eight at least, now these and now those."""
    options = options_of(
        "inventory", nodes=60, files=40, sixteenths=2, lookups=60, same=1
    )
    result = load("inventory").run(options, Progress(shown=False))
    assert result.failed == []
    assert result.figures["providers_least"] >= 40
    assert result.figures["most_over_mean"] < 2.5
    assert result.figures["providers_named_first"] >= 50


def is_near(swarm: Swarm, provider: Dht, each: bytes) -> bool:
    """Tell whether most of the nodes nearest to a key list it."""
    target = int.from_bytes(each, "big")
    others = [node for node in swarm.nodes if node is not provider]
    others.sort(key=lambda node: int.from_bytes(node.node_id, "big") ^ target)
    holds = [bool(store_of(node).page(each, 0, 0.0).total) for node in others[:20]]
    return sum(holds) >= 17


def test_a_small_network_is_asked_once_for_the_keepers_of_all_regions() -> None:
    """Every node names its contacts twice at most; the right nodes keep the keys."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=86, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(40)
            provider, named = swarm.nodes[3], 0
            send = swarm.network.send

            def counted(data: bytes, source: Any, to: Any) -> None:
                nonlocal named
                named += data[10] == 66 and len(data) > 400  # contacts in a reply
                send(data, source, to)

            swarm.network.send = counted  # type: ignore[method-assign]
            await provider.offer(KEYS, 5000)
            assert named < 2 * len(swarm.nodes)
            assert provider.placement().placed == len(KEYS)
            assert all(is_near(swarm, provider, each) for each in KEYS[:20])
            await swarm.close()

        swarm.run(scenario())


def test_a_node_that_knows_few_chooses_the_right_keepers() -> None:
    """Those far from it are named by their own neighbours."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=88, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(60)
            provider = swarm.nodes[7]
            table = provider._core.tables[4]
            far = [one for one in table if (one.node_id[0] ^ provider.node_id[0]) >> 7]
            for contact in far:
                table.remove(contact)
            await provider.offer(KEYS, 5000)
            assert provider._core.stats["timeouts"] == 0
            assert sum(is_near(swarm, provider, each) for each in KEYS) == len(KEYS)
            await swarm.close()

        swarm.run(scenario())


def test_slow_nodes_are_no_reason_to_choose_other_keepers() -> None:
    """A lookup passes over them; the keepers of all regions are not chosen so."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=87, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(40)
            provider = swarm.nodes[3]
            slow = {node.addresses[0].host for node in swarm.nodes[10:25]}
            delay, send = swarm.network.delay, swarm.network.send

            def delayed(data: bytes, source: Any, to: Any) -> None:
                extra = 0.9 * (source[0] in slow)
                swarm.network.delay = lambda: delay() + extra  # type: ignore[method-assign]
                send(data, source, to)

            swarm.network.send = delayed  # type: ignore[method-assign]
            await provider.offer(KEYS, 5000)
            assert sum(is_near(swarm, provider, each) for each in KEYS) > 380
            await swarm.close()

        swarm.run(scenario())


def test_a_keeper_that_lost_everything_gets_it_with_the_next_renewal() -> None:
    """And nobody else is sent more than the node record."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=81, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(NODES)
            provider = swarm.nodes[3]
            await provider.offer(KEYS, 5000)
            first = offered_at(swarm.nodes, provider)
            traffic = Traffic(swarm)
            await renew(provider)
            renewed = traffic.take()["announces"]
            await renew(provider)
            assert traffic.take()["announces"] < 1.2 * renewed
            victim = swarm.nodes[9]
            held = len(store_of(victim))
            store_of(victim).expire(math.inf)
            assert len(store_of(victim)) == 0
            await renew(provider)
            assert len(store_of(victim)) == held
            assert offered_at(swarm.nodes, provider) == first
            assert provider.placement().placed == len(KEYS)
            await swarm.close()

        swarm.run(scenario())


def test_a_restart_with_the_same_files_sends_no_slices() -> None:
    """The keepers have them still, and say so."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=82, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(NODES)
            traffic = Traffic(swarm)
            provider = swarm.nodes[3]
            many = [key(number) for number in range(3000)]
            await provider.offer(many, 5000)
            first = traffic.take()["announces"]
            await provider.close()
            again = await swarm.start(3, life=1)
            await again.join([swarm.nodes[0].addresses[0]])
            traffic.take()
            await again.offer(random.Random(1).sample(many, len(many)), 5000)
            assert traffic.take()["announces"] < first / 4
            report = again.placement()
            assert report.placed == report.offered == len(many)
            await again.close()
            await swarm.close()

        swarm.run(scenario())


def test_a_keeper_that_misses_a_withdrawal_learns_of_it_later() -> None:
    """With the next renewal: its summary differs."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=83, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(NODES)
            provider = swarm.nodes[3]
            await provider.offer(KEYS, 5000)
            gone = KEYS[:150]
            keeper = next(n for n in swarm.nodes if n is not provider and store_of(n))
            held = len(store_of(keeper))
            swarm.network.kill(keeper.addresses[0].host)
            provider.withdraw(gone)
            await asyncio.sleep(20)
            swarm.network.revive(keeper.addresses[0].host)
            assert len(store_of(keeper)) == held
            others = [n for n in swarm.nodes if n not in (keeper, provider)]
            for other in others:
                assert all(not store_of(other).page(k, 0, 0.0).total for k in gone)
            await asyncio.sleep(120)
            await renew(provider)
            now = loop.time()
            for each in gone:
                assert not store_of(keeper).page(each, 0, now).total
            assert provider.placement().offered == len(KEYS) - len(gone)
            await swarm.close()

        swarm.run(scenario())


def test_withdrawing_everything_leaves_nothing() -> None:
    """Neither at the keepers nor in the counts."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=84, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(NODES)
            provider = swarm.nodes[3]
            await provider.offer(KEYS, 5000)
            assert sum(len(store_of(node)) for node in swarm.nodes) > 15 * len(KEYS)
            provider.withdraw(KEYS)
            await asyncio.sleep(30)
            assert all(len(store_of(node)) == 0 for node in swarm.nodes)
            assert all(store_of(node).bytes_held == 0 for node in swarm.nodes)
            report = provider.placement()
            assert (report.offered, report.keepers) == (0, {})
            await provider.offer(KEYS[:50], 5000)
            assert provider.placement().placed == 50
            await swarm.close()

        swarm.run(scenario())


def test_placement_counts_each_key_once_whatever_comes_and_goes() -> None:
    """While sweeps run, too."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=85, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(NODES)
            provider = swarm.nodes[3]
            rng = random.Random(85)
            model = set[bytes]()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(15):
                    some = set(rng.sample(KEYS, 60))
                    if rng.random() < 0.6:
                        model |= some
                        tasks.create_task(provider.offer(some, 5000))
                    else:
                        model -= some
                        provider.withdraw(some)
                    await asyncio.sleep(rng.uniform(0, 0.5))
                    counts = provider.placement().keepers
                    assert all(number > 0 for number in counts.values())
            await asyncio.sleep(120)
            report = provider.placement()
            assert report.offered == report.placed == len(model)
            listed = offered_at(swarm.nodes, provider)
            assert listed <= model
            await swarm.close()

        swarm.run(scenario())
