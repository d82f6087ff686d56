"""Fake providers: a thousand false announcements hide three true ones from nobody.

Each fake is a node of its own that proves its key and announces what it does not
have, so that every record is as good as a true one until somebody dials it. Whoever
searches draws them evenly, and finds a true one soon.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Any

from dht import Address, Network, ProviderRecord, provider_key
from dht.limits import PROVIDER_SECONDS, PROVIDERS_PER_KEY_MAX
from tests.simulation.loop import VirtualClock, virtual_time
from tests.simulation.network import Link
from tests.simulation.swarm import CheapSigner, Swarm

if TYPE_CHECKING:
    from dht import Dht

FAKES = 1000
TRUE = 3
NODES = 40
KEY = provider_key(Network(), "sha256", b"wanted")
DIAL_SECONDS = 0.5  # after as long a leecher dials others beside a silent peer
DIALS_AT_ONCE = 8


def fake(
    number: int, now: float, networks: int = 60_000
) -> tuple[ProviderRecord, tuple[bytes, ...]]:
    """Return the record of a node that has nothing, and its prefix path.

    Each has a /24 of its own, as far as there are so many of them.
    """
    network = number % networks
    host = f"90.{network // 250}.{network % 250}.{1 + number // networks}"
    signer = CheapSigner(b"fake %d" % number)
    record = ProviderRecord.sign(
        signer,
        tag=Network().tag,
        key=KEY,
        address=Address(host, 5000),
        expires_at=now + PROVIDER_SECONDS,
    )
    return record, Address(host, 5000).path


def flood(swarm: Swarm, networks: int) -> set[bytes]:
    """Let all nodes keep the fakes and three true ones; returns the true keys.

    The true providers are elsewhere: a node that is asked tells its own offer first.
    """
    now = VirtualClock(swarm.loop)
    records = [fake(number, now.time(), networks) for number in range(FAKES)]
    honest = [fake(10_000 + number, now.time()) for number in range(TRUE)]
    true = {record.public_key for record, _ in honest}
    records += honest
    rng = random.Random("fakes")
    for node in swarm.nodes:
        running: Any = node._running
        rng.shuffle(records)
        for record, path in records:
            running.local_storage.provider_store.put(
                record.node,
                record.slice,
                path,
                now=now.monotonic(),
                lifetime=PROVIDER_SECONDS,
            )
    return true


def sent_by(node: Dht) -> int:
    """Return how many datagrams a node has sent."""
    return node.stats()["sent"]


async def seconds_to_fetch(node: Dht, true: set[bytes]) -> float:
    """Dial providers as they are found, as a leecher does, until one is true.

    A fake is silent: it holds one of the places of a leecher for a while. A true one
    answers after a round trip.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    places = asyncio.Semaphore(DIALS_AT_ONCE)
    fetched: asyncio.Future[float] = loop.create_future()

    async def dial(record: ProviderRecord) -> None:
        is_true = record.public_key in true
        await asyncio.sleep(0.1 if is_true else DIAL_SECONDS)
        places.release()
        if is_true and not fetched.done():
            fetched.set_result(loop.time() - began)

    sent = sent_by(node)
    search = node.find_providers(KEY)
    async with asyncio.TaskGroup() as tasks:
        async for record in search:
            await places.acquire()
            if fetched.done():
                break
            tasks.create_task(dial(record))
        await search.aclose()
    assert sent_by(node) - sent < 300
    return fetched.result() if fetched.done() else float("inf")


async def fetches(swarm: Swarm, networks: int, count: int) -> list[list[float]]:
    """Return the seconds that each search of some nodes took until a true dial."""
    await swarm.grow(NODES)
    true = flood(swarm, networks)
    waits = []
    for asker in swarm.nodes[:count]:
        waits.append([await seconds_to_fetch(asker, true)])
        while waits[-1][-1] == float("inf") and len(waits[-1]) < 8:
            waits[-1].append(await seconds_to_fetch(asker, true))
    return waits


def test_fakes_of_twenty_networks_bury_nobody() -> None:
    """A search hands out four of one /24, and so meets a true provider in time."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=51, link=Link(loss=0.02), cheap_keys=True)
        waits = swarm.run(fetches(swarm, networks=20, count=10))
        first = sorted(wait[0] for wait in waits)
        assert first[len(first) // 2] <= 6.0
        assert all(wait[-1] <= 6.0 for wait in waits)
        assert max(len(wait) for wait in waits) <= 4


def test_fakes_of_a_thousand_networks_cost_some_searches() -> None:
    """A search hands out 256, drawn evenly: half of them meet a true provider."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=51, link=Link(loss=0.02), cheap_keys=True)
        waits = swarm.run(fetches(swarm, networks=1000, count=8))
        assert sum(len(wait) == 1 for wait in waits) >= 3
        assert all(wait[-1] < 30 for wait in waits)


def test_a_flood_of_announcements_costs_bounded_room_and_pages() -> None:
    """2,000 of one key: a keeper holds 1,024, a search hands out 256."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=52, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(12)
            keeper: Any = swarm.nodes[4]._running
            now = VirtualClock(loop)
            for number in range(2 * FAKES):
                record, path = fake(number, now.time())
                keeper.local_storage.provider_store.put(
                    record.node,
                    record.slice,
                    path,
                    now=now.monotonic(),
                    lifetime=PROVIDER_SECONDS,
                )
            kept = swarm.nodes[4].stats()["kept.providers"]
            assert kept <= 1024
            search = swarm.nodes[7].find_providers(KEY)
            given = [record.public_key async for record in search]
            assert 0 < len(set(given)) == len(given)
            assert len(given) <= 256 + 8
            assert search.requests < 100

        swarm.run(scenario())


def test_one_host_cannot_announce_a_key_a_thousand_times() -> None:
    """Keys are free, addresses are not: the most of one source go first."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=53, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(3)
            running: Any = swarm.nodes[1]._running
            store = running.local_storage.provider_store
            now = VirtualClock(loop)
            true, true_path = fake(0, now.time())
            store.put(
                true.node,
                true.slice,
                true_path,
                now=now.monotonic(),
                lifetime=PROVIDER_SECONDS,
            )
            place = Address("95.1.1.1", 5000)
            for number in range(2 * PROVIDERS_PER_KEY_MAX):
                signer = CheapSigner(hashlib.sha256(b"%d" % number).digest())
                record = ProviderRecord.sign(
                    signer,
                    tag=Network().tag,
                    key=KEY,
                    address=place,
                    expires_at=now.time() + PROVIDER_SECONDS,
                )
                store.put(
                    record.node,
                    record.slice,
                    place.path,
                    now=now.monotonic(),
                    lifetime=PROVIDER_SECONDS,
                )
            assert len(store) <= PROVIDERS_PER_KEY_MAX
            page = store.page(KEY, 0, now.monotonic())
            held = list(page.records)
            while page.cursor:
                page = store.page(KEY, page.cursor, now.monotonic())
                held += page.records
            assert true in held

        swarm.run(scenario())
