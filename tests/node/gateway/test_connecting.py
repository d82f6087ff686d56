"""`connect` writes a tool's configuration, keeps what was there and takes it out."""

from __future__ import annotations

import json
import os
import tomllib

import pytest

from node.errors import NodeError
from node.gateway.connecting import outranking
from node.gateway.ecosystems import recipe, recipe_at, tools

WEB = "127.0.0.1:4748"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give each test a user's home of its own."""
    for name in (
        "PIP_CONFIG_FILE", "UV_CONFIG_FILE", "OPAMROOT", "NPM_CONFIG_USERCONFIG",
        "CARGO_HOME", "XDG_CONFIG_HOME", "POETRY_CONFIG_DIR", "PDM_CONFIG_FILE",
        "YARN_RC_FILENAME",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


OF_A_USER = [tool for tool in tools() if tool not in ("apt", "pipenv")]


@pytest.mark.parametrize("tool", OF_A_USER)
def test_writing_and_undoing_leaves_no_trace(home, tool):
    made = recipe(tool, home / "node", WEB)
    assert made.file.is_relative_to(home)
    made.write()
    assert WEB in made.file.read_text()
    made.write()
    assert made.file.read_text().count(WEB) == made.lines.count(WEB)
    assert made.undo()
    assert not made.file.exists()
    assert not made.undo()


@pytest.mark.parametrize(
    ("tool", "before"),
    [
        ("pip", "[global]\nindex-url = https://old.test/simple\ntimeout = 60\n"),
        ("pip", "[install]\nuser = true\n"),
        ("npm", "registry=https://old.test/\nfund=false\n"),
        ("opam", 'opam-version: "2.0"\narchive-mirrors: ["https://old.test"]\n'),
        ("cargo", "[net]\nretry = 3\n"),
        ("uv", "offline = false\n"),
        ("pdm", "[python]\nuse_venv = true\n"),
        ("poetry", "[virtualenvs]\nin-project = true\n"),
        ("pnpm", "registry=https://old.test/\nstore-dir=/srv/pnpm\n"),
        ("yarn", 'yarn-offline-mirror "./packages"\n'),
        ("yarn-berry", "nodeLinker: node-modules\n"),
        ("bun", "[install]\nexact = true\n"),
    ],
)
def test_what_was_there_comes_back(home, tool, before):
    made = recipe(tool, home / "node", WEB)
    made.file.parent.mkdir(parents=True, exist_ok=True)
    made.file.write_text(before)
    made.write()
    active = [
        line for line in made.file.read_text().splitlines() if not line.startswith("#")
    ]
    assert not any("old.test" in line for line in active)
    assert made.undo()
    assert made.file.read_text() == before


def test_the_index_that_pip_used_is_remembered_for_the_gateway(home):
    """Else the gateway would take itself for pip's index."""
    made = recipe("pip", home / "node", WEB)
    made.file.parent.mkdir(parents=True)
    made.file.write_text("[global]\nindex-url = https://old.test/simple\n")
    made.write()
    noted = json.loads((home / "node" / "connected.json").read_text())
    assert noted["pip"]["before"] == "https://old.test/simple"
    made.undo()
    assert json.loads((home / "node" / "connected.json").read_text()) == {}


def test_written_toml_is_valid(home):
    for tool in ("cargo", "uv", "pdm", "poetry", "bun"):
        made = recipe(tool, home / "node", WEB)
        made.write()
        assert tomllib.loads(made.file.read_text())


@pytest.mark.parametrize(
    ("tool", "before"),
    [
        ("cargo", '[source.crates-io]\nreplace-with = "mine"\n'),
        ("uv", 'index = [{url = "https://old.test", default = true}]\n'),
        ("uv", '[[index]]\nname = "caravan"\nurl = "https://old.test"\n'),
        ("pdm", '[pypi]\nurl = "https://old.test"\n'),
        ("poetry", '[plugins.pypi_mirror]\nurl = "https://old.test"\n'),
        ("poetry", "not TOML"),
        ("yarn", 'registry "https://old.test"\n'),
        ("yarn-berry", 'npmRegistryServer: "https://old.test"\n'),
        ("yarn-berry", '"npmRegistryServer": https://old.test\n'),
        ("yarn-berry", "unsafeHttpWhitelist:\n  - old.test\n"),
        ("bun", '[install]\nregistry = "https://old.test"\n'),
    ],
)
def test_what_would_not_go_together_is_refused(home, tool, before):
    made = recipe(tool, home / "node", WEB)
    made.file.parent.mkdir(parents=True, exist_ok=True)
    made.file.write_text(before)
    with pytest.raises(NodeError, match="by hand"):
        made.write()
    assert made.file.read_text() == before


def test_a_tool_without_a_file_is_led_by_the_environment(home):
    made = recipe("pipenv", home / "node", WEB)
    assert made.lines == f"export PIPENV_PYPI_MIRROR=http://{WEB}/pypi/simple/"
    with pytest.raises(NodeError, match="caravan run -- pipenv"):
        made.write()
    assert not made.undo()


@pytest.mark.parametrize("undo", [False, True])
def test_no_device_is_replaced(home, monkeypatch, undo):
    """`PIP_CONFIG_FILE=/dev/null` is how a user says that pip has no file."""
    pipe = home / "pipe"
    os.mkfifo(pipe)
    link = home / "link"
    link.symlink_to(pipe)
    for path in (pipe, link):
        monkeypatch.setenv("PIP_CONFIG_FILE", str(path))
        made = recipe("pip", home / "node", WEB)
        with pytest.raises(NodeError, match="no regular file"):
            made.undo() if undo else made.write()
        assert pipe.is_fifo()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes files of others")
def test_a_file_keeps_its_owner(home):
    made = recipe("npm", home / "node", WEB)
    made.file.write_text("fund=false\n")
    os.chown(made.file, 1234, 2345)
    made.write()
    about = made.file.stat()
    assert (about.st_uid, about.st_gid) == (1234, 2345)


def test_variables_that_count_more_than_the_file_are_found(home, monkeypatch):
    environment = recipe("npm", home / "node", WEB).environment
    assert outranking(environment) == []
    monkeypatch.setenv("npm_config_registry", environment["npm_config_registry"])
    assert outranking(environment) == []
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://old.test/")
    assert outranking(environment) == ["NPM_CONFIG_REGISTRY"]
    environment = recipe("uv", home / "node", WEB).environment
    monkeypatch.setenv("UV_INDEX_URL", "https://old.test/simple")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert sorted(outranking(environment)) == ["UV_INDEX_URL", "UV_NO_CONFIG"]


def test_the_indexes_that_pip_goes_on_to_ask_are_named_without_a_password(
    home, monkeypatch
):
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    file = home / ".config/pip/pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text(
        "[global]\nextra_index_url = https://me:secret@one.test/simple\n"
        "  https://two.test/simple\n"
    )
    notes = " ".join(recipe("pip", home / "node", WEB).notes)
    assert "one.test" in notes
    assert "two.test" in notes
    assert "secret" not in notes


@pytest.mark.parametrize("tool", list(tools()))
def test_of_a_site_every_line_names_the_site(home, tool):
    """Here without TLS, so that tools that want it named as trusted find that too."""
    made = recipe_at(tool, home / "node", "http://cache.lab:4749")
    assert "cache.lab:4749" in made.lines
    for text in (made.lines, *made.environment.values(), *made.notes):
        assert "127.0.0.1" not in text
    trusting = {
        "pip": "trusted-host = cache.lab", "yarn-berry": '- "cache.lab"',
        "pdm": "verify_ssl = false", "pipenv": "PIP_TRUSTED_HOST=cache.lab",
    }  # fmt: skip
    assert trusting.get(tool, "") in made.lines
    secure = recipe_at(tool, home / "node", "https://cache.lab")
    assert trusting.get(tool, "trusted") not in secure.lines


def test_permissions_are_kept(home):
    """An .npmrc may hold a token."""
    made = recipe("npm", home / "node", WEB)
    made.file.write_text("//old.test/:_authToken=secret\n")
    made.file.chmod(0o600)
    made.write()
    assert made.file.stat().st_mode & 0o777 == 0o600
    assert "secret" in made.file.read_text()
