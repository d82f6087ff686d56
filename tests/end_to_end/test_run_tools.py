"""`caravan run` with each package manager, also when the node is killed under it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from node.demo.processes import CARAVAN, NodeProcess, clean_environment
from tests.end_to_end.caravan import Caravan
from tests.end_to_end.clients import must, need, own_home, run_client
from tests.end_to_end.foreign import Place, foreign_place, put_packages, upstreams
from tests.end_to_end.origin import Origin

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
BASE_PYTHON = str(Path(sys.base_prefix) / "bin" / f"python{PYTHON}")
PROJECT = f"""
[project]
name = "project"
version = "1"
requires-python = ">={PYTHON}"
dependencies = ["caravantoy"]
"""
PIPFILE = (
    '[[source]]\nname = "pypi"\nurl = "https://pypi.org/simple"\n'
    'verify_ssl = true\n[packages]\ncaravantoy = "*"\n'
)
PACKAGE = json.dumps(
    {"name": "main", "version": "1.0.0", "dependencies": {"caravan-toy": "^1.0.0"}}
)
CRATE = (
    '[package]\nname = "main"\nversion = "0.1.0"\nedition = "2021"\n'
    '[dependencies]\ncaravan-crate = "1"\n'
)
PIP = ("install", "--no-cache-dir", "--retries", "0", "--target", "site")


@dataclass(frozen=True, slots=True)
class Tool:
    """A project, and the command that installs it."""

    command: tuple[str, ...]
    files: dict[str, str]
    installs: str
    """A file that is there afterwards, as a pattern below the project."""
    lockfile: str = ""
    environment: dict[str, str] = field(default_factory=dict)


OF_PYTHON = {"pyproject.toml": PROJECT}
OF_NODE = {"package.json": PACKAGE}
MODULE, PACKAGE_FILE = "**/caravantoy.py", "node_modules/caravan-toy/package.json"
TOOLS = {
    "pip": Tool(("python", "-m", "pip", *PIP, "caravantoy"), {}, MODULE),
    "uv": Tool(
        ("uv", "sync"), OF_PYTHON, MODULE, "uv.lock", {"UV_PYTHON": BASE_PYTHON}
    ),
    "pdm": Tool(
        ("pdm", "install", "--no-self"), OF_PYTHON, MODULE, "pdm.lock",
        {"PDM_CHECK_UPDATE": "0", "PDM_IGNORE_ACTIVE_VENV": "1"},
    ),
    "pipenv": Tool(
        ("pipenv", "install"), {"Pipfile": PIPFILE}, MODULE, "Pipfile.lock",
        {"PIPENV_VENV_IN_PROJECT": "1", "PIPENV_PYTHON": BASE_PYTHON},
    ),
    "poetry": Tool(
        ("poetry", "install", "--no-root", "--no-interaction"), OF_PYTHON, MODULE,
        "poetry.lock", {"POETRY_VIRTUALENVS_IN_PROJECT": "1"},
    ),
    "npm": Tool(
        ("npm", "install", "--no-audit"), OF_NODE, PACKAGE_FILE, "package-lock.json"
    ),
    "pnpm": Tool(("pnpm", "install"), OF_NODE, PACKAGE_FILE, "pnpm-lock.yaml"),
    "yarn": Tool(("yarn", "install"), OF_NODE, PACKAGE_FILE, "yarn.lock"),
    "yarn berry": Tool(
        ("yarn-berry", "install"), {**OF_NODE, "yarn.lock": ""}, PACKAGE_FILE,
        "yarn.lock",
        {"YARN_NODE_LINKER": "node-modules", "YARN_ENABLE_TELEMETRY": "0"},
    ),
    "bun": Tool(("bun", "install"), OF_NODE, PACKAGE_FILE, "bun.lock"),
    "cargo": Tool(
        ("cargo", "fetch"), {"Cargo.toml": CRATE, "src/lib.rs": ""},
        "home/cargo/registry/src/*/caravan-crate-1.0.0/Cargo.toml", "Cargo.lock",
    ),
}  # fmt: skip
KILLED = ("pip", "uv", "pdm", "pipenv", "npm", "pnpm", "yarn", "bun", "cargo")
QUICK = ("uv", "npm", "pnpm", "yarn", "yarn berry", "bun", "cargo")
KEEPS_ADDRESSES = ("uv", "npm", "yarn", "bun")


def project(folder: Path, tool: Tool) -> Path:
    """Make the project of a tool."""
    for name, text in tool.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    folder.mkdir(exist_ok=True)
    return folder


def caravan_run(
    folder: Path, home: Path, tool: Tool, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a tool under `caravan run`, with the node's folder at `home`."""
    first, *rest = tool.command
    program = sys.executable if first == "python" else need(first)
    own = {**own_home(folder), **tool.environment, **environment}
    own["CARGO_HOME"] = str(folder / "home/cargo")
    own["PYTHONPATH"] = str(Path.cwd())
    if rustup := os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup"):
        own["RUSTUP_HOME"] = rustup
    return run_client(
        [*CARAVAN, "--home", home, "run", "--json", "--", program, *rest], folder, own
    )


def report(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """Return the document in the last line of stderr; AssertionError if it failed."""
    must(done)
    return dict(json.loads(done.stderr.strip().splitlines()[-1]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a node and an origin with made packages."""
    with foreign_place(tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_installs_through_the_node(
    place: Place, tmp_path: Path, name: str
) -> None:
    """With no file changed but the tool's own, and a report that adds up."""
    tool = TOOLS[name]
    folder = project(tmp_path / "project", tool)
    with place.passes(1):
        said = report(caravan_run(folder, place.node.home, tool))
    assert list(folder.glob(tool.installs))
    assert said["exit_code"] == 0
    assert not said["direct"]
    assert said["files"] >= 1
    sources = ("from_store", "from_peers", "from_origin")
    assert sum(said[one] for one in sources) == said["bytes"] > 0
    if not tool.lockfile:
        return
    text = (folder / tool.lockfile).read_text()
    addresses = set(text.split("http://127.0.0.1:")[1:])
    port = place.origin.url.rpartition(":")[2]
    assert all(one.startswith(port) for one in addresses)
    assert bool(addresses) == (name in KEEPS_ADDRESSES)


@pytest.mark.parametrize("name", KILLED)
def test_a_node_that_is_killed_in_the_middle_costs_a_tool_nothing(
    caravan: Caravan, origin: Origin, tmp_path: Path, name: str
) -> None:
    """At the first file that the node asks for: another one brings it."""
    tool = TOOLS[name]
    put_packages(origin)
    node = caravan.join("a", **upstreams(origin))
    kill_at_the_first_file(origin, node)
    folder = project(tmp_path / "project", tool)
    done = caravan_run(folder, node.home, tool, **clean_environment(upstreams(origin)))
    must(done)
    assert not node.running, "it was killed"
    assert list(folder.glob(tool.installs))
    assert done.stderr.count("starting another one") == 1


def kill_at_the_first_file(origin: Origin, node: NodeProcess) -> None:
    """Kill a node the moment that it asks an origin for a file."""
    parts = (".whl", ".tgz", "/download")

    def kill(path: str) -> None:
        if any(part in path for part in parts):
            origin.on_request = lambda path: None
            os.kill(node.pid, signal.SIGKILL)

    origin.on_request = kill


# uv, from a lockfile as it stands.


@pytest.fixture
def locked(place: Place, tmp_path: Path) -> Path:
    """Return a project with a uv.lock that was made at the origin, and no more."""
    folder = project(tmp_path / "project", TOOLS["uv"])
    direct = {"UV_DEFAULT_INDEX": f"{place.origin.url}/simple"}
    environment = {**own_home(folder), **direct, "UV_PYTHON": BASE_PYTHON}
    must(run_client([need("uv"), "--no-cache", "lock"], folder, environment))
    return folder


@pytest.mark.parametrize("flags", [("--locked",), ("--frozen",), ()])
def test_uv_sync_of_a_lockfile_that_names_the_origin(
    place: Place, locked: Path, flags: tuple[str, ...]
) -> None:
    """The usual call of a CI: its bytes come through the node."""
    text = (locked / "uv.lock").read_text()
    tool = Tool(("uv", "sync", *flags), {}, MODULE, "uv.lock", TOOLS["uv"].environment)
    index = {"UV_DEFAULT_INDEX": f"{place.origin.url}/simple"}
    with place.passes(2):
        said = report(caravan_run(locked, place.node.home, tool, **index))
    assert said["files"] == 2
    assert list(locked.glob(".venv/lib/*/site-packages/caravantoy.py"))
    assert (locked / "uv.lock").read_text() == text


def test_uv_sync_locked_of_a_stale_lockfile_fails_as_without_a_node(
    place: Place, locked: Path
) -> None:
    file = locked / "pyproject.toml"
    file.write_text(file.read_text().replace("caravantoy", "caravanneed"))
    tool = Tool(("uv", "sync", "--locked"), {}, MODULE, "", TOOLS["uv"].environment)
    index = {"UV_DEFAULT_INDEX": f"{place.origin.url}/simple"}
    done = caravan_run(locked, place.node.home, tool, **index)
    assert done.returncode != 0
    assert "needs to be updated" in done.stderr
    assert not list(locked.glob(MODULE))


def test_uv_run_frozen(place: Place, locked: Path) -> None:
    say = ("python", "-c", "import caravantoy; print(caravantoy.WORD)")
    tool = Tool(
        ("uv", "run", "--frozen", *say), {}, MODULE, "", TOOLS["uv"].environment
    )
    with place.passes(2):
        done = caravan_run(locked, place.node.home, tool)
    assert must(done) == "hello\n"


@pytest.mark.parametrize("name", QUICK)
def test_the_exit_code_is_the_tools(place: Place, tmp_path: Path, name: str) -> None:
    """Of a package that nobody has."""
    tool = TOOLS[name]
    gone = {
        file: text.replace("caravantoy", "caravangone")
        .replace("caravan-toy", "caravan-gone")
        .replace("caravan-crate", "caravan-gone")
        for file, text in tool.files.items()
    }
    command = tuple(one.replace("caravantoy", "caravangone") for one in tool.command)
    tool = Tool(command, gone, tool.installs, tool.lockfile, tool.environment)
    folder = project(tmp_path / "project", tool)
    done = caravan_run(folder, place.node.home, tool)
    last = json.loads(done.stderr.strip().splitlines()[-1])
    assert done.returncode == last["exit_code"] != 0
    assert not last["direct"]
