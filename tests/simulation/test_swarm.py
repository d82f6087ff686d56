"""Fifty nodes in virtual time, with loss, death and a NAT; and the same run twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dht import Address, Network, provider_key
from tests.simulation.loop import StuckError, virtual_time
from tests.simulation.network import Link
from tests.simulation.swarm import Swarm

if TYPE_CHECKING:
    from dht import Dht, ProviderRecord

LOSSY = Link(loss=0.05, duplication=0.02)


def key(number: int) -> bytes:
    return provider_key(Network(), "sha256", b"%032d" % number)


async def found(node: Dht, wanted: bytes) -> list[ProviderRecord]:
    return [record async for record in node.find_providers(wanted)]


def test_fifty_nodes_find_everything_under_loss() -> None:
    """One datagram in twenty is lost, some come twice, and all offers are found."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=1, link=LOSSY)

        async def scenario() -> None:
            await swarm.grow(50)
            for number in range(10):
                report = await swarm.nodes[number].offer([key(number)], 5000)
                assert report.stored[key(number)] >= 18
            for number in range(10):
                asker = swarm.nodes[49 - number]
                (record,) = await found(asker, key(number))
                assert record.address == Address(swarm.host(number), 5000)
            await swarm.close()

        swarm.run(scenario())


def test_offers_outlive_half_of_the_nodes() -> None:
    """They vanish without a word, and nobody waits for them."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=2, link=LOSSY)

        async def scenario() -> None:
            await swarm.grow(50)
            await swarm.nodes[0].offer([key(1)], 5000)
            for node in swarm.nodes[1:26]:
                swarm.kill(node)
            for asker in swarm.nodes[40:45]:
                search = asker.find_providers(key(1))
                first = await anext(search)
                assert first.public_key == swarm.nodes[0].public_key
                assert search.seconds < 3.0
                await search.aclose()
            await swarm.close()

        swarm.run(scenario())


def test_offers_are_renewed_and_end_with_their_node() -> None:
    """After a day they are there; five hours after the node's death they are not."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=3)

        async def scenario() -> None:
            await swarm.grow(12)
            await swarm.nodes[0].offer([key(1)], 5000)
            await asyncio.sleep(24 * 3600)
            assert len(await found(swarm.nodes[5], key(1))) == 1
            swarm.kill(swarm.nodes[0])
            await asyncio.sleep(5 * 3600 + 60)
            assert await found(swarm.nodes[5], key(1)) == []
            assert all(n.stats()["kept.providers"] == 0 for n in swarm.nodes[1:])
            await swarm.close()

        swarm.run(scenario())


def test_a_node_behind_a_nat_is_read_only_and_fetches_all_the_same() -> None:
    """It is in nobody's table, because nobody could ask it."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=4)

        async def scenario() -> None:
            await swarm.grow(20)
            await swarm.nodes[3].offer([key(1)], 5000)
            # The NAT gives it an address that is not its own.
            swarm.network.put_behind_nat(swarm.host(20), "77.7.7.7")
            (hidden,) = await swarm.add(read_only=None)
            assert await hidden.join([swarm.nodes[0].addresses[0]]) == 1
            await asyncio.sleep(120)
            assert hidden.is_read_only
            assert hidden.observed == Address("77.7.7.7", 4747)
            assert len(await found(hidden, key(1))) == 1
            tabled = {s.contact.public_key for n in swarm.nodes for s in n.contacts()}
            assert hidden.public_key not in tabled
            await swarm.close()

        swarm.run(scenario())


def test_a_forwarded_port_is_found_out_by_a_probe() -> None:
    """A ping from a host it never sent to shows that others can reach the node."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=5)

        async def scenario() -> None:
            await swarm.grow(40)
            (hidden,) = await swarm.add()
            swarm.network.translate(swarm.host(40), "77.7.7.7")
            await hidden.join([swarm.nodes[0].addresses[0]])
            was_read_only = hidden.is_read_only
            await asyncio.sleep(1900)
            assert (was_read_only, hidden.is_read_only) == (True, False)
            await swarm.close()

        swarm.run(scenario())


def test_halves_that_were_parted_meet_again() -> None:
    """An hour apart, and ten minutes later everything is found across."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=6)

        async def scenario() -> None:
            await swarm.grow(40)
            sides = {swarm.host(number): number % 2 for number in range(40)}
            swarm.network.part(sides)
            await asyncio.sleep(1800)
            for number in range(4):
                await swarm.nodes[number].offer([key(number)], 5000)
            await asyncio.sleep(1800)
            swarm.network.part({})
            await asyncio.sleep(600)
            for number in range(4):
                for asker in swarm.nodes[20:24]:
                    assert len(await found(asker, key(number))) == 1
            await swarm.close()

        swarm.run(scenario())


def test_a_node_that_lost_everybody_comes_back() -> None:
    """After an hour without a network it finds its way in by itself."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=7)

        async def scenario() -> None:
            await swarm.grow(15)
            alone = swarm.nodes[9]
            await swarm.nodes[3].offer([key(1)], 5000)
            swarm.network.part({swarm.host(9): 1})
            for _ in range(6):
                await asyncio.sleep(600)
                assert await found(alone, key(2)) == []
            swarm.network.part({})
            await asyncio.sleep(300)
            assert len(await found(alone, key(1))) == 1
            await swarm.close()

        swarm.run(scenario())


def test_a_simulation_that_can_never_go_on_says_so() -> None:
    """Instead of spinning for ever."""
    with virtual_time() as loop, pytest.raises(StuckError):
        loop.run_until_complete(loop.create_future())


def run_of(seed: int) -> str:
    """Return the trace of a small run with everything in it."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=seed, link=LOSSY)

        async def scenario() -> None:
            await swarm.grow(25)
            await swarm.nodes[3].offer([key(n) for n in range(5)], 5000)
            swarm.kill(swarm.nodes[7])
            await found(swarm.nodes[20], key(2))
            await swarm.close()

        swarm.run(scenario())
        return swarm.network.trace


def test_the_same_seed_replays_the_same_trace() -> None:
    """Under any order of hashes, in another process; another seed differs."""
    traces = {run_of(11)}
    root = Path(__file__).parents[2]
    code = "from tests.simulation.test_swarm import run_of; print(run_of(11))"
    for hash_seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        traces.add(done.stdout.strip())
    assert len(traces) == 1
    assert run_of(12) not in traces
