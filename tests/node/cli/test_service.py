"""The systemd unit is valid, wherever the node's folder is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from node.cli import service_command
from node.cli.service_command import unit_path, unit_text
from tests.node.cli.terminals import caravan


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here"
)
@pytest.mark.parametrize("name", ["plain", 'with space, 50% "quotes" and $HOME'])
@pytest.mark.parametrize("is_system", [True, False])
def test_the_unit_passes_systemds_own_check(tmp_path, name, is_system):
    path = tmp_path / "caravan.service"
    path.write_text(unit_text(tmp_path / name, is_system=is_system))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "caravan.service" in line]
    assert (done.returncode, ours) == (0, [])


def test_a_user_has_a_unit_of_their_own(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert unit_path() == Path("/somewhere/systemd/user/caravan.service")


async def test_without_systemd_it_says_what_to_do(tmp_path, monkeypatch):
    """And `status` works all the same."""
    if service_command._is_running_here():
        pytest.skip("systemd runs this machine")
    status = (await caravan(tmp_path, "service", "status", "--json")).document
    assert status["active"] is False
    assert status["unit"].endswith("caravan.service")


def test_tools_that_still_point_here_are_named(tmp_path, monkeypatch):
    import json

    from node.doctor import check_tools

    file = tmp_path / "pip.conf"
    file.write_text("# >>> caravan >>>\nindex-url = http://127.0.0.1:4748/pypi/\n")
    noted = {"pip": {"file": str(file), "before": "", "new": True}}
    (tmp_path / "connected.json").write_text(json.dumps(noted))
    assert check_tools(tmp_path, "127.0.0.1:4748").ok
    (tmp_path / "pdm").write_text("#!/bin/sh\n")
    (tmp_path / "pdm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    beside = check_tools(tmp_path, "127.0.0.1:4748")
    assert beside.ok
    assert "pdm not: `caravan connect pdm`" in beside.hint
    stopped = check_tools(tmp_path, None)
    assert not stopped.ok
    assert "caravan connect pip --undo" in stopped.hint
    moved = check_tools(tmp_path, "127.0.0.1:9999")
    assert not moved.ok
    assert "--write" in moved.hint
    file.write_text("")
    assert check_tools(tmp_path, None).ok
