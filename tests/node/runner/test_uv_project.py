"""Which commands of uv install from a lockfile, and what is meant by their words."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.runner.uv_project import locked_project, without_node


@pytest.mark.parametrize(
    ("command", "selection", "place"),
    [
        ("uv sync --locked", "", ""),
        ("/opt/bin/uv sync --frozen --extra a --no-dev", "--extra a --no-dev", ""),
        ("uv --project sub sync --locked --group=b", "--group b", "--project sub"),
        ("uv sync --locked -p 3.12 --quiet", "", "-p 3.12"),
        ("uv run --frozen pytest --extra mine", "", ""),
        ("uv run --frozen -- pytest --group x", "", ""),
        ("uv run --locked --with rich --only-group lint ruff", "--only-group lint", ""),
    ],
)
def test_the_words_of_the_command_are_passed_on(tmp_path, command, selection, place):
    found = locked_project(command.split(), {}, tmp_path)
    assert found is not None
    assert found.is_strict
    assert " ".join(found.selection) == selection
    assert " ".join(found.place) == place
    export = found.export(Path("r.txt"))
    assert export[-len(found.selection) :] == list(found.selection) or not selection
    assert ("--frozen" if "--frozen" in command else "--locked") in export


@pytest.mark.parametrize(
    "command",
    [
        "uv add sync --locked", "uv lock", "uv pip sync --frozen", "uv tool run sync",
        "uv run --no-sync --locked pytest", "pip install uv", "uv", "uvx sync --locked",
        "uv sync", "uv run pytest --locked",
    ],
)  # fmt: skip
def test_other_commands_are_left_alone(tmp_path, command):
    assert locked_project(command.split(), {}, tmp_path) is None


def test_a_lockfile_that_is_there_is_used_and_may_be_renewed(tmp_path):
    (tmp_path / "uv.lock").touch()
    (tmp_path / "below").mkdir()
    found = locked_project(["uv", "sync"], {}, tmp_path / "below")
    assert found is not None
    assert not found.is_strict
    assert found.check == "--locked"


@pytest.mark.parametrize(
    ("variable", "check"), [("UV_LOCKED", "--locked"), ("UV_FROZEN", "--frozen")]
)
def test_the_environment_may_say_so_too(tmp_path, variable, check):
    found = locked_project(["uv", "sync"], {variable: "1"}, tmp_path)
    assert found is not None
    assert found.check == check
    assert locked_project(["uv", "sync"], {variable: "0"}, tmp_path) is None


def test_the_index_of_the_lockfile_is_what_uv_asks_without_a_node(
    tmp_path, monkeypatch
):
    """Also where `connect uv` wrote the node's address into its file."""
    file = tmp_path / "uv.toml"
    monkeypatch.setenv("UV_CONFIG_FILE", str(file))
    pointed = {"UV_DEFAULT_INDEX": "http://127.0.0.1:4000/pypi/simple/", "A": ""}
    assert without_node(pointed, {}) == {"A": ""}
    theirs = {"UV_INDEX_URL": "https://index.test/simple"}
    assert without_node(pointed, theirs) == {"A": "", **theirs}
    file.write_text(
        '[[index]]\nurl = "http://127.0.0.1:4748/pypi/simple"\ndefault = true\n'
    )
    assert without_node(pointed, {})["UV_DEFAULT_INDEX"] == "https://pypi.org/simple"
    assert without_node(pointed, theirs) == {"A": "", **theirs}
