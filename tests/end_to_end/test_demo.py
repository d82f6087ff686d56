"""The demo: it shows what it says, ends by itself and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import RecordError, ReleaseRecord
from node.demo.attacks import forge
from node.demo.main import STEPS
from node.demo.processes import CARAVAN, clean_environment, wait_until
from node.demo.wheels import NAMES, get_wheels

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def offline(tmp_path):
    """Return the environment of a machine without an index, with its own /tmp."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return clean_environment(
        {
            "TMPDIR": str(folder),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
        }
    )


def processes_below(folder: Path) -> list[str]:
    """Return the command lines of all processes that name a path below `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found


def run_demo(environment, seconds_max):
    """Run `caravan demo --json` with another bound; a loaded machine needs longer."""
    program = (
        "import sys; from node.cli.run import run; from node.demo import main; "
        f"main.SECONDS_MAX = {seconds_max}; sys.exit(run(['demo', '--json']))"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds_max + 20,
        check=False,
    )


def test_the_demo_shows_everything(offline, tmp_path):
    """Every step works, also without an index; no process and no file is left."""
    done = run_demo(offline, seconds_max=150)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["ok"]
    assert summary["nodes"] == 8
    assert len(summary["steps"]) == len(STEPS)
    assert "installed here" in summary["origin"]
    assert "failed" not in done.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
    assert processes_below(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_demo_clears_away_behind_itself(offline, tmp_path, number):
    """Ctrl-C in the middle ends every node and removes every file."""
    folder = tmp_path / "tmp"
    with (tmp_path / "said").open("wb") as said:
        demo = subprocess.Popen(
            [*CARAVAN, "demo"], env=offline, stdout=said, stderr=said
        )
    try:
        wait_until(lambda: len(processes_below(folder)) >= 4, 60, "nodes starting")
        demo.send_signal(number)
        assert demo.wait(30) == 130
    finally:
        demo.kill()
        demo.wait()
    assert list(folder.iterdir()) == []
    assert processes_below(folder) == []


def test_a_demo_that_takes_too_long_says_so_and_ends(offline, tmp_path):
    """Whatever it waits for, it gives up at its bound, and clears away."""
    done = run_demo(offline, seconds_max=2)
    assert done.returncode == 1
    assert "longer than 2 s" in json.loads(done.stdout)["error"]
    assert list((tmp_path / "tmp").iterdir()) == []
    assert processes_below(tmp_path) == []


def test_without_an_index_installed_files_are_packed(offline, tmp_path, monkeypatch):
    """They are real files, with their real dependencies, in two versions of one."""
    for name, value in offline.items():
        monkeypatch.setenv(name, value)
    wheels = get_wheels(tmp_path / "cache", tmp_path / "packed")
    assert tuple(wheel.name for wheel in wheels.first) == NAMES
    assert wheels.named("cryptography").needs == ("cffi",)
    assert wheels.update.name == NAMES[0]
    assert wheels.update.path.read_bytes() != wheels.first[0].path.read_bytes()
    with zipfile.ZipFile(wheels.named("pycparser").path) as archive:
        assert "pycparser/__init__.py" in archive.namelist()


def test_packing_twice_gives_the_same_bytes(offline, tmp_path, monkeypatch):
    """A digest stands for content, not for the moment of packing."""
    for name, value in offline.items():
        monkeypatch.setenv(name, value)
    one = get_wheels(tmp_path / "cache", tmp_path / "one")
    two = get_wheels(tmp_path / "cache", tmp_path / "two")
    for first, second in zip(one.first, two.first, strict=True):
        assert first.path.read_bytes() == second.path.read_bytes()


def test_the_forged_record_is_well_made_but_for_its_signature():
    """It names the publisher and a higher sequence; only the signature is wrong."""
    publisher = Ed25519PrivateKey.generate()
    now = time.time()
    genuine = ReleaseRecord.sign(
        publisher,
        publisher=publisher.public_key().public_bytes_raw(),
        name="pycparser",
        version="1.0",
        epoch=0,
        sequence=1,
        package=bytes(32),
        urgency="routine",
        issued_at=now,
        expires_at=now + 3600,
    )
    assert ReleaseRecord.verify(genuine.raw, now) == genuine
    forged = forge(genuine)
    assert forged.publisher == genuine.publisher
    assert forged.order > genuine.order
    assert ReleaseRecord.peek(forged.raw).publisher == genuine.publisher
    with pytest.raises(RecordError, match="signature"):
        ReleaseRecord.verify(forged.raw, now)
    assert forged.raw != genuine.raw
