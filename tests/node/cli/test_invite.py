"""An invitation of one node is all that another needs, over real processes."""

from __future__ import annotations

import json
import stat

import pytest

from tests.node.cli.test_join import ask_status, caravan, joined


def invite(home, *arguments):
    ended = caravan(home, "invite", "--json", *arguments)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_an_invitation_joins_the_public_network(tmp_path):
    with joined(tmp_path / "one"):
        line = invite(tmp_path / "one")["invitation"]
        with joined(tmp_path / "two", line):
            assert ask_status(tmp_path / "two")["contacts"] == 1


def test_an_invitation_carries_the_secret_of_a_private_network(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert caravan(one, "network", "new", "lab").returncode == 0
    with joined(one, "--network", "lab"):
        line = invite(one, "--network", "lab")["invitation"]
        with joined(two, line):
            assert ask_status(two)["contacts"] == 1
        kept = two / "networks/lab.secret"
        assert kept.read_bytes() == (one / "networks/lab.secret").read_bytes()
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_an_invitation_that_has_expired_is_refused(tmp_path):
    with joined(tmp_path / "one"):
        line = invite(tmp_path / "one", "--expires", "1s")["invitation"]
        import time

        time.sleep(1.1)
    ended = caravan(tmp_path / "two", "join", line)
    assert ended.returncode == 6
    assert "expired" in ended.stderr
    assert not (tmp_path / "two/networks").exists()


@pytest.mark.parametrize(
    "arguments",
    [["{line}x"], ["{line}", "127.0.0.1:4747"], ["{line}", "--network", "lab"]],
)
def test_a_broken_or_doubled_invitation_is_a_usage_error(tmp_path, arguments):
    with joined(tmp_path / "one"):
        line = invite(tmp_path / "one")["invitation"]
    filled = [one.format(line=line) for one in arguments]
    ended = caravan(tmp_path / "two", "join", *filled)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1


def test_another_network_than_the_nodes_is_refused(tmp_path):
    with joined(tmp_path):
        ended = caravan(tmp_path, "invite", "--network", "lab")
        assert ended.returncode == 2
        assert "in the network 'caravan'" in ended.stderr
        assert caravan(tmp_path, "invite", "--expires", "soon").returncode == 2


def test_a_qr_code_is_printed_below_the_line(tmp_path):
    pytest.importorskip("segno")
    with joined(tmp_path):
        ended = caravan(tmp_path, "invite", "--qr")
    line, code = ended.stdout.split("\n", 1)
    assert line.startswith("caravan-invitation-1-")
    assert "\u2588" in code or "\u2584" in code
