"""What a node says of its reach is what others found, behind every kind of router."""

from __future__ import annotations

import pytest

from tests.reach.lab import NATS, PUBLIC_HOSTS, Lab, Node, until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(240)]

QUIET = {"CARAVAN_LAN": "false", "CARAVAN_PORT_MAPPING": "false"}
FIRST_VERDICT_SECONDS = 60


def public_nodes(lab: Lab) -> list[Node]:
    """Make the Internet of the laboratory, with a node on each public host."""
    lab.internet()
    nodes = [lab.node(f"pub{n}", **QUIET) for n in range(1, PUBLIC_HOSTS + 1)]
    nodes[0].join("--listen", "0.0.0.0:4747")
    for node in nodes[1:]:
        node.start("11.1.0.1:4747", "--listen", "0.0.0.0:4747")
    for node in nodes[1:]:
        node.wait()
    return nodes


def reach(node: Node) -> dict[str, object]:
    found = node.run("status")["reachability"]
    return {"udp": found["udp"], "tcp": found["tcp"]}


def judged(node: Node, transport: str = "tcp") -> bool:
    return reach(node)[transport] != "unknown"


def test_public_nodes_are_reachable_and_say_by_whom(lab):
    nodes = public_nodes(lab)
    until(lambda: all(judged(n) for n in nodes), FIRST_VERDICT_SECONDS, "verdicts")
    for node in nodes:
        found = node.run("doctor")
        assert (
            found["reachability"]["udp"] == found["reachability"]["tcp"] == "reachable"
        )
        assert len(found["reachability"]["by"]) >= 3
        assert found["reachability"]["since"]


@pytest.mark.parametrize("kind", NATS)
def test_a_node_behind_a_router_says_that_it_is_unreachable(lab, kind):
    public_nodes(lab)
    lab.nat("ra", kind)
    node = lab.node("a", **QUIET).join("11.1.0.1:4747", "--listen", "0.0.0.0:4747")
    until(lambda: judged(node), FIRST_VERDICT_SECONDS, "a verdict")
    found = reach(node)
    # Nobody can dial in; with nodes around that introduce, it is called all the same.
    assert found["tcp"] in ("unreachable", "punched")
    # Where all public hosts were asked before, a cone may be an open door or a hole.
    assert found["udp"] in (
        {"unknown"} if kind in ("full", "address") else {"unreachable", "unknown"}
    )
    checks = {one["name"]: one for one in node.run("doctor", code=None)["checks"]}
    assert checks["reachability"]["ok"] is (found["tcp"] == "punched")


def test_a_firewall_that_drops_all_that_comes_in_is_no_reach(lab):
    nodes = public_nodes(lab)
    lab.nat("pub6", "port")
    until(lambda: judged(nodes[-1]), FIRST_VERDICT_SECONDS, "a verdict")
    assert reach(nodes[-1])["tcp"] == "unreachable"
    until(lambda: reach(nodes[-1])["udp"] == "unreachable", 90, "UDP as well")
    assert nodes[-1].run("doctor", code=1)["reachability"]["tcp"] == "unreachable"


def test_a_forwarded_port_is_reachable(lab):
    public_nodes(lab)
    lab.forward("ra", 4747, "192.168.1.2")
    node = lab.node("a", **QUIET).join("11.1.0.1:4747", "--listen", "0.0.0.0:4747")
    until(lambda: judged(node), FIRST_VERDICT_SECONDS, "a verdict")
    assert reach(node) == {"udp": "reachable", "tcp": "reachable"}


def test_a_new_outer_address_is_announced_within_half_a_minute(lab):
    nodes = public_nodes(lab)
    lab.forward("ra", 4747, "192.168.1.2")
    node = lab.node("a", **QUIET).join("11.1.0.1:4747", "--listen", "0.0.0.0:4747")
    file = lab.folder / "file"
    file.write_bytes(b"x" * 100_000)
    digest = node.run("share", str(file))["artifacts"][0]["digest"]
    until(lambda: judged(node), FIRST_VERDICT_SECONDS, "a verdict")
    lab.ip("ra", "addr", "del", "11.101.0.1/8", "dev", "wan")
    lab.ip("ra", "addr", "add", "11.150.0.1/8", "dev", "wan")
    lab.forget_connections("ra")

    def announced() -> bool:
        found = nodes[2].run("lookup", digest, code=None).get("providers", [])
        return any(one["address"] == "11.150.0.1:4747" for one in found)

    until(announced, 40, "an announcement from the new address")
