"""What `caravan doctor` finds wrong, each check made to fail once."""

from __future__ import annotations

import os
import shutil
import socket

import click
import pytest

from dht import limits
from node import doctor
from node.cli.run import caravan

NOW = 1_800_000_000.0


def test_a_folder_that_cannot_be_written_in_is_named(tmp_path):
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("in the way")
    found = doctor.check_folder(tmp_path / "file")
    assert not found.ok
    assert str(tmp_path / "file") in found.hint
    assert doctor.check_folder(tmp_path / "not" / "there" / "yet").ok


def test_a_full_disk_is_noticed(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=doctor.FREE_BYTES_MIN - 1)
    )
    found = doctor.check_disk(tmp_path)
    assert not found.ok
    words = found.hint[found.hint.index("`caravan ") :].split("`")[1].split()
    command = caravan.get_command(click.Context(caravan), words[1])
    assert command is not None
    assert words[2] in {name for one in command.params for name in one.opts}
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage._replace(free=doctor.FREE_BYTES_MIN)
    )
    assert doctor.check_disk(tmp_path).ok


@pytest.mark.parametrize(
    ("newest", "refused", "ok"),
    [
        (0.0, 0, True),
        (NOW + doctor.CLOCK_SKEW_SECONDS, 0, True),
        (NOW + doctor.CLOCK_SKEW_SECONDS + 1, 0, False),
        (NOW, 3, False),
    ],
)
def test_a_clock_is_wrong_where_what_is_known_contradicts_it(newest, refused, ok):
    assert doctor.check_clock(NOW, newest, refused).ok is ok


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_taken_port_is_named(kind):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        found = doctor.check_ports([("127.0.0.1", port)])
    assert not found.ok
    assert str(port) in found.hint
    assert os.strerror(98) in found.hint
    assert doctor.check_ports([("127.0.0.1", port)]).ok


def test_a_node_that_cannot_place_what_it_offers_is_told():
    """After a few minutes, with figures; alone, or at first, it is no fault."""

    def check(placed, unplaced, behind, contacts=3):
        return doctor.check_placement(
            offered=10,
            placed=placed,
            unplaced=unplaced,
            behind_seconds=behind,
            contacts=contacts,
        )

    assert check(10, 0, None).ok
    assert check(0, 10, 30.0).ok
    assert check(0, 10, 9000.0, contacts=0).ok
    full = check(6, 2, 600.0)
    assert not full.ok
    assert "6 of 10" in full.hint
    assert "10 minutes" in full.hint


def test_nobody_known_and_nobody_reaching_are_different_sentences():
    alone = doctor.check_contacts(0, is_private=False)
    assert not alone.ok
    assert "secret" not in alone.hint
    assert "secret" in doctor.check_contacts(0, is_private=True).hint
    assert doctor.check_contacts(3, is_private=True).ok

    def reach(udp, tcp, contacts=3, is_local=False):
        return doctor.check_reachability(
            udp, tcp, 4747, contacts=contacts, is_local=is_local
        )

    assert not reach("unknown", "unknown", contacts=0).ok
    shut = reach("reachable", "unreachable")
    assert not shut.ok
    assert "let TCP 4747 through" in shut.hint
    assert "UDP and TCP" in reach("unreachable", "unreachable").hint
    assert reach("mapped", "mapped").ok
    called = reach("unreachable", "punched")
    assert called.ok
    assert "served all the same" in called.hint
    assert reach("unknown", "unknown").ok
    assert "nobody else has tried" in reach("unknown", "unknown", is_local=True).hint


def test_a_clock_may_be_off_as_far_as_the_dht_allows():
    """The command line does not import the DHT, so the number stands twice."""
    assert doctor.CLOCK_SKEW_SECONDS == limits.CLOCK_SKEW_SECONDS
