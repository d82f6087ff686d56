"""The recipes of docs/site.md, run as they stand from another machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.caravan import caravan_in
from tests.end_to_end.clients import CLIENTS, must, need, own_home, run_client
from tests.end_to_end.foreign import Place, put_packages, upstreams
from tests.end_to_end.namespaces import HERE, Neighbour, neighbour
from tests.end_to_end.origin import Origin
from tests.end_to_end.packages import put_opam
from tests.end_to_end.test_clients_apt import put_deb

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]

PAGE = (Path(__file__).parents[2] / "docs/site.md").read_text()
PAGE = PAGE.partition("\n## Point the tools at it\n")[2].partition("\n## ")[0] + "\n## "
_SECTION = re.compile(r"^### (.+?)\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = [
    pytest.param(name, number, id=f"{name} {number + 1}")
    for name, text in _SECTION.findall(PAGE)
    for number in range(len(_BLOCK.findall(text)))
]
# What stands in the recipes for what the reader has: names of packages, of the site.
STANDS_FOR = {
    "requests": "caravantoy",
    "https://registry.npmjs.org/": "ORIGIN/npm/",
    "http://deb.debian.org/debian/": "ORIGIN/debian/",
    "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg": "trusted=yes",
    "stable main": "stable main",
    "download hello": "download toy",
}
PROJECT = (
    '[project]\nname = "project"\nversion = "1"\nrequires-python = ">='
    f'{sys.version_info[0]}.{sys.version_info[1]}"\ndependencies = ["caravantoy"]\n'
)
FILES = {
    "pyproject.toml": PROJECT,
    "Pipfile": '[[source]]\nname = "pypi"\nurl = "https://pypi.org/simple"\n'
    'verify_ssl = true\n[packages]\ncaravantoy = "*"\n',
    "package.json": '{"name": "main", "version": "1.0.0", '
    '"dependencies": {"caravan-toy": "^1.0.0"}}',
    "Cargo.toml": '[package]\nname = "main"\nversion = "0.1.0"\nedition = "2021"\n'
    '[dependencies]\ncaravan-crate = "1"\n',
    "src/lib.rs": "",
}
LOCKFILES = {
    "poetry": "poetry.lock", "pdm": "pdm.lock", "pipenv": "Pipfile.lock",
    "npm": "package-lock.json", "pnpm": "pnpm-lock.yaml", "yarn 1": "yarn.lock",
    "yarn 2 and later": "yarn.lock", "bun": "bun.lock", "cargo": "Cargo.lock",
}  # fmt: skip


def recipe(name: str, number: int) -> str:
    """Return one block of the page."""
    return str(_BLOCK.findall(dict(_SECTION.findall(PAGE))[name])[number])


@pytest.fixture(scope="module")
def there() -> Iterator[Neighbour]:
    """Another machine, cabled to this one."""
    with neighbour() as other:
        yield other


@pytest.fixture(scope="module")
def site(there: Neighbour, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a node with a site door, and an origin, both to be seen from there."""
    folder = tmp_path_factory.mktemp("site")
    with caravan_in(folder) as caravan, Origin(HERE) as origin:
        put_packages(origin)
        put_opam(origin, "tiny", "hello from opam")
        put_deb(origin, folder, "toy")
        node = caravan.node(
            "a",
            **upstreams(origin),
            CARAVAN_UPSTREAM_OPAM=f"{origin.url}/opam",
            CARAVAN_UPSTREAM_OPAM_SHARE="true",
            CARAVAN_UPSTREAM_DEBIAN=f"{origin.url}/debian",
            CARAVAN_UPSTREAM_DEBIAN_SHARE="true",
        )
        node.start("--serve", f"{HERE}:0")
        node.wait_ready()
        yield Place(node, origin)


def run_there(
    there: Neighbour, folder: Path, script: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a shell script on the other machine, with this one's tools on its path."""
    beside = [CLIENTS, Path(sys.executable).parent, *programs("opam", "cargo")]
    path = os.pathsep.join([*map(str, beside), os.environ["PATH"]])
    rustup = os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup")
    own = {**own_home(folder), "PATH": path, "RUSTUP_HOME": rustup}
    return run_client(
        there.command("sh", "-eu", "-c", script), folder, {**own, **environment}
    )


def programs(*names: str) -> list[Path]:
    return [Path(need(name)).parent for name in names]


def apt_config(folder: Path) -> Path:
    """Write what has apt keep everything below `folder`; returns the file."""
    for name in ("lists/partial", "cache/archives/partial", "etc/sources.list.d"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    settings = {
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "etc/sources.list",
        "Dir::Etc::sourceparts": folder / "etc/sources.list.d",
        "APT::Architecture": "all",
        "APT::Architectures": "all",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    file = folder / "apt.conf"
    file.write_text("\n".join(lines))
    return file


def prepare(name: str, site: Place, there: Neighbour, folder: Path) -> dict[str, str]:
    """Do what a reader has done before; returns variables for the recipe."""
    base = Path(sys.base_prefix) / "bin/python3"
    more = {
        "YARN_NODE_LINKER": "node-modules", "YARN_ENABLE_TELEMETRY": "0",
        "PIPENV_VENV_IN_PROJECT": "1", "PIPENV_PYTHON": str(base),
        "POETRY_VIRTUALENVS_IN_PROJECT": "1", "PDM_CHECK_UPDATE": "0",
        "PDM_IGNORE_ACTIVE_VENV": "1", "npm_config_audit": "false",
        "npm_config_update_notifier": "false",
    }  # fmt: skip
    if name.startswith("yarn 2"):
        (folder / "yarn.lock").touch()
    elif name == "pip":
        must(run_there(there, folder, f"'{base}' -m venv env"))
        more["PATH"] = f"{folder}/env/bin:{os.environ['PATH']}"
    elif name == "uv":
        more["UV_PYTHON"] = str(base)
        index = f"UV_DEFAULT_INDEX={site.origin.url}/simple uv"
        must(run_there(there, folder, f"{index} lock", **more))
        # The lockfile's own index is the default one of whoever made it.
        (folder / "uv.toml").write_text(
            f'[[index]]\nurl = "{site.origin.url}/simple"\ndefault = true\n'
        )
        del more["UV_PYTHON"]
    elif name == "opam":
        more["OPAMROOT"] = str(folder / "opam")
        init = "opam init --bare --disable-sandboxing --no-setup --yes here"
        switch = "opam switch create x --empty --yes"
        script = f"{init} {site.origin.url}/opam; {switch}"
        must(run_there(there, folder, script, **more))
        more["OPAMASSUMEDEPEXTS"] = "1"
    elif name == "apt":
        more |= {"APT_CONFIG": str(apt_config(folder)), "ETC": str(folder / "etc")}
    elif name == "cargo":
        more["CARGO_HOME"] = str(folder / "cargo")
    return more


@pytest.mark.parametrize(("name", "number"), RECIPES)
def test_a_recipe_works_as_it_stands(
    site: Place, there: Neighbour, tmp_path: Path, name: str, number: int
) -> None:
    """Its files come through the site door, and its lockfile does not name that."""
    for file, text in FILES.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    more = prepare(name, site, there, tmp_path)
    script = recipe(name, number)
    door = str(site.node.ready["site"])
    for written, meant in STANDS_FOR.items():
        script = script.replace(written, meant)
    script = script.replace("cache.lab:4749", door).replace("cache.lab", HERE)
    script = script.replace("ORIGIN", site.origin.url)
    # The made archive has neither InRelease nor Release.gpg, so apt looks for them at
    # the next mirror.
    with site.passes(1, tries="Release" if name == "apt" else ""):
        must(run_there(there, tmp_path, script, **more))
    if name in LOCKFILES:
        assert door not in (tmp_path / LOCKFILES[name]).read_text()


def test_every_tool_of_the_page_is_there() -> None:
    """And none is read from the page by mistake."""
    assert {str(one.values[0]) for one in RECIPES} == {
        *LOCKFILES,
        "pip",
        "uv",
        "opam",
        "apt",
    }
