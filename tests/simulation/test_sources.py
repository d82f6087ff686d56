"""Sources, in whole networks: false providers, false addresses, slander.

Each test runs a seeded share of an attack that a real one would do at full size:
`scripts/simulate` and `docs/measurements.md` have the large figures.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from dht import Address, Contact, Network, ProviderRecord, provider_key
from dht.keys import follow_key
from dht.limits import PROVIDER_SECONDS, PROVIDERS_PER_KEY_MAX
from tests.simulation.loop import VirtualClock, virtual_time
from tests.simulation.swarm import PORT, CheapSigner, Swarm

if TYPE_CHECKING:
    from dht import Dht
    from dht.in_flight import Asked

NODES = 30
FAKES = 1100  # at each keeper: more than one keeps of a key
VICTIM = Address("99.9.9.9", 4747)


def key(number: int) -> bytes:
    """Return the key of some artifact."""
    return provider_key(Network(), "sha256", b"%032d" % number)


def in_48(number: int) -> Address:
    return Address(f"2a02:1:1:{number:x}::7", 5000)


def in_16(number: int) -> Address:
    return Address(f"91.7.{number % 250}.{1 + number // 250}", 5000)


def in_lan(number: int) -> Address:
    return Address("192.168.66.66", 2000 + number)


def false_providers(swarm: Swarm, wanted: bytes, place_of: Any, count: int) -> None:
    """Let every node keep false providers of a key, as far as it takes them."""
    now = VirtualClock(swarm.loop)
    records = []
    for number in range(count):
        place = place_of(number)
        record = ProviderRecord.sign(
            CheapSigner(b"false %d" % number),
            tag=Network().tag,
            key=wanted,
            address=place,
            expires_at=now.time() + PROVIDER_SECONDS,
        )
        records.append((record, place.path))
    for node in swarm.nodes:
        running: Any = node._running
        for record, path in records:
            running.local_storage.provider_store.put(
                record.node,
                record.slice,
                path,
                now=now.monotonic(),
                lifetime=PROVIDER_SECONDS,
            )
        assert node.stats()["kept.providers"] <= PROVIDERS_PER_KEY_MAX


@pytest.mark.parametrize(
    "fakes", [FAKES, pytest.param(10_000, marks=[pytest.mark.full])]
)
@pytest.mark.parametrize("attack", ["IPv6 /48", "IPv4 /16", "one machine of a LAN"])
def test_an_honest_provider_is_found_among_false_ones(attack: str, fakes: int) -> None:
    """In every search, though it came last and every keeper was full.

    The followers of a name are kept in the same way, under a key of their own.
    """
    place_of = {"IPv6 /48": in_48, "IPv4 /16": in_16}.get(attack, in_lan)
    wanted = key(1)
    if attack == "IPv4 /16":
        wanted = follow_key(Network(), b"p" * 32, "name")
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=61, cheap_keys=True)

        async def scenario() -> None:
            for number in range(NODES):
                hosts = (
                    [f"192.168.1.{number + 1}"]
                    if place_of is in_lan
                    else [swarm.host(number), swarm.host6(number)]
                )
                node = await swarm.start(number, hosts=hosts)
                known = [each.addresses[0] for each in swarm.nodes[:3]]
                swarm.nodes.append(node)
                if known:
                    await node.join(known)
            false_providers(swarm, wanted, place_of, fakes)
            honest = swarm.nodes[7]
            report = await honest.offer([wanted], 5000)
            assert report.stored[wanted] >= 18
            found = 0
            for number in range(50):
                asker = swarm.nodes[8 + number % 20]
                early = []
                async for record in asker.find_providers(wanted):
                    early.append(record.public_key)
                    if len(early) == 32:
                        break
                found += honest.public_key in early
            assert found == 50
            await swarm.close()

        swarm.run(scenario())


def lie_about_addresses(node: Dht, named: Address) -> None:
    """Let a node tell every asker that it is seen at another address."""
    running: Any = node._running
    server = running.rpc_server
    reply = server._reply

    def false(asked: Asked, body: Any, proof_bytes: int) -> bytes:
        sender = asked.sender
        asked.sender = Contact(sender.public_key, named)
        try:
            answer: bytes = reply(asked, body, proof_bytes)
        finally:
            asked.sender = sender
        return answer

    server._reply = false


def test_lying_keepers_get_no_record_that_points_at_a_victim() -> None:
    """A node signs its address only where several groups agree on it."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=62, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(NODES)
            for liar in swarm.nodes[:5]:
                lie_about_addresses(liar, VICTIM)
            honest = await swarm.start(200, read_only=False)
            core: Any = honest._core
            signed = []
            sign = core.sign_node_record

            def watched(where: Address, expires_at: float) -> Any:
                signed.append(where.host)
                return sign(where, expires_at)

            core.sign_node_record = watched
            await honest.join([node.addresses[0] for node in swarm.nodes[3:9]])
            report = await honest.offer([key(n) for n in range(20)], 5000)
            assert set(signed) == {swarm.host(200)}
            assert min(report.stored.values()) >= 10
            assert honest.observed == Address(swarm.host(200), PORT)
            await honest.close()
            await swarm.close()

        swarm.run(scenario())


def slander(node: Dht, victims: list[Address], rng: random.Random) -> None:
    """Let a node name dead ports of honest machines, near to every target."""
    running: Any = node._running

    def false(asked: Asked, target: bytes, limit: int) -> list[Contact]:
        named = []
        for place in range(limit):
            victim = victims[(rng.randrange(len(victims)) + place) % len(victims)]
            port = 20_000 + rng.randrange(20_000)
            named.append(Contact(rng.randbytes(32), Address(victim.host, port)))
        return named

    running.rpc_server._nearest = false


def test_three_slanderers_hide_no_contacts_of_the_table() -> None:
    """Dead ports that they name on honest machines silence nobody that is known."""
    with virtual_time() as loop:
        swarm = Swarm(loop, seed=63, cheap_keys=True)

        async def scenario() -> None:
            await swarm.grow(60)
            rng = random.Random(63)
            honest = swarm.nodes[3:]
            for liar in swarm.nodes[:3]:
                slander(liar, [node.addresses[0] for node in honest], rng)
            asker = swarm.nodes[30]
            for number in range(60):
                async for _ in asker.find_providers(key(number)):
                    pass
            core: Any = asker._core
            now = VirtualClock(loop).monotonic()
            contacts = [status.contact for status in asker.contacts()]
            known = [each for each in contacts if swarm.at(each) in honest]
            assert len(known) > 30
            hidden = [each for each in known if core.is_unresponsive(each, now)]
            assert hidden == []
            for number in range(1000, 1020):
                search = asker.find_providers(key(number))
                async for _ in search:
                    pass
                near = [n.node_id for n in swarm.nearest(key(number), 8) if n in honest]
                seen = {each.node_id for each in search.closest}
                mine = {asker.node_id}
                assert sum(each in seen | mine for each in near) >= len(near) - 1
            await swarm.close()

        swarm.run(scenario())
