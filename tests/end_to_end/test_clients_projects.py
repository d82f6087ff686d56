"""poetry, pipenv, pdm, hatch, pipx and uv in all its ways, against a node."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clients import must, need, run_client
from tests.end_to_end.foreign import Place, connect, foreign_place, in_home

pytestmark = [pytest.mark.full, pytest.mark.timeout(120)]

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
PROJECT = f"""
[project]
name = "project"
version = "1"
requires-python = ">={PYTHON}"
dependencies = ["caravantoy"]
"""
HATCH = """
[tool.hatch.envs.default]
skip-install = true
dependencies = ["caravantoy"]
installer = "INSTALLER"
"""
BASE_PYTHON = str(Path(sys.base_prefix) / "bin" / f"python{PYTHON}")
SAY = "import caravantoy; print(caravantoy.WORD)"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Return a node and an origin with made packages."""
    with foreign_place(tmp_path_factory.mktemp("place")) as place:
        yield place


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project that needs a package, which needs another."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    return folder


def installed(folder: Path) -> bool:
    """Tell whether both packages are in an environment below `folder`."""
    found = {one.name for one in folder.rglob("site-packages/*.py")}
    return {"caravantoy.py", "caravanneed.py"} <= found


def start_over(folder: Path) -> None:
    """Forget what was installed and cached; the lockfile stays."""
    shutil.rmtree(folder / ".venv")
    shutil.rmtree(folder / "home")


# --- uv ---------------------------------------------------------------------------

# The Python that environments are made of; never that of these tests, which uv would
# take for the environment itself.
UV = {"UV_PYTHON": BASE_PYTHON}
HERE = ("--python", ".venv/bin/python")


def with_uv(index: str) -> dict[str, str]:
    return {**UV, "UV_DEFAULT_INDEX": index}


def test_uv_pip(place: Place, project: Path) -> None:
    must(in_home(project, UV, "uv", "venv"))
    with place.passes(2):
        index = {"UV_DEFAULT_INDEX": place.pypi}
        must(in_home(project, index, "uv", "pip", "install", *HERE, "caravantoy"))
    assert installed(project)


def test_uv_tool(place: Place, tmp_path: Path) -> None:
    with place.passes(2):
        must(
            in_home(
                tmp_path, with_uv(place.pypi), "uv", "tool", "install", "caravantoy"
            )
        )
    must(run_client([tmp_path / "home/.local/bin/caravantoy"], tmp_path))


def test_uv_sync_writes_the_address_and_clean_takes_it_out(
    place: Place, project: Path
) -> None:
    with place.passes(2):
        must(in_home(project, with_uv(place.pypi), "uv", "sync"))
    assert installed(project)
    lockfile = project / "uv.lock"
    assert place.is_named_in(lockfile.read_text())
    place.node.ask("lockfile", "clean", str(lockfile))
    cleaned = lockfile.read_text()
    assert not place.is_named_in(cleaned)
    lockfile.unlink()
    must(in_home(project, with_uv(f"{place.origin.url}/simple"), "uv", "lock"))
    assert lockfile.read_text().replace("/simple/", "/simple") == cleaned.replace(
        "/simple/", "/simple"
    )


@pytest.fixture
def locked(place: Place, project: Path) -> Path:
    """Return the project with a lockfile that was made at the origin."""
    must(in_home(project, with_uv(f"{place.origin.url}/simple"), "uv", "sync"))
    start_over(project)
    return project


def test_uv_sync_locked_refuses_another_index_than_the_lockfile_names(
    place: Place, locked: Path
) -> None:
    """That is why there are a recipe and `caravan run`."""
    done = in_home(locked, with_uv(place.pypi), "uv", "sync", "--locked")
    assert done.returncode != 0
    assert "needs to be updated" in done.stderr


def test_uv_sync_frozen_passes_the_node_by(place: Place, locked: Path) -> None:
    with place.passes_by():
        must(in_home(locked, with_uv(place.pypi), "uv", "sync", "--frozen"))
    assert installed(locked)


@pytest.mark.parametrize("flag", ["--locked", "--frozen"])
def test_the_recipe_for_uv_sync_locked(place: Place, locked: Path, flag: str) -> None:
    """The lines of docs/site.md: the environment is filled through the node first."""
    text = (locked / "uv.lock").read_text()
    origin = with_uv(f"{place.origin.url}/simple")
    export = ["export", flag, "--no-emit-local", "--format", "requirements-txt"]
    with place.passes(2):
        must(in_home(locked, origin, "uv", *export, "-o", "locked.txt"))
        must(in_home(locked, UV, "uv", "venv"))
        fill = ["pip", "sync", *HERE, "--require-hashes", "locked.txt"]
        must(in_home(locked, {"UV_DEFAULT_INDEX": place.pypi}, "uv", *fill))
        must(in_home(locked, origin, "uv", "sync", flag, "--offline"))
    assert installed(locked)
    assert (locked / "uv.lock").read_text() == text


# --- projects ---------------------------------------------------------------------


def test_poetry_with_its_mirror_plugin_locks_no_address(
    place: Place, project: Path
) -> None:
    environment = {
        "POETRY_PYPI_MIRROR_URL": place.pypi,
        "POETRY_VIRTUALENVS_IN_PROJECT": "1",
    }
    install = ("poetry", "install", "--no-root", "--no-interaction")
    with place.passes(2):
        must(in_home(project, environment, *install))
    assert installed(project)
    text = (project / "poetry.lock").read_text()
    assert "sha256:" in text
    assert "127.0.0.1" not in text
    start_over(project)
    with place.passes(2):
        must(in_home(project, environment, *install))
    assert (project / "poetry.lock").read_text() == text


def test_a_source_of_poetrys_is_written_down_and_clean_takes_it_out(
    place: Place, project: Path
) -> None:
    """A source is what a team shares, so it is no way to point one machine here."""
    source = '[[tool.poetry.source]]\nname = "ours"\npriority = "primary"\n'
    (project / "pyproject.toml").write_text(f'{PROJECT}{source}url = "{place.pypi}"\n')
    must(in_home(project, {}, "poetry", "lock", "--no-interaction"))
    lockfile = project / "poetry.lock"
    assert place.is_named_in(lockfile.read_text())
    place.node.ask("lockfile", "clean", str(lockfile))
    text = lockfile.read_text()
    assert not place.is_named_in(text)
    assert f"{place.origin.url}/simple" in text


def test_pipenv_with_its_mirror_locks_no_address(place: Place, tmp_path: Path) -> None:
    (tmp_path / "Pipfile").write_text(
        '[[source]]\nname = "pypi"\nurl = "https://pypi.org/simple"\n'
        'verify_ssl = true\n[packages]\ncaravantoy = "*"\n'
    )
    environment = {
        "PIPENV_PYPI_MIRROR": place.pypi,
        "PIPENV_VENV_IN_PROJECT": "1",
        "PIPENV_IGNORE_VIRTUALENVS": "1",
        "PIPENV_PYTHON": BASE_PYTHON,
    }
    with place.passes(2):
        must(in_home(tmp_path, environment, "pipenv", "install"))
    assert installed(tmp_path)
    text = (tmp_path / "Pipfile.lock").read_text()
    assert "sha256:" in text
    assert "127.0.0.1" not in text
    start_over(tmp_path)
    with place.passes(2):
        must(in_home(tmp_path, environment, "pipenv", "sync"))
    assert (tmp_path / "Pipfile.lock").read_text() == text


def pdm(place: Place, index: str, **more: str) -> dict[str, str]:
    return {
        "PDM_PYPI_URL": index,
        "PDM_CHECK_UPDATE": "0",
        "PDM_IGNORE_ACTIVE_VENV": "1",
        **more,
    }


def test_pdm_locks_no_address(place: Place, project: Path) -> None:
    with place.passes(2):
        must(in_home(project, pdm(place, place.pypi), "pdm", "install", "--no-self"))
    assert installed(project)
    text = (project / "pdm.lock").read_text()
    assert "sha256:" in text
    assert "127.0.0.1" not in text
    start_over(project)
    with place.passes(2):
        must(in_home(project, pdm(place, place.pypi), "pdm", "sync", "--no-self"))
    assert (project / "pdm.lock").read_text() == text


LINES = {
    "uv": (("uv", "sync"), UV),
    "poetry": (
        ("poetry", "install", "--no-root", "--no-interaction"),
        {"POETRY_VIRTUALENVS_IN_PROJECT": "1"},
    ),
    "pdm": (
        ("pdm", "install", "--no-self"),
        {"PDM_CHECK_UPDATE": "0", "PDM_IGNORE_ACTIVE_VENV": "1"},
    ),
}


@pytest.mark.parametrize("tool", LINES)
def test_the_lines_of_connect_are_enough(
    place: Place, project: Path, tool: str
) -> None:
    """And are gone afterwards."""
    command, more = LINES[tool]
    file = Path(connect(place, project, tool, "--write")["file"])
    with place.passes(2):
        must(in_home(project, more, *command))
    assert installed(project)
    assert connect(place, project, tool, "--undo")["undone"]
    assert not file.exists()


def test_a_pipfile_made_with_the_lines_for_pip_names_the_node(
    place: Place, tmp_path: Path
) -> None:
    """As `connect pip` says, with what takes the address out."""
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {place.pypi}\n")
    environment = {
        "PIP_CONFIG_FILE": str(file),
        "PIPENV_VENV_IN_PROJECT": "1",
        "PIPENV_IGNORE_VIRTUALENVS": "1",
        "PIPENV_PYTHON": BASE_PYTHON,
    }
    must(in_home(tmp_path, environment, "pipenv", "install", "--skip-lock"))
    pipfile = tmp_path / "Pipfile"
    assert place.is_named_in(pipfile.read_text())
    place.node.ask("lockfile", "clean", str(pipfile))
    assert f'url = "{place.origin.url}/simple' in pipfile.read_text()
    assert not place.is_named_in(pipfile.read_text())


def test_pdm_with_the_lines_for_pip_passes_the_node_by(
    place: Place, project: Path
) -> None:
    file = project / "pip.conf"
    file.write_text(f"[global]\nindex-url = {place.pypi}\n")
    index = f"{place.origin.url}/simple"
    environment = pdm(place, index, PIP_CONFIG_FILE=str(file))
    with place.passes_by():
        must(in_home(project, environment, "pdm", "install", "--no-self"))


@pytest.mark.parametrize(
    ("installer", "variable"), [("pip", "PIP_INDEX_URL"), ("uv", "UV_DEFAULT_INDEX")]
)
def test_hatch(place: Place, project: Path, installer: str, variable: str) -> None:
    text = PROJECT + HATCH.replace("INSTALLER", installer)
    (project / "pyproject.toml").write_text(text)
    environment = {variable: place.pypi}
    if installer == "uv":
        environment["HATCH_ENV_TYPE_VIRTUAL_UV_PATH"] = need("uv")
    with place.passes(2):
        run = ("hatch", "run", "python", "-c", SAY)
        assert must(in_home(project, environment, *run)).strip() == "hello"


# With the pip that Python brings, not the newest one.
PIPX = ("pipx", "install", "--skip-maintenance")


@pytest.mark.parametrize(
    ("backend", "variable"), [("pip", "PIP_INDEX_URL"), ("uv", "UV_DEFAULT_INDEX")]
)
def test_pipx(place: Place, tmp_path: Path, backend: str, variable: str) -> None:
    environment = {"PIPX_DEFAULT_BACKEND": backend, variable: place.pypi}
    with place.passes(2):
        must(in_home(tmp_path, environment, *PIPX, "caravantoy"))
    must(run_client([tmp_path / "home/.local/bin/caravantoy"], tmp_path))


def test_pipx_with_the_lines_for_pip_passes_the_node_by(
    place: Place, tmp_path: Path
) -> None:
    """Where it has uv, it installs with that."""
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {place.pypi}\n")
    environment = with_uv(f"{place.origin.url}/simple")
    environment |= {"PIPX_DEFAULT_BACKEND": "uv", "PIP_CONFIG_FILE": str(file)}
    with place.passes_by():
        must(in_home(tmp_path, environment, *PIPX, "caravantoy"))
