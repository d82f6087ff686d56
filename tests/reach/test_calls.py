"""Nodes behind routers serve: called through introducers, or joined by a relay."""

from __future__ import annotations

import random
import time

import pytest

from tests.reach.lab import NATS, PUBLIC_HOSTS, Lab, Node, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

QUIET = {"CARAVAN_LAN": "false", "CARAVAN_PORT_MAPPING": "false"}
HERE = ("--listen", "0.0.0.0:4747")


def internet(lab: Lab, **settings: str) -> list[Node]:
    lab.internet()
    options = {**QUIET, **settings}
    nodes = [lab.node(f"pub{n}", **options) for n in range(1, PUBLIC_HOSTS + 1)]
    nodes[0].join(*HERE)
    for node in nodes[1:]:
        node.start("11.1.0.1:4747", *HERE)
    for node in nodes[1:]:
        node.wait()

    def reachable() -> bool:
        found = [node.run("status")["reachability"]["tcp"] for node in nodes]
        return found == ["reachable"] * len(nodes)

    until(reachable, 90, "public nodes that know that they are reachable")
    return nodes


def introduced(node: Node, *words: str) -> None:
    """Wait until a node behind a router has introducers."""

    def ready() -> bool:
        return node.run("status")["reachability"]["tcp"] in words

    until(ready, 90, "introducers")


def shared(node: Node, size: int) -> str:
    file = node.lab.folder / f"file-{node.home.name}-{size}"
    file.write_bytes(random.Random(size).randbytes(size))
    digest: str = node.run("share", str(file))["artifacts"][0]["digest"]
    return digest


def fetched_by(node: Node, digest: str) -> float:
    """Fetch as soon as it is found; returns the seconds of the fetch that came."""
    took = [0.0]

    def fetched() -> bool:
        began = time.monotonic()
        done = node.run("fetch", digest, code=None)
        took[0] = time.monotonic() - began
        return "artifacts" in done

    until(fetched, 40, "the file")
    return took[0]


@pytest.mark.parametrize("kind", NATS)
def test_a_public_node_fetches_from_behind_any_router(lab, kind):
    nodes = internet(lab)
    lab.nat("ra", kind)
    seeder = lab.node("a", **QUIET).join("11.1.0.1:4747", *HERE)
    introduced(seeder, "punched", "relayed")
    fetched_by(nodes[3], shared(seeder, 3_000_000))
    # Found and introduced now: the next one takes no longer than its bytes.
    assert fetched_by(nodes[4], shared(seeder, 20_000)) < 2.0


def test_two_nodes_behind_routers_meet_at_a_relay_where_it_is_allowed(lab):
    internet(lab, CARAVAN_RELAY="all")
    lab.nat("ra", "symmetric")
    lab.nat("rb", "symmetric")
    seeder = lab.node("a", **QUIET).join("11.1.0.1:4747", *HERE)
    leecher = lab.node("b", **QUIET).join("11.1.0.1:4747", *HERE)
    introduced(seeder, "relayed")
    introduced(leecher, "relayed")
    fetched_by(leecher, shared(seeder, 3_000_000))
    assert fetched_by(leecher, shared(seeder, 20_000)) < 2.5


def test_without_a_relay_a_clear_word_comes_at_once(lab):
    internet(lab)
    lab.nat("ra", "symmetric")
    lab.nat("rb", "symmetric")
    seeder = lab.node("a", **QUIET).join("11.1.0.1:4747", *HERE)
    leecher = lab.node("b", **QUIET).join("11.1.0.1:4747", *HERE)
    introduced(seeder, "punched")
    introduced(leecher, "punched")
    digest = shared(seeder, 20_000)
    until(
        lambda: leecher.run("lookup", digest, code=None).get("providers"),
        40,
        "the provider record",
    )
    began = time.monotonic()
    refused = leecher.run("fetch", digest, code=4)
    assert time.monotonic() - began < 5.0
    assert "router" in refused["error"]


def test_two_hosts_behind_one_router_use_its_lan(lab):
    nodes = internet(lab)
    here = {"CARAVAN_PORT_MAPPING": "false"}
    seeder = lab.node("a", **here).join("11.1.0.1:4747", *HERE)
    leecher = lab.node("a2", **here).join("11.1.0.1:4747", *HERE)
    digest = shared(seeder, 20_000_000)
    own = leecher.ready["node_id"]

    def met() -> bool:
        found = seeder.run("peers")["contacts"]
        local = [one for one in found if one["address"].startswith("192.168.")]
        return any(one["node_id"] == own for one in local)

    until(met, 15, "the neighbour")
    before = lab.counted("ra", "wan")
    fetched = leecher.run("fetch", digest)
    (source,) = fetched["artifacts"][0]["sources"]
    assert source["address"] == "192.168.1.2:4747"
    # The DHT goes on talking; nothing of the file passes.
    assert lab.counted("ra", "wan") - before < 1_000_000
    assert nodes


@pytest.mark.parametrize(("one", "other"), [("port", "port"), ("address", "full")])
def test_two_nodes_behind_routers_meet_without_a_relay(lab, one, other):
    internet(lab, CARAVAN_RELAY="off")
    lab.nat("ra", one)
    lab.nat("rb", other)
    seeder = lab.node("a", **QUIET).join("11.1.0.1:4747", *HERE)
    leecher = lab.node("b", **QUIET).join("11.1.0.1:4747", *HERE)
    introduced(seeder, "punched")
    introduced(leecher, "punched")
    fetched_by(leecher, shared(seeder, 3_000_000))
