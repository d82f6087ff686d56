"""Neighbours find each other by mDNS, and a forged announcement aims at nobody."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Contact, Dht, Network
from node.reach import lan as lan_module
from node.reach.lan import TAG_PROPERTY, Lan, Tries, believable
from node.reach.lan_peers import LAN_PEER_SECONDS, LAN_PEERS_MAX, LanPeers
from node.reach.links import Link, is_container_bridge, links

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Address("127.0.0.1", 0)
LOOPBACK = Link("lo", (ipaddress.ip_interface("127.0.0.1/8"),), 1)
HOME = Link(
    "eth0",
    (
        ipaddress.ip_interface("192.168.1.2/24"),
        ipaddress.ip_interface("fd12:3456::2/64"),
    ),
    2,
)
TAG = b"0011223344556677"


class Host:
    """A DHT node on loopback with its discovery."""

    def __init__(self, network: Network) -> None:
        self.dht = Dht(Ed25519PrivateKey.generate(), network=network)
        self.links: tuple[Link, ...] = (LOOPBACK,)
        self.peers = LanPeers()

    async def start(self) -> None:
        await self.dht.start([HERE])
        lan = Lan(
            self.dht._core.network.tag,
            self.dht.addresses[0].port,
            links=lambda: self.links,
            meet=self.dht.meet,
            peers=self.peers,
        )
        self.task = asyncio.create_task(lan.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.dht.close()

    def knows(self, other: Host) -> bool:
        return any(
            status.contact.public_key == other.dht.public_key
            for status in self.dht.contacts()
        )


@contextlib.asynccontextmanager
async def hosts(*networks: Network) -> AsyncIterator[list[Host]]:
    made = [Host(network) for network in networks]
    try:
        for host in made:
            await host.start()
        yield made
    finally:
        for host in made:
            await host.close()


async def until(condition, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (what others do sets no event here)
            await asyncio.sleep(0.05)


def fresh_network(secret: bytes | None = None) -> Network:
    return Network(f"test-{random.SystemRandom().randbytes(4).hex()}", secret)


async def test_nodes_of_one_link_meet_with_no_contact_named():
    network = fresh_network()
    async with hosts(network, network) as (one, other):
        await until(lambda: one.knows(other) and other.knows(one))
        await until(lambda: other.dht.public_key in keys_of(one.peers))


def keys_of(peers: LanPeers) -> set[bytes]:
    return {contact.public_key for contact in peers.remembered()}


async def test_private_networks_find_only_their_own():
    secret, other_secret = bytes(31) + b"1", bytes(31) + b"2"
    mine, foreign = Network("lab", secret), Network("lab", other_secret)
    async with hosts(mine, foreign, mine) as (one, stranger, friend):
        await until(lambda: one.knows(friend) and friend.knows(one))
        await asyncio.sleep(0.5)
        assert not one.knows(stranger)
        assert not stranger.dht.contacts()


async def test_a_link_that_comes_back_is_announced_again(monkeypatch):
    monkeypatch.setattr(lan_module, "POLL_SECONDS", 0.1)
    network = fresh_network()
    async with hosts(network) as (one,):
        one.links = ()
        await asyncio.sleep(0.3)
        async with hosts(network) as (other,):
            await asyncio.sleep(0.5)
            assert not one.knows(other)
            one.links = (LOOPBACK,)
            await until(lambda: one.knows(other) and other.knows(one))


def test_a_forged_announcement_aims_this_node_at_no_stranger():
    names = ["192.168.1.7", "8.8.8.8", "127.0.0.1", "224.0.0.251", "192.168.2.1"]
    found = believable(HOME, TAG, {TAG_PROPERTY: TAG}, hosts=names, port=4747)
    assert found == [Address("192.168.1.7", 4747)]


def test_another_tag_and_more_than_the_tag_are_not_believed():
    hosts_named = ["192.168.1.7"]
    assert (
        believable(HOME, TAG, {TAG_PROPERTY: b"00"}, hosts=hosts_named, port=4747) == []
    )
    more = {TAG_PROPERTY: TAG, b"x": b"1"}
    assert believable(HOME, TAG, more, hosts=hosts_named, port=4747) == []
    assert believable(HOME, TAG, {TAG_PROPERTY: TAG}, hosts=hosts_named, port=53) == []


def test_ipv6_addresses_of_the_link_are_tried():
    found = believable(
        HOME, TAG, {TAG_PROPERTY: TAG}, hosts=["fd12:3456::9"], port=4747
    )
    assert found == [Address("fd12:3456::9", 4747)]


def test_a_flood_of_announcements_is_bounded():
    tries = Tries(10)
    addresses = [Address(f"192.168.1.{n + 1}", 5000) for n in range(6)]
    assert len(tries.allow(addresses, 0.0)) == 6
    assert len(tries.allow(addresses, 1.0)) == 4
    assert tries.allow(addresses, 59.0) == []
    assert len(tries.allow(addresses, 61.0)) == 6


def contact(number: int) -> Contact:
    return Contact(number.to_bytes(32, "big"), Address("192.168.1.9", 4747))


def test_one_host_does_not_take_the_tries_of_all():
    tries = Tries(120)
    flood = [Address("192.168.1.66", port) for port in range(2000, 3000)]
    assert len(tries.allow(flood, 0.0)) == 8
    honest = [Address("192.168.1.7", 4747)]
    assert tries.allow(honest, 1.0) == honest


def test_a_neighbour_that_is_silent_is_one_no_longer():
    peers = LanPeers()
    peers.met(contact(1), 0.0)
    assert peers.address_of(contact(1).public_key, 1.0) == contact(1).address
    assert peers.address_of(contact(1).public_key, LAN_PEER_SECONDS + 1) is None
    assert peers.contacts(LAN_PEER_SECONDS + 1) == []
    peers.met(contact(1), 200.0)
    assert peers.contacts(201.0) == [contact(1)]


def test_neighbours_are_bounded():
    peers = LanPeers()
    for number in range(LAN_PEERS_MAX + 10):
        peers.met(contact(number), 0.0)
    assert len(peers.remembered()) == LAN_PEERS_MAX


@pytest.mark.parametrize(
    ("name", "ports", "expected"),
    [
        ("docker0", None, True),
        ("br-0123456789ab", None, True),
        ("br0", ["veth1"], True),
        ("br0", ["eth0", "veth1"], False),
        ("eth0", None, False),
    ],
)
def test_bridges_of_containers_are_left_out(tmp_path, name, ports, expected):
    (tmp_path / name).mkdir()
    for port in ports or []:
        (tmp_path / name / "brif" / port).mkdir(parents=True)
        (tmp_path / port).mkdir()
        if port.startswith("eth"):
            (tmp_path / port / "device").mkdir()
    assert is_container_bridge(name, tmp_path) is expected


def test_loopback_is_no_link_unless_asked_for():
    assert links(["127.0.0.1"]) == ()
    (only,) = links(["127.0.0.1"], loopback=True)
    assert "127.0.0.1" in only.hosts
