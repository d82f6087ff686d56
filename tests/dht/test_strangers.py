"""Replays and liars on real sockets, where a capture can be sent again."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import Any

from dht import Address, Dht, Network
from tests.dht import hostile
from tests.dht.builders import key, private_key
from tests.dht.test_hostile import HERE, network
from tests.simulation.swarm import cheap_verify

LAB = Network("lab", b"s" * 32)


def tap(node: Dht) -> list[bytes]:
    """Collect the datagrams that a node gets, as somebody on the path would."""
    running: Any = node._running
    captured: list[bytes] = []
    transport = running.transport
    deliver = transport._on_datagram

    def record(datagram: bytes, source: Address) -> None:
        captured.append(datagram)
        deliver(datagram, source)

    transport._on_datagram = record
    return captured


async def answers(node: Dht, datagrams: list[bytes], seconds: float = 0.3) -> int:
    """Send datagrams from a socket of a stranger; how many answers it gets."""
    loop = asyncio.get_running_loop()
    got = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        before = node.stats()["received"]
        for datagram in datagrams:
            sock.sendto(datagram, (node.addresses[0].host, node.addresses[0].port))
        await hostile.read_by(node, before + len(datagrams), seconds=5)
        try:
            while True:
                async with asyncio.timeout(seconds):
                    await loop.sock_recv(sock, 2048)
                got += 1
        except TimeoutError:
            return got


async def test_a_captured_datagram_of_a_private_network_is_good_once() -> None:
    """Sent again by a stranger it gets no answer, though its MAC is right."""
    async with network(2, network=LAB) as (node, other):
        captured = tap(node)
        await other.offer([key(1)], 5000)
        assert captured
        again = captured[:20]
        assert await answers(node, again) == 0
        assert node.stats()["dropped.replay"] >= len(again)


async def test_without_the_secret_nothing_is_answered() -> None:
    """Not a word of the public network, of any kind, padded or not."""
    async with network(2, network=LAB) as (node, _):
        rng = random.Random(4)
        bodies = hostile.bodies(rng)
        asked = [
            hostile.request(body, rng.randbytes(32), rng, padding=size)
            for body in bodies
            for size in (0, 400)
        ]
        assert await answers(node, asked) == 0
        assert node.stats()["dropped.mac"] == len(asked)


async def test_the_same_words_are_answered_in_the_public_network() -> None:
    """So the test above can fail."""
    async with network(2) as (node, _):
        rng = random.Random(4)
        asked = [
            hostile.request(body, rng.randbytes(32), rng, padding=400)
            for body in hostile.bodies(rng)[:4]
        ]
        assert await answers(node, asked) == len(asked)


async def test_a_replayed_announce_stores_nothing_elsewhere() -> None:
    """Token and record are bound to the address that announced."""
    async with network(2, verify=cheap_verify) as (node, other):
        captured = tap(node)
        await other.offer([key(1)], 5000)
        announces = [each for each in captured if each[10] == 4]
        assert announces
        other.withdraw([key(1)])
        async with asyncio.timeout(10):
            while node.stats()["kept.providers"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await answers(node, announces)
        assert node.stats()["kept.providers"] == 0


async def test_an_honest_contact_beside_a_liar_leads_into_the_network() -> None:
    """A bootstrap node that names false contacts only delays who knows another."""
    async with network(6) as nodes:
        liar = nodes[0]
        running: Any = liar._running
        fakes = [hostile.fake_contact(number) for number in range(20)]
        running.rpc_server._nearest = lambda asked, target, limit: fakes[:limit]
        await nodes[3].offer([key(5)], 5000)
        newcomer = Dht(private_key(401))
        await newcomer.start([HERE])
        try:
            asked = [liar.addresses[0], nodes[1].addresses[0]]
            assert await newcomer.join(asked) == 2
            tabled = {status.contact for status in newcomer.contacts()}
            assert not tabled & set(fakes)
            found = [r.public_key async for r in newcomer.find_providers(key(5))]
            assert found == [nodes[3].public_key]
        finally:
            await newcomer.close()
