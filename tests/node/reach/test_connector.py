"""Ways to a peer: raced, remembered, and said in a word."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from types import SimpleNamespace

import pytest

from dht import Address, Contact, Reachable, Way
from node.background import Background
from node.reach import connector as connector_module
from node.reach.connector import Connector
from node.reach.openings import Openings
from transfer import Peer

KEY = b"k" * 32
THROUGH = (Contact(b"i" * 32, Address("88.1.1.1", 4747)),)
SEEDER = Peer("99.1.1.1", 4747, KEY)


@pytest.fixture
def made():
    """Return a connector of a node that cannot be dialled, and none of its calls."""
    dht = SimpleNamespace(
        dial_back=SimpleNamespace(
            reachable=lambda _: SimpleNamespace(reachable=Reachable.NO)
        ),
        addresses=[Address("192.168.1.2", 4747)],
    )
    background = Background()
    return Connector(dht, Openings(background), background)


def ways(made: Connector, **outcomes: float | None) -> list[str]:
    """Have each way succeed after some seconds, or fail at once; note their order."""
    begun: list[str] = []
    names = {Way.REVERSE: "reverse", Way.PUNCH: "punch", Way.RELAY: "relay"}

    async def call(peer: object, through: object, way: int) -> socket.socket | None:
        begun.append(names[way])
        seconds = outcomes.get(names[way])
        if seconds is None:
            return None
        await asyncio.sleep(seconds)
        return socket.socket()

    made._call = call  # type: ignore[method-assign]
    return begun


async def test_the_next_way_begins_when_one_has_failed(made):
    made.set_introducers(KEY, THROUGH)
    begun = ways(made, relay=0.0)
    with contextlib.closing(await made.connect(SEEDER)):
        assert begun == ["punch", "relay"]
    assert made.reach_of(KEY, THROUGH) == "relayed"


async def test_the_next_way_begins_beside_one_that_is_late(made, monkeypatch):
    monkeypatch.setattr(connector_module, "HEAD_START_SECONDS", 0.02)
    made.set_introducers(KEY, THROUGH)
    begun = ways(made, punch=5.0, relay=0.0)
    began = time.monotonic()
    with contextlib.closing(await made.connect(SEEDER)):
        assert begun == ["punch", "relay"]
    assert time.monotonic() - began < 4.0


async def test_the_way_that_led_there_is_tried_first_the_next_time(made):
    made.set_introducers(KEY, THROUGH)
    ways(made, relay=0.0)
    (await made.connect(SEEDER)).close()
    begun = ways(made, punch=0.0, relay=0.0)
    (await made.connect(SEEDER)).close()
    assert begun == ["relay"]


async def test_where_no_way_leads_there_that_is_said_and_remembered(made):
    made.set_introducers(KEY, THROUGH)
    assert made.reach_of(KEY, THROUGH) == "punched"
    ways(made)
    with pytest.raises(ConnectionError, match="no node between relays"):
        await made.connect(SEEDER)
    assert made.is_refused(KEY)
    assert made.reach_of(KEY, THROUGH) == "unreachable"
    ways(made, punch=0.0)
    (await made.connect(SEEDER)).close()
    assert made.reach_of(KEY, THROUGH) == "punched"


async def test_a_provider_that_refuses_is_unreachable_until_it_answers(made):
    assert made.reach_of(KEY, ()) == "reachable"
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = Peer("127.0.0.1", server.getsockname()[1], KEY)
    with pytest.raises(OSError, match="Connect call failed"):
        await made.connect(peer)
    assert made.reach_of(KEY, ()) == "unreachable"
    with socket.create_server(("127.0.0.1", peer.port)):
        (await made.connect(peer)).close()
    assert made.reach_of(KEY, ()) == "reachable"
