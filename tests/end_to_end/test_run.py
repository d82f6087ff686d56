"""`caravan run`: a command's package managers use a node, running or its own."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from node.demo.processes import CARAVAN, NodeProcess, clean_environment
from tests.end_to_end.caravan import Caravan
from tests.end_to_end.clients import need, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_crate, put_npm, put_wheel

pytestmark = pytest.mark.timeout(180)

PIP = (
    sys.executable, "-m", "pip", "install", "--no-cache-dir", "--retries", "0",
    "--disable-pip-version-check",
)  # fmt: skip


def upstreams(origin: Origin) -> dict[str, str]:
    return {
        "CARAVAN_UPSTREAM_PYPI": f"{origin.url}/simple",
        "CARAVAN_UPSTREAM_NPM": f"{origin.url}/npm/",
        "CARAVAN_UPSTREAM_CARGO": f"sparse+{origin.url}/index/",
    }


def caravan_run(
    folder: Path, home: Path, *command: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command under `caravan run`, with `home` as the node's folder."""
    return run_client(
        [*CARAVAN, "--home", home, "run", "--json", "--", *command],
        folder,
        {**clean_environment(environment), "PYTHONPATH": str(Path.cwd())},
    )


def report(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    """Return the JSON document in the last line of stderr."""
    return json.loads(done.stderr.strip().splitlines()[-1])


def word(target: Path, module: str) -> str:
    text = (target / f"{module}.py").read_text("utf-8")
    return text.removeprefix("WORD = ").strip().strip("'")


def test_pip_asks_the_running_node(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """The exit code is the command's, and the report says what passed."""
    put_wheel(origin, "packed", "hello")
    node = caravan.join("a", **upstreams(origin))
    target = tmp_path / "site"
    done = caravan_run(tmp_path, node.home, *PIP, "--target", target, "packed")
    assert done.returncode == 0, done.stderr
    assert word(target, "packed") == "hello"
    assert report(done)["exit_code"] == 0
    assert not report(done)["direct"]
    failed = caravan_run(tmp_path, node.home, *PIP, "--target", target, "not-there")
    assert failed.returncode == report(failed)["exit_code"] == 1


def test_without_a_node_one_is_started_and_ended(
    origin: Origin, tmp_path: Path
) -> None:
    put_wheel(origin, "packed", "hello")
    home, target = tmp_path / "own", tmp_path / "site"
    done = caravan_run(
        tmp_path, home, *PIP, "--target", target, "packed", **upstreams(origin)
    )
    assert done.returncode == 0, done.stderr
    assert word(target, "packed") == "hello"
    assert (home / "store").is_dir()
    assert not (home / "node.json").exists(), "the node has ended"


@pytest.mark.full
def test_npm_and_cargo_are_pointed_at_the_node(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    put_npm(origin, "toy", "hello from npm")
    put_crate(origin, "toycrate", "hello from a crate")
    node = caravan.join("a", **upstreams(origin))
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "main", "version": "1.0.0"}')
    npm = [need("npm"), "install", "--no-audit", "--no-fund", "toy"]
    done = caravan_run(folder, node.home, *npm)
    assert done.returncode == 0, done.stderr
    assert (folder / "node_modules/toy").is_dir()
    (folder / "Cargo.toml").write_text(
        '[package]\nname = "main"\nversion = "0.1.0"\nedition = "2021"\n'
        '[dependencies]\ntoycrate = "1"\n'
    )
    (folder / "src/main.rs").write_text(
        'fn main() { println!("{}", toycrate::word()); }\n'
    )
    done = caravan_run(
        folder, node.home, need("cargo"), "run", "--quiet",
        CARGO_HOME=str(tmp_path / "cargo"),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "hello from a crate\n"), done.stderr


def test_a_command_that_cannot_be_started(tmp_path: Path, origin: Origin) -> None:
    home = tmp_path / "own"
    for command, code in [("no-such-program", 127), (str(tmp_path), 126)]:
        done = caravan_run(tmp_path, home, command, **upstreams(origin))
        assert done.returncode == code
        assert "Traceback" not in done.stderr


def test_a_node_killed_in_the_middle_costs_the_command_nothing(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """Another one is started in the same folder, and the file goes on."""
    put_wheel(origin, "packed", "hello")
    node = caravan.join("a", **upstreams(origin))
    script = (
        "import os, subprocess, sys, time\n"
        f"os.kill({node.pid}, {int(signal.SIGKILL)})\n"
        "time.sleep(0.3)\n"
        "sys.exit(subprocess.run(sys.argv[1:]).returncode)\n"
    )
    target = tmp_path / "site"
    command = [sys.executable, "-c", script, *PIP, "--target", target, "packed"]
    done = caravan_run(tmp_path, node.home, *command, **upstreams(origin))
    assert done.returncode == 0, done.stderr
    assert word(target, "packed") == "hello"
    assert "starting another one" in done.stderr


def test_where_no_node_can_be_had_the_command_goes_direct(
    origin: Origin, tmp_path: Path
) -> None:
    put_wheel(origin, "packed", "hello")
    home, target = tmp_path / "own", tmp_path / "site"
    home.write_text("a file where the folder should be")
    done = caravan_run(
        tmp_path, home, *PIP, "--target", target, "packed",
        PIP_INDEX_URL=f"{origin.url}/simple",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert word(target, "packed") == "hello"
    assert report(done)["direct"]
    assert done.stderr.count("without a node") == 1


def test_sigterm_ends_the_command_and_the_node(origin: Origin, tmp_path: Path) -> None:
    home = tmp_path / "own"
    process = subprocess.Popen(
        [*CARAVAN, "--home", home, "run", "--", sys.executable, "-c",
         "print('up', flush=True); import time; time.sleep(60)"],
        env={**clean_environment(upstreams(origin)), "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    process.terminate()
    assert process.wait(timeout=20) == 128 + signal.SIGTERM
    process.stdout.close()
    assert not (home / "node.json").exists()


@pytest.mark.full
def test_a_lingering_node_is_a_seeder_after_the_command(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    first = caravan.join("a", **upstreams(origin))
    put_wheel(origin, "packed", "hello")
    process = subprocess.Popen(
        [*CARAVAN, "--home", tmp_path / "own", "run", "--linger", "150", "--",
         *PIP, "--target", tmp_path / "site", "packed"],
        env={
            **clean_environment(upstreams(origin)),
            "PYTHONPATH": str(Path.cwd()),
            "CARAVAN_CONTACTS": first.address,
            "CARAVAN_UPSTREAM_PYPI_SHARE": "true",  # an origin on loopback is private
        },
    )  # fmt: skip
    try:
        digest = _digest_of(origin)
        deadline = time.monotonic() + 120
        while not _providers(first, digest):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0


def _digest_of(origin: Origin) -> str:
    (body,) = [
        body for path, (body, _) in origin.files.items() if path.endswith(".whl")
    ]
    return hashlib.sha256(body).hexdigest()


def _providers(node: NodeProcess, digest: str) -> list[object]:
    return list(node.run("lookup", digest).document.get("providers", []))


def test_the_report_says_where_the_bytes_came_from(
    caravan: Caravan, origin: Origin, tmp_path: Path
) -> None:
    """First from the origin, then from the store; a second node has them of peers."""
    put_wheel(origin, "packed", "hello")
    node = caravan.join("a", **upstreams(origin))
    found = []
    for number in (1, 2):
        target = tmp_path / f"site{number}"
        done = caravan_run(tmp_path, node.home, *PIP, "--target", target, "packed")
        assert done.returncode == 0, done.stderr
        found.append(report(done))
    assert found[0]["files"] == found[1]["files"] == 1
    assert found[0]["from_origin"] == found[0]["bytes"] > 0
    assert found[1]["from_store"] == found[1]["bytes"] == found[0]["bytes"]
    traffic = node.ask("status")["gateway"]
    assert traffic["origin"] == traffic["store"]
    assert traffic["peers"] == {"files": 0, "bytes": 0}
