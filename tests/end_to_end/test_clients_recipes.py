"""Lockfiles stay free of the gateway's address: the recipes of the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess
from tests.end_to_end.caravan import Caravan
from tests.end_to_end.clients import gateway, must, need, run_client
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_crate, put_npm, put_wheel
from tests.end_to_end.test_clients_cargo_npm import cargo

pytestmark = pytest.mark.timeout(180)


FILES = {
    "pip": "PIP_CONFIG_FILE",
    "uv": "UV_CONFIG_FILE",
    "npm": "NPM_CONFIG_USERCONFIG",
}


@pytest.fixture
def node(caravan: Caravan, origin: Origin, tmp_path: Path) -> NodeProcess:
    """Return a node whose upstreams are all at `origin`."""
    files = {name: str(tmp_path / f"{tool}.conf") for tool, name in FILES.items()}
    return caravan.join(
        "a",
        CARAVAN_UPSTREAM_PYPI=f"{origin.url}/simple",
        CARAVAN_UPSTREAM_PYPI_SHARE="true",
        CARAVAN_UPSTREAM_CARGO=f"sparse+{origin.url}/index/",
        CARAVAN_UPSTREAM_CARGO_SHARE="true",
        CARAVAN_UPSTREAM_NPM=f"{origin.url}/npm/",
        CARAVAN_UPSTREAM_NPM_SHARE="true",
        **files,
    )


def connected(node: NodeProcess, tool: str, folder: Path) -> dict[str, str]:
    """Have `caravan connect` write a tool's file; returns what leads the tool there."""
    file = folder / f"{tool}.conf"
    assert node.ask("connect", tool, "--write")["file"] == str(file)
    assert gateway(node) in file.read_text()
    return {FILES[tool]: str(file)}


def uv(
    folder: Path, environment: dict[str, str], *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    return run_client([need("uv"), "--no-cache", *arguments], folder, environment)


def test_uv_locks_at_the_origin_and_installs_through_the_gateway(
    node: NodeProcess, origin: Origin, tmp_path: Path
) -> None:
    """And without the recipe the address does get in, so it is needed."""
    need("uv")
    put_wheel(origin, "packed", "hello")
    environment = connected(node, "uv", tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "project"\nversion = "1"\n'
        f'requires-python = ">={sys.version_info[0]}.{sys.version_info[1]}"\n'
        'dependencies = ["packed"]\n'
    )
    here = {**environment, "UV_PYTHON": sys.executable}
    must(uv(project, here, "lock"))
    assert gateway(node) in (project / "uv.lock").read_text()
    cleaned = node.ask("lockfile", "clean", str(project / "uv.lock"))
    assert cleaned["replaced"] == {str(project / "uv.lock"): 2}
    text = (project / "uv.lock").read_text()
    assert gateway(node) not in text
    assert f'url = "{origin.url}/files/' in text
    assert node.ask("lockfile", "clean", str(project / "uv.lock"))["replaced"] == {
        str(project / "uv.lock"): 0
    }
    (project / "uv.lock").unlink()
    usual = {"UV_DEFAULT_INDEX": f"{origin.url}/simple", "UV_PYTHON": sys.executable}
    must(uv(project, usual, "--no-config", "lock"))
    lockfile = (project / "uv.lock").read_text()
    assert gateway(node) not in lockfile
    assert origin.url in lockfile
    must(uv(project, here, "export", "--frozen", "--no-emit-project", "-o", "r.txt"))
    must(run_client([sys.executable, "-m", "venv", "--without-pip", "v"], project))
    sync = ["pip", "sync", "--require-hashes", "--python", "v/bin/python", "r.txt"]
    must(uv(project, environment, *sync))
    assert list((project / "v").rglob("packed.py"))
    assert (project / "uv.lock").read_text() == lockfile
    origin.die()
    must(run_client([sys.executable, "-m", "venv", "--without-pip", "w"], project))
    again = ["pip", "sync", "--require-hashes", "--python", "w/bin/python", "r.txt"]
    must(uv(project, environment, *again))
    assert list((project / "w").rglob("packed.py"))


def test_pip_freezes_no_address(
    node: NodeProcess, origin: Origin, tmp_path: Path
) -> None:
    put_wheel(origin, "packed", "hello")
    environment = connected(node, "pip", tmp_path)
    pip = [sys.executable, "-m", "pip"]
    flags = ["--no-cache-dir", "--target", tmp_path / "site"]
    must(run_client([*pip, "install", *flags, "packed"], tmp_path, environment))
    freeze = [*pip, "freeze", "--path", tmp_path / "site"]
    assert must(run_client(freeze, tmp_path, environment)) == "packed==1.0\n"
    assert node.ask("connect", "pip", "--undo")["undone"]
    assert not (tmp_path / "pip.conf").exists()


def test_npm_and_cargo_lock_no_address(
    node: NodeProcess, origin: Origin, tmp_path: Path
) -> None:
    """With the lines that `connect` writes, and nothing else said."""
    need("npm")
    need("cargo")
    put_npm(origin, "toy-package", "hello")
    put_crate(origin, "toycrate", "hello")
    npmrc = connected(node, "npm", tmp_path)
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"name": "main", "version": "1.0.0"}')
    install = [need("npm"), "install", "--no-audit", "--no-fund", "toy-package"]
    must(run_client(install, project, npmrc))
    lockfile = (project / "package-lock.json").read_text()
    assert "sha512-" in lockfile
    assert "127.0.0.1" not in lockfile
    must(cargo(node, tmp_path / "crate", "toycrate"))
    lockfile = (tmp_path / "crate/Cargo.lock").read_text()
    assert "checksum" in lockfile
    assert "127.0.0.1" not in lockfile
