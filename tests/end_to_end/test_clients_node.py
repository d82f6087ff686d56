"""pnpm, yarn of both generations, bun, and what npm asks beyond packages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.clients import must, need, run_client
from tests.end_to_end.foreign import Place, connect, foreign_place, in_home

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

PACKAGE = {
    "name": "main",
    "version": "1.0.0",
    "dependencies": {"caravan-toy": "^1.0.0"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a node and an origin with made packages."""
    with foreign_place(tmp_path_factory.mktemp("place")) as place:
        yield place


@dataclass(frozen=True, slots=True)
class Tool:
    """How one package manager is called, and pointed at a registry."""

    program: str
    registry: dict[str, str]
    """Environment variables; `%` stands for the registry, with a slash at its end."""
    lockfile: str
    frozen: tuple[str, ...] = ("install", "--frozen-lockfile")
    keeps_addresses: bool = False
    """Whether the tool writes addresses of tarballs into its lockfile."""
    asks_there: bool = False
    """Whether it then asks the address in the lockfile, whatever its registry is."""

    def environment(self, registry: str) -> dict[str, str]:
        """Return what points the tool at a registry."""
        return {
            name: text.replace("%/", registry).replace("%", registry.rstrip("/"))
            for name, text in self.registry.items()
        }


BERRY = {
    "YARN_NPM_REGISTRY_SERVER": "%",
    "YARN_UNSAFE_HTTP_WHITELIST": "127.0.0.1",
    "YARN_NODE_LINKER": "node-modules",
    "YARN_ENABLE_TELEMETRY": "0",
}
NPM = {
    "npm_config_registry": "%/",
    "npm_config_replace_registry_host": "always",
    "npm_config_audit": "false",  # is passed on with the name of its asker
}
TOOLS = {
    "npm": Tool("npm", NPM, "package-lock.json", ("ci",), keeps_addresses=True),
    "pnpm": Tool("pnpm", {"npm_config_registry": "%/"}, "pnpm-lock.yaml"),
    "yarn": Tool(
        "yarn", {"YARN_REGISTRY": "%"}, "yarn.lock",
        keeps_addresses=True, asks_there=True,
    ),
    "yarn berry": Tool("yarn-berry", BERRY, "yarn.lock", ("install", "--immutable")),
    "bun": Tool(
        "bun", {"BUN_CONFIG_REGISTRY": "%/"}, "bun.lock",
        keeps_addresses=True, asks_there=True,
    ),
}  # fmt: skip


def project(folder: Path) -> Path:
    """Make a project that needs a package, which needs another one."""
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps(PACKAGE))
    (folder / "yarn.lock").touch()  # the root of a project of yarn 2 and later
    return folder


def start_over(folder: Path) -> None:
    """Forget what was installed and cached; the lockfile stays."""
    shutil.rmtree(folder / "node_modules")
    shutil.rmtree(folder / "home")


def word(folder: Path) -> str:
    """Return what the installed package exports."""
    node = [need("node"), "-e", "console.log(require('caravan-toy'))"]
    return must(run_client(node, folder)).strip()


@pytest.mark.parametrize("name", TOOLS)
def test_an_install_goes_through_the_node(
    place: Place, tmp_path: Path, name: str
) -> None:
    """And the lockfile names the origin, where it names any, at the latest cleaned."""
    tool = TOOLS[name]
    folder = project(tmp_path / "project")
    environment = tool.environment(place.npm)
    with place.passes(2):
        must(in_home(folder, environment, tool.program, "install"))
    assert word(folder) == "hello from npm"
    lockfile = folder / tool.lockfile
    assert place.is_named_in(lockfile.read_text()) == tool.keeps_addresses
    cleaned = place.node.ask("lockfile", "clean", str(lockfile))
    assert cleaned["replaced"] == {str(lockfile): 2 if tool.keeps_addresses else 0}
    text = lockfile.read_text()
    assert not place.is_named_in(text)
    tarball = f"{place.origin.url}/npm/caravan-toy/-/caravan-toy-1.0.0.tgz"
    assert (tarball in text) == tool.keeps_addresses
    start_over(folder)
    expected = place.passes_by() if tool.asks_there else place.passes(2)
    with expected:
        must(in_home(folder, environment, tool.program, *tool.frozen))
    assert word(folder) == "hello from npm"
    assert lockfile.read_text() == text


@pytest.mark.parametrize("name", TOOLS)
def test_a_lockfile_made_at_the_origin_stays_as_it_is(
    place: Place, tmp_path: Path, name: str
) -> None:
    """The usual case: a team locks without the node, one of them installs with it."""
    tool = TOOLS[name]
    folder = project(tmp_path / "project")
    direct = tool.environment(f"{place.origin.url}/npm/")
    must(in_home(folder, direct, tool.program, "install"))
    text = (folder / tool.lockfile).read_text()
    start_over(folder)
    ours = tool.environment(place.npm)
    with place.passes_by() if tool.asks_there else place.passes(2):
        must(in_home(folder, ours, tool.program, "install"))
    assert (folder / tool.lockfile).read_text() == text


@pytest.mark.parametrize("name", TOOLS)
def test_the_lines_of_connect_are_enough(
    place: Place, tmp_path: Path, name: str
) -> None:
    """And are gone afterwards."""
    tool, known_as = TOOLS[name], name.replace(" ", "-")
    folder = project(tmp_path / "project")
    file = Path(connect(place, folder, known_as, "--write")["file"])
    more = {one: text for one, text in tool.registry.items() if "%" not in text}
    with place.passes(2):
        must(in_home(folder, more, tool.program, "install"))
    assert word(folder) == "hello from npm"
    assert connect(place, folder, known_as, "--undo")["undone"]
    assert not file.exists()


@pytest.mark.parametrize("name", ["pnpm", "yarn", "bun"])
def test_the_lines_for_npm_lead_others_here_too(
    place: Place, tmp_path: Path, name: str
) -> None:
    """As `connect npm` says."""
    folder = project(tmp_path / "project")
    connect(place, folder, "npm", "--write")
    with place.passes(2):
        must(in_home(folder, {}, TOOLS[name].program, "install"))
    text = (folder / TOOLS[name].lockfile).read_text()
    assert place.is_named_in(text) == TOOLS[name].keeps_addresses


def test_yarn_berry_with_the_lines_for_npm_passes_the_node_by(
    place: Place, tmp_path: Path
) -> None:
    """It reads neither npm's files nor its variables: it needs lines of its own."""
    folder = project(tmp_path / "project")
    direct = TOOLS["yarn berry"].environment(f"{place.origin.url}/npm/")
    (folder / ".npmrc").write_text(f"registry={place.npm}\n")
    with place.passes_by():
        must(in_home(folder, direct, "yarn-berry", "install"))


# What npm asks beyond packages is passed on.


def npm(place: Place, folder: Path, *arguments: str) -> str:
    environment = {"npm_config_registry": place.npm, "npm_config_update_notifier": "0"}
    return must(in_home(folder, environment, "npm", *arguments))


def test_npm_audit_is_answered_by_the_registry(place: Place, tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    advisory = {
        "id": 1, "url": "https://example.org/1", "title": "a made advisory",
        "severity": "high", "vulnerable_versions": "<2", "cwe": [],
        "cvss": {"score": 0, "vectorString": None},
    }  # fmt: skip
    body = json.dumps({"caravan-need": [advisory]}).encode()
    kind = "application/json"
    place.origin.put("/npm/-/npm/v1/security/advisories/bulk", body, kind)
    npm(place, folder, "install", "--no-audit", "--no-fund")
    before = len(place.origin.posted)
    done = in_home(folder, {"npm_config_registry": place.npm}, "npm", "audit", "--json")
    assert done.returncode == 1, "there is an advisory"
    found = json.loads(done.stdout)["vulnerabilities"]
    assert found["caravan-need"]["severity"] == "high"
    assert len(place.origin.posted) > before


def test_npm_ping_view_and_dist_tag(place: Place, tmp_path: Path) -> None:
    tags = json.dumps({"latest": "1.0.0", "next": "2.0.0"}).encode()
    kind = "application/json"
    place.origin.put("/npm/-/package/caravan-toy/dist-tags", tags, kind)
    place.origin.put("/npm/-/ping?write=true", b"{}", kind)
    place.origin.put("/npm/-/ping", b"{}", kind)
    folder = project(tmp_path / "project")
    assert "registry" in json.loads(npm(place, folder, "ping", "--json"))
    assert npm(place, folder, "view", "caravan-toy", "version").strip() == "1.0.0"
    assert npm(
        place, folder, "view", "caravan-toy@1", "dependencies.caravan-need"
    ).strip() == ("^1.0.0")
    assert sorted(npm(place, folder, "dist-tag", "ls", "caravan-toy").split()) == [
        "1.0.0", "2.0.0", "latest:", "next:",
    ]  # fmt: skip
