"""The Mainline client: its messages, its walk, and real nodes of libtorrent."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from dht import Address, Dht, Network
from node.reach import bencode, mainline, rendezvous
from node.reach.mainline import (
    MainlineClient,
    MainlineWalk,
    PeersReply,
    info_hash,
    read_reply,
)
from node.reach.rendezvous import PER_HOST_MAX, TRIES_MAX, Rendezvous, Tried

PUBLIC = Address("11.0.0.1", 6881)
TARGET = bytes(20)

values = st.recursive(
    st.integers(-(2**40), 2**40) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.binary(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.binary(max_size=4), st.binary(max_size=9), max_size=3))
def test_a_dictionary_is_read_as_it_was_written(value):
    assert bencode.decode(bencode.encode(value)) == value


@given(st.binary(max_size=60))
def test_anything_else_is_a_value_error(data):
    try:
        value = bencode.decode(data)
    except ValueError:
        return
    assert isinstance(value, int | bytes | list | dict)


@pytest.mark.parametrize(
    "data",
    [
        b"l" * 2000,
        b"d" * 50,
        b"i" + b"9" * 40 + b"e",
        b"99999999999:x",
        b"i1e0",
        b"x" * 3000,
    ],
)
def test_bounds_hold(data):
    with pytest.raises(ValueError):  # noqa: PT011 (it is all that is raised)
        bencode.decode(data)


def test_no_network_begins_as_bittorrent_does():
    tags = {Network(f"n{number}").tag[:1] for number in range(2000)}
    assert len(tags) > 200
    assert b"d" not in tags


def test_a_private_networks_meeting_place_needs_its_secret():
    one, other = Network("lab", bytes(32)), Network("lab", bytes(31) + b"1")
    assert info_hash(one) != info_hash(other)
    assert len(info_hash(one)) == 20


def compact(host: str, port: int) -> bytes:
    return Address(host, port).packed[1:]


def test_addresses_that_the_sender_cannot_know_are_left_out():
    values = [compact(host, 4747) for host in ("11.0.0.2", "127.0.0.1", "192.168.1.1")]
    message = {
        b"r": {
            b"id": bytes(20),
            b"token": b"t",
            b"values": [*values, compact("11.0.0.3", 53), b"short"],
            b"nodes": bytes(20) + compact("10.0.0.1", 6881),
        }
    }
    reply = read_reply(message, PUBLIC)
    assert reply.peers == [Address("11.0.0.2", 4747)]
    assert reply.nodes == []


@pytest.mark.parametrize("body", [{}, {b"id": b"x"}, {b"id": bytes(20), b"values": 1}])
def test_a_malformed_reply_is_a_value_error(body):
    with pytest.raises(ValueError):  # noqa: PT011
        read_reply({b"r": body}, PUBLIC)


def node(number: int) -> tuple[bytes, Address]:
    return number.to_bytes(20, "big"), Address("11.0.0.1", 2000 + number)


def test_a_lookup_walks_towards_the_target_and_ends():
    lookup = MainlineWalk(TARGET, [PUBLIC])
    asked = []
    while (address := lookup.next()) is not None:
        asked.append(address)
        number = 300 if address == PUBLIC else address.port - 2000
        nearer = [node(n) for n in range(max(1, number // 2), number)]
        lookup.record_answer(
            PeersReply(number.to_bytes(20, "big"), b"t", [], nearer[:16]), address
        )
    nearest = [address for address, _ in lookup.closest]
    assert nearest[0] == node(1)[1]
    assert len(nearest) == mainline.CLOSEST
    assert len(asked) <= mainline.QUERIES_MAX


def test_a_lookup_among_liars_ends():
    lookup = MainlineWalk(bytes(20), [PUBLIC])
    rng = random.Random(1)
    asked = 0
    while (address := lookup.next()) is not None:
        asked += 1
        invented = [
            (rng.randbytes(20), Address("11.0.0.9", rng.randrange(1024, 65536)))
            for _ in range(8)
        ]
        peers = [Address("11.0.0.8", rng.randrange(1024, 65536)) for _ in range(50)]
        lookup.record_answer(
            PeersReply(rng.randbytes(20), b"", peers, invented), address
        )
    assert asked <= mainline.QUERIES_MAX
    assert len(lookup.peers) == mainline.PEERS_MAX


def test_found_addresses_cannot_aim_this_node_at_a_victim():
    tried = Tried()
    victim = [Address("11.0.0.9", 5000 + n) for n in range(50)]
    assert len(tried.choose(victim, 0.0)) == PER_HOST_MAX
    assert tried.choose(victim, 60.0) == []
    many = [Address(f"11.0.{n}.1", 4747) for n in range(100)]
    assert len(tried.choose(many, 60.0)) == TRIES_MAX


async def test_only_the_answer_of_whom_was_asked_counts():
    sent = []
    client = MainlineClient(lambda data, to: sent.append((data, to)), random.Random(1))
    asking = asyncio.create_task(client.find(TARGET, [PUBLIC], announce=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    query = bencode.decode(sent[0][0])
    assert query[b"ro"] == 1
    body = {b"id": bytes(20), b"values": [compact("11.0.0.2", 4747)]}
    answer = bencode.encode({b"t": query[b"t"], b"y": b"r", b"r": body})
    client.received(answer, Address("11.0.0.7", 6881))
    client.received(answer.replace(query[b"t"], b"????"), PUBLIC)
    client.received(b"d1:", PUBLIC)
    client.received(answer, PUBLIC)
    assert (await asking).peers == [Address("11.0.0.2", 4747)]


# --- with real nodes -----------------------------------------------------------


@pytest.fixture(scope="module")
def swarm():
    """Ten libtorrent sessions that know each other, each with an address of its own."""
    lt = pytest.importorskip("libtorrent")
    category = lt.alert.category_t
    mask = category.dht_notification | category.dht_operation_notification
    sessions = [
        lt.session(
            {
                "listen_interfaces": f"127.0.{number}.1:6881",
                "outgoing_interfaces": f"127.0.{number}.1",
                "dht_bootstrap_nodes": "",
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "alert_mask": mask,
            }
        )
        for number in range(71, 81)
    ]
    for one in range(10):
        for other in range(10):
            if one != other:
                sessions[one].add_dht_node((f"127.0.{71 + other}.1", 6881))
    time.sleep(1.5)
    yield sessions
    del sessions


class Guest:
    """A node that knows nobody but one Mainline node."""

    def __init__(self, tmp_path, number: int, network: Network) -> None:
        self.dht = Dht(Ed25519PrivateKey.generate(), network=network)
        self.host = f"127.0.{number}.1"
        home = tmp_path / str(number)
        home.mkdir()
        self.rendezvous = Rendezvous(
            self.dht,
            network,
            home=home,
            rng=random.Random(number),
            nodes=["127.0.71.1:6881"],
        )

    async def start(self) -> None:
        await self.dht.start([Address(self.host, 0)])
        self.task = asyncio.create_task(self.rendezvous.run())

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.dht.close()


@pytest.mark.parametrize("secret", [None, bytes(31) + b"7"])
async def test_two_nodes_meet_through_mainline(swarm, tmp_path, monkeypatch, secret):
    monkeypatch.setattr(rendezvous, "START_SECONDS", 0.05)
    monkeypatch.setattr(rendezvous, "RETRY_SECONDS", 0.3)
    network = Network("meeting", secret)
    guests = [Guest(tmp_path, number, network) for number in (90, 91)]
    try:
        for guest in guests:
            await guest.start()
        async with asyncio.timeout(15):
            while not all(guest.dht.contacts() for guest in guests):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        kept = (tmp_path / "90" / rendezvous.NODES_FILE).read_text().split()
        assert len(kept) >= 8
    finally:
        for guest in guests:
            await guest.close()


async def test_the_port_that_mainline_stores_is_the_nodes_own(swarm, tmp_path):
    import libtorrent as lt

    network = Network("seen-by-others")
    guest = Guest(tmp_path, 92, network)
    await guest.start()
    try:
        await asyncio.sleep(0)
        await guest.rendezvous.meet()
        session = swarm[8]
        session.pop_alerts()
        session.dht_get_peers(lt.sha1_hash(info_hash(network)))
        found: list[tuple[str, int]] = []
        async with asyncio.timeout(10):
            while not found:
                await asyncio.sleep(0.05)
                for alert in session.pop_alerts():
                    if isinstance(alert, lt.dht_get_peers_reply_alert):
                        found += alert.peers()
        assert found[0] == (guest.host, guest.dht.addresses[0].port)
    finally:
        await guest.close()
