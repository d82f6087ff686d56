"""Leechers of one artifact learn of each other, and one seeder serves a crowd."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest

from tests.transfer import hostile
from tests.transfer.conftest import until
from transfer import LeecherLimits, Peer, SeederLimits
from transfer.connection import peer_exchange as pex
from transfer.connection import wire
from transfer.errors import WireError
from transfer.limits import DIALS_PER_HOUR_MAX, PEX_PEERS_PER_SEEDER_MAX
from transfer.seeding.superseeding import SeedingSwarms

MIB = 1024 * 1024
CHUNK = 256 * 1024
KEY = bytes(range(32))


async def test_a_crowd_that_knows_only_the_seeder_swarms(new_node):
    """The capped seeder sends clearly less than six files; the rest goes among them."""
    data = os.urandom(6 * MIB)
    limits = SeederLimits(bytes_per_second=4 * MIB)
    seeder = await new_node(seeder_limits=limits)
    artifact = seeder.store.add_bytes(data)
    crowd = [await new_node() for _ in range(6)]
    downloads = (node.download(artifact.digest, [seeder.peer]) for node in crowd)
    found = await asyncio.gather(*downloads)
    assert all(node.store.read(artifact) == data for node in crowd)
    assert seeder.seeder.stats.bytes_sent <= 3 * len(data)
    peers = {node.peer for node in crowd}
    for downloaded in found:
        assert peers & {source.peer for source in downloaded.sources if source.bytes}


def test_who_does_not_serve_is_named_to_nobody():
    """It still hears of those that do."""
    swarms = SeedingSwarms()
    mute, other = member(swarms, 1, port=0), member(swarms, 2)
    assert other.news(0.0) == []
    assert mute.news(0.0) == [other.peer]


class Gossip(hostile.Hostile):
    """Serves a little, and names ten thousand fellows that are not there."""

    def __init__(self, data: bytes, victim: Peer) -> None:
        super().__init__(data)
        self.victim = victim
        self.told = 0

    async def on_want(self, channel, want):
        await super().on_want(channel, want)
        for _ in range(10_000 // 16):
            peers = [
                Peer(self.victim.host, self.victim.port, secrets.token_bytes(32))
                for _ in range(16)
            ]
            entries = pex.pack(peers)
            await channel.write(wire.encode(wire.PeerExchange(want.number, entries)))
            self.told += 16


async def test_a_seeder_that_names_ten_thousand_fellows_has_few_dialled(new_node):
    """All at one address, which answers with another key, and at most ten times."""
    data = os.urandom(2 * MIB)
    limits = LeecherLimits(openings_max=2)
    leecher = await new_node(encryption=False, leecher_limits=limits)
    async with hostile.WrongCertificate(data) as victim:
        async with Gossip(data, victim.peer) as gossip:
            await leecher.download(
                leecher.store.add_bytes(b"").digest.of(data), [gossip.peer]
            )
            await until(lambda: gossip.told >= 16)
        assert 0 < victim.connections <= DIALS_PER_HOUR_MAX + limits.openings_max


@pytest.mark.parametrize(
    ("teller", "named", "believed"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.168.1.2", True),
        ("192.168.1.1", "10.0.0.1", True),
        ("192.168.1.1", "127.0.0.1", False),
        ("8.8.4.4", "192.168.1.2", False),
        ("8.8.4.4", "::1", False),
        ("8.8.4.4", "8.8.8.8", True),
        ("8.8.4.4", "2001:4860::1", True),
    ],
)
def test_nobody_is_sent_into_his_own_network(teller, named, believed):
    """An address is told, and believed, only from where it can be known."""
    assert (pex.reach(named) <= pex.reach(teller)) is believed
    swarms = SeedingSwarms()
    place = {"count": 2, "chunk_size": CHUNK}
    asker = swarms.join("x", **place, host=teller, public_key=KEY, port=0)
    swarms.join("x", **place, host=named, public_key=KEY[::-1], port=4747)
    told = asker.news(0.0)
    assert [peer.host for peer in told] == ([named] if believed else [])
    assert pex.unpack(pex.pack(told)) == told


def test_entries_are_read_strictly():
    """Whole entries, and no reserved port."""
    with pytest.raises(WireError):
        pex.unpack(bytes(49))
    with pytest.raises(WireError):
        pex.unpack(pex.pack([Peer("8.8.4.4", 80, KEY)]))
    assert pex.peer_seen("8.8.4.4", 80, KEY) is None
    assert pex.peer_seen("fe80::1%eth0", 4747, KEY) is None
    assert pex.peer_seen("::ffff:8.8.4.4", 4747, KEY) == Peer("8.8.4.4", 4747, KEY)


def member(swarms, number: int, port: int = 4747):
    return swarms.join(
        "x",
        count=4,
        chunk_size=CHUNK,
        host="127.0.0.1",
        public_key=bytes([number]) * 32,
        port=port,
    )


def test_every_chunk_goes_out_once_before_any_goes_out_twice():
    """Who asks for what another got is sent there once, and gets it then."""
    swarms = SeedingSwarms()
    first, second = member(swarms, 1), member(swarms, 2)
    assert first.decide(0) is None
    assert second.decide(0) == b"\x01"
    assert second.decide(1) is None
    assert second.decide(0) is None
    assert first.decide(1) == b"\x03"
    first.leave()
    third = member(swarms, 3)
    assert third.decide(2) is None
    assert third.decide(0) == b"\x03"


def test_once_all_went_out_everything_is_given():
    """There is nothing left that would be more useful."""
    swarms = SeedingSwarms()
    first, second = member(swarms, 1), member(swarms, 2)
    for index in range(4):
        assert first.decide(index) is None
    for index in range(4):
        assert second.decide(index) is None


def test_what_went_to_who_does_not_serve_counts_for_nothing():
    """Nobody could get it from there."""
    swarms = SeedingSwarms()
    mute, other = member(swarms, 1, port=0), member(swarms, 2)
    assert mute.decide(0) is None
    assert other.decide(0) is None


def test_a_crowd_is_told_in_parts_and_each_of_each_once():
    """At most sixteen at a time, until nobody is new."""
    swarms = SeedingSwarms()
    members = [member(swarms, number, 2000 + number) for number in range(40)]
    told = []
    while members[0].has_news(1.0 + len(told)):
        news = members[0].news(1.0 + len(told))
        assert len(news) <= 16
        told += news
    assert len(told) == len(set(told)) == 39
    for one in members:
        one.leave()
    assert not swarms._swarms


async def test_one_seeder_may_name_so_many_and_no_more():
    """Others of its entries are passed over."""
    met: list[Peer] = []
    hints = pex.PexHints(asyncio.get_running_loop(), KEY, met.extend)

    seeder = Peer("8.8.4.4", 4747, KEY)
    for number in range(200):
        peer = Peer("8.8.8.8", 2000 + number, bytes([number]) * 32)
        hints.hear(seeder, pex.pack([peer, Peer("8.8.8.8", 2000, KEY)]))
    await until(lambda: len(met) >= PEX_PEERS_PER_SEEDER_MAX)
    assert len(met) == PEX_PEERS_PER_SEEDER_MAX
