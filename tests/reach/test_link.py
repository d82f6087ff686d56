"""One network link, no contact named: all hosts find each other and share."""

from __future__ import annotations

import random
import signal
import time

import pytest

from node.reach.lan import POLL_SECONDS, SUSPEND_SECONDS
from tests.reach.lab import until

pytestmark = [pytest.mark.netns, pytest.mark.timeout(120)]


def contacts(node) -> set[str]:
    return {one["node_id"] for one in node.run("peers")["contacts"]}


@pytest.mark.parametrize("family", [4, 6])
def test_six_hosts_find_each_other_and_share(lab, family):
    nodes = [lab.node(host) for host in lab.link(6, family=family)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait()
    ids = {node.ready["node_id"] for node in nodes}

    def acquainted() -> bool:
        return all(contacts(node) == ids - {node.ready["node_id"]} for node in nodes)

    until(acquainted, 20, "six hosts that know each other")
    file = lab.folder / "shared.bin"
    file.write_bytes(random.Random(1).randbytes(3_000_000))
    digest = nodes[0].run("share", str(file))["artifacts"][0]["digest"]
    fetched = nodes[5].run("fetch", digest)
    (source,) = fetched["artifacts"][0]["sources"]
    assert source["address"].rpartition(":")[0].strip("[]") in {
        "192.168.7.1",
        "fd00:7::1",
    }


def test_lan_false_finds_and_announces_nothing(lab):
    first, second = lab.link(2)
    loud = lab.node(first).join()
    silent = lab.node(second, CARAVAN_LAN="false").join()
    with pytest.raises(AssertionError, match="not within"):
        until(lambda: contacts(loud) or contacts(silent), 4, "nobody")


def test_a_host_that_changes_its_address_is_met_at_the_new_one(lab):
    first, second = lab.link(2)
    one, other = lab.node(first).join(), lab.node(second).join()
    until(
        lambda: contacts(one) and contacts(other), 10, "two hosts that know each other"
    )
    lab.ip(second, "addr", "del", "192.168.7.2/24", "dev", "eth0")
    lab.ip(second, "addr", "add", "192.168.7.77/24", "dev", "eth0")

    def moved() -> bool:
        found = {each["address"] for each in one.run("peers")["contacts"]}
        return "192.168.7.77:4747" in found

    until(moved, 30, "the new address")


def test_what_is_offered_is_announced_from_the_new_address(lab):
    first, second = lab.link(2)
    one = lab.node(first, CARAVAN_LAN="false").join()
    other = lab.node(second, CARAVAN_LAN="false").join("192.168.7.1:4747")
    digest = other.share(10_000)

    def found() -> set[str]:
        done = one.run("lookup", digest, code=None)
        return {each["address"] for each in done.get("providers", [])}

    until(lambda: found() == {"192.168.7.2:4747"}, 20, "the announcement")
    lab.ip(second, "addr", "del", "192.168.7.2/24", "dev", "eth0")
    lab.ip(second, "addr", "add", "192.168.7.77/24", "dev", "eth0")
    until(lambda: "192.168.7.77:4747" in found(), 30, "the new address")


def test_a_host_that_was_suspended_is_met_again(lab):
    first, second = lab.link(2)
    one, other = lab.node(first).join(), lab.node(second).join()
    until(lambda: contacts(one) and contacts(other), 10, "two hosts that met")
    other.signal(signal.SIGSTOP)
    time.sleep(SUSPEND_SECONDS + POLL_SECONDS + 2)
    other.signal(signal.SIGCONT)
    digest = other.share(20_000)
    until(lambda: "artifacts" in one.run("fetch", digest, code=None), 30, "the file")
