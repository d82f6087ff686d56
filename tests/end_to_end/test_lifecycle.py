"""A node starts, stops, is killed and comes back, and the network goes on meanwhile."""

from __future__ import annotations

import signal
import socket

import pytest

from node.demo.processes import wait_until
from tests.end_to_end.caravan import (
    Caravan,
    random_file,
    source_addresses,
    wait_for_contacts,
)

pytestmark = pytest.mark.timeout(90)


def can_bind_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback address."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_the_ready_line_says_who_and_where(caravan: Caravan):
    """The line of `join --json` and `status` agree."""
    node = caravan.join("alone")
    status = node.ask("status")
    for field in ("node_id", "address", "web"):
        assert node.ready[field] == status[field]
    assert len(status["node_id"]) == 64
    assert status["artifacts"] == status["bytes_held"] == 0
    assert (node.home / "node.json").stat().st_mode & 0o777 == 0o600


def test_the_doctor_says_what_is_wrong(caravan: Caravan):
    """Two nodes that know each other are well; one that knows nobody is told so."""
    first = caravan.join("first")
    lonely = first.run("doctor")
    wrong = {one["name"] for one in lonely.document["checks"] if not one["ok"]}
    assert lonely.exit_code == 1
    assert wrong == {"contacts", "reachability"}
    second = caravan.join("second", first.ready["address"])
    wait_for_contacts([first, second], 1)
    names = {one["name"] for one in second.ask("doctor")["checks"] if one["ok"]}
    assert names >= {"clock", "ports", "reachability", "disk", "contacts"}
    second.ask("leave")
    assert second.wait() == 0
    stopped = second.run("doctor")
    assert stopped.exit_code == 1
    assert "join" in stopped.document["checks"][0]["hint"]


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_a_signal_ends_a_node_cleanly(caravan, number, exit_code):
    """It answers no more, and leaves the folder to the next one."""
    node = caravan.join("alone")
    node.signal(number)
    assert node.wait() == exit_code
    assert not (node.home / "node.json").exists()
    assert node.run("status").exit_code == 3
    node.join()


def test_leave_stops_the_node(caravan):
    node = caravan.join("alone")
    node.ask("leave")
    assert node.wait() == 0
    assert node.run("status").exit_code == 3


def test_a_node_can_run_in_the_background(caravan):
    """`join --detach` returns when the node is ready; `leave` ends it."""
    node = caravan.node("background")
    free = ("--listen", "127.0.0.1:0", "--web", "127.0.0.1:0")
    ready = node.ask("join", "--detach", *free)
    try:
        assert node.ask("status")["node_id"] == ready["node_id"]
    finally:
        node.ask("leave")
    wait_until(
        lambda: node.run("status").exit_code == 3, 10, "the background node ending"
    )


def test_a_killed_node_comes_back_as_itself(caravan, tmp_path):
    """After SIGKILL the same folder gives the same node, with what it held."""
    file, digest = random_file(tmp_path / "kept.bin", 100_000)
    node = caravan.join("phoenix")
    node.ask("share", str(file))
    node_id = node.ready["node_id"]
    node.kill()
    assert node.run("status").exit_code == 3
    node.join()
    assert node.ready["node_id"] == node_id
    (artifact,) = node.ask("list")["artifacts"]
    assert artifact["digest"] == f"sha256:{digest}"


def test_the_network_outlives_its_bootstrap_node(caravan, tmp_path):
    """With the first node killed another joins through a second one, and fetches."""
    file, digest = random_file(tmp_path / "shared.bin", 300_000, seed=7)
    first, second, third = caravan.network("first", "second", "third")
    third.ask("share", str(file))
    first.kill()
    newcomer = caravan.join("newcomer", second.address)
    document = newcomer.ask("fetch", digest)
    assert source_addresses(document) == {third.address}


def test_contacts_are_remembered(caravan):
    """A node that is started again without a contact finds the network by itself."""
    first, second, third = caravan.network("first", "second", "third")
    assert third.stop() == 0
    first.kill()
    third.join()
    wait_for_contacts([third], 1)
    addresses = {one["address"] for one in third.ask("peers")["contacts"]}
    assert second.address in addresses


def test_a_contact_that_does_not_answer_is_no_failure(caravan):
    """The node is ready all the same, says so, and finds the contact when it comes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unanswering:
        unanswering.bind(("127.0.0.1", 0))
        port = unanswering.getsockname()[1]
        node = caravan.join("early", f"127.0.0.1:{port}")
    assert node.ask("status")["contacts"] == 0
    late = caravan.node("late")
    late.join(listen=f"127.0.0.1:{port}")
    wait_for_contacts([node], 1)


@pytest.mark.skipif(not can_bind_ipv6(), reason="there is no IPv6 loopback here")
def test_nodes_meet_over_ipv6(caravan, tmp_path):
    """Addresses in brackets are read, printed and dialled."""
    file, digest = random_file(tmp_path / "six.bin", 600_000, seed=6)
    seeder, leecher = caravan.node("seeder"), caravan.node("leecher")
    seeder.join(listen="[::1]:0")
    assert seeder.address.startswith("[::1]:")
    leecher.join(seeder.address, listen="[::1]:0")
    seeder.ask("share", str(file))
    document = leecher.ask("fetch", digest)
    assert source_addresses(document) == {seeder.address}
