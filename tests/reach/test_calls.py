"""Nodes behind routers serve: they are called, or both ends punch a hole."""

from __future__ import annotations

import signal
import time

import pytest

from node.reach.moves import POLL_SECONDS, SUSPEND_SECONDS
from tests.reach.lab import NATS, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def nodes(world):
    """Return public nodes that introduce and do not relay."""
    return world.public_nodes(CARAVAN_RELAY="off")


def introduced(*behind) -> None:
    """Wait until nodes behind routers have introducers."""
    until(lambda: all(one.reach[1] == "punched" for one in behind), 60, "introducers")


def found(node, digest: str) -> None:
    """Wait until a node finds who offers a digest."""
    until(
        lambda: node.run("lookup", digest, code=None).get("providers"),
        40,
        "a provider record",
    )


@pytest.mark.parametrize("kind", NATS)
def test_a_public_node_fetches_from_behind_any_router(world, nodes, kind):
    world.fresh(ra=kind)
    seeder = world.guest("a")
    introduced(seeder)
    # Three leechers call, and dial a public node beside it: the best of each counts.
    called, dialled = [], []
    for number, leecher in enumerate(nodes[2:5]):
        for source, took in ((seeder, called), (nodes[1], dialled)):
            digest = source.share(500_000 + number)
            found(leecher, digest)
            began = time.monotonic()
            leecher.run("fetch", digest)
            took.append(time.monotonic() - began)
    assert min(called) < 3 * min(dialled) + 1.0


@pytest.mark.parametrize(("one", "other"), [("port", "port"), ("address", "full")])
def test_two_nodes_behind_routers_punch_a_hole(world, nodes, one, other):
    world.fresh(one, other)
    seeder, leecher = world.guest("a"), world.guest("b")
    introduced(seeder, leecher)
    digest = seeder.share(3_000_000)
    found(leecher, digest)
    leecher.run("fetch", digest)
    (provider,) = leecher.run("lookup", digest)["providers"][:1]
    assert provider["address"].startswith("11.")


def test_without_a_relay_a_clear_word_comes_at_once(world, nodes):
    world.fresh("symmetric", "symmetric")
    seeder, leecher = world.guest("a"), world.guest("b")
    introduced(seeder, leecher)
    digest = seeder.share(20_000)
    found(leecher, digest)
    began = time.monotonic()
    refused = leecher.run("fetch", digest, code=4)
    took = time.monotonic() - began
    assert "router" in refused["error"]
    began = time.monotonic()
    leecher.run("lookup", digest)
    # Three rounds of a hole, and the time that the command itself takes here.
    assert took < 3.0 + 5 * (time.monotonic() - began)


def test_a_node_that_was_suspended_serves_again_wherever_it_wakes_up(world, nodes):
    world.fresh()
    seeder = world.guest("a")
    introduced(seeder)
    seeder.signal(signal.SIGSTOP)
    # What takes minutes, compressed: routers forget, and the outer address is another.
    world.renumber("ra")
    world.forget_connections("ra")
    time.sleep(SUSPEND_SECONDS + POLL_SECONDS + 2)
    seeder.signal(signal.SIGCONT)
    digest = seeder.share(30_000)
    until(
        lambda: "artifacts" in nodes[4].run("fetch", digest, code=None), 40, "the file"
    )


def test_two_hosts_behind_one_router_use_its_lan(world, nodes):
    world.fresh()
    seeder = world.guest("a", CARAVAN_LAN="true")
    leecher = world.guest("a2", CARAVAN_LAN="true")
    digest = seeder.share(20_000_000)
    seeder.wait_for_neighbour(leecher, 15)
    before = world.counted("ra", "wan")
    fetched = leecher.run("fetch", digest)
    (source,) = fetched["artifacts"][0]["sources"]
    assert source["address"] == "192.168.1.2:4747"
    # The DHT goes on talking; nothing of the file passes.
    assert world.counted("ra", "wan") - before < 1_000_000
    assert nodes
