"""What a node says of its reach is what others found, behind every kind of router."""

from __future__ import annotations

import pytest

from tests.reach.lab import FIRST_VERDICT_SECONDS, NATS, Node, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def nodes(world):
    return world.public_nodes()


def judge(node: Node) -> str:
    """Wait for the first verdict over TCP; return it."""
    until(lambda: node.reach[1] != "unknown", FIRST_VERDICT_SECONDS, "a verdict")
    return node.reach[1]


def test_public_nodes_are_reachable_and_say_by_whom(nodes):
    for node in nodes:
        found = node.run("doctor")["reachability"]
        assert found["udp"] == found["tcp"] == "reachable"
        assert len(found["by"]) >= 3
        assert found["since"]


@pytest.mark.parametrize("kind", NATS)
def test_a_node_behind_a_router_says_that_it_is_unreachable(world, nodes, kind):
    world.fresh(ra=kind)
    node = world.guest("a")
    # Nobody can dial in; with nodes around that introduce, it is called all the same.
    assert judge(node) in ("unreachable", "punched")
    # Where all public hosts were asked before, a cone may be an open door or a hole.
    assert node.reach[0] in (
        {"unknown"} if kind in ("full", "address") else {"unreachable", "unknown"}
    )
    until(lambda: node.reach[1] == "punched", 30, "introducers")
    checks = {one["name"]: one for one in node.run("doctor", code=None)["checks"]}
    assert checks["reachability"]["ok"]
    assert nodes


def test_a_firewall_that_drops_all_that_comes_in_is_no_reach(world, nodes):
    world.fresh()
    world.nat("walled", "port")
    node = world.guest("walled")
    assert judge(node) in ("unreachable", "punched")
    until(lambda: node.reach[0] == "unreachable", 90, "UDP as well")
    assert nodes


def test_a_forwarded_port_is_reachable_and_follows_a_new_outer_address(world, nodes):
    world.fresh()
    world.forward("ra", 4747, "192.168.1.2")
    node = world.guest("a")
    assert judge(node) == "reachable"
    assert node.reach[0] == "reachable"
    digest = node.share(100_000)
    new = world.renumber("ra")
    world.forget_connections("ra")

    def announced() -> bool:
        found = nodes[2].run("lookup", digest, code=None).get("providers", [])
        return any(one["address"] == f"{new}:4747" for one in found)

    until(announced, 30, "an announcement from the new address")
