"""What the tools' own configuration says: which index, which password, which file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from node.errors import NodeError
from node.gateway.ecosystem import Ecosystem
from node.gateway.ecosystems import ecosystems, recipe, tools
from node.gateway.netrc_file import authorization_for
from node.gateway.npm import configured as npm
from node.gateway.python import configured as python
from node.settings import ECOSYSTEMS

WEB = "127.0.0.1:4748"
GATEWAY = f"http://{WEB}/pypi/simple"
OLD = "https://old.test/simple"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Give each test a user's home of its own, without a configuration."""
    for name in list(os.environ):
        if name.lower().startswith(("pip_", "uv_", "npm_config_")):
            monkeypatch.delenv(name)
    for name in ("OPAMROOT", "CARGO_HOME", "XDG_CONFIG_HOME", "NETRC", "VIRTUAL_ENV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(python.sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    return tmp_path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


# --- ecosystems ----------------------------------------------------------------------


def test_every_ecosystem_is_a_folder_with_an_ecosystem():
    """A new one needs its folder and one line in the settings."""
    assert list(ecosystems()) == list(ECOSYSTEMS)
    for name, one in ecosystems().items():
        assert isinstance(one, Ecosystem)
        assert one.name == name
    assert set(tools()) == {
        "pip", "uv", "poetry", "pdm", "pipenv", "npm", "pnpm", "yarn", "yarn-berry",
        "bun", "cargo", "opam", "apt",
    }  # fmt: skip


# --- pip and uv ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (f"[global]\nindex-url = {OLD}\n", OLD),
        (f"[global]\nindex_url: {OLD}\n", OLD),
        (f"[global]\nIndex-Url={OLD}\n", OLD),
        (f"[global]\n--index-url = {OLD}\n", OLD),
        (f"[global]\nindex-url =\n    {OLD}\n", OLD),
        (f"[install]\nindex-url = {OLD}\n", OLD),
        (f"[download]\nindex-url = {OLD}\n", OLD),
        (f"[global]\nindex-url = http://x.test\n[install]\nindex-url = {OLD}\n", OLD),
        (f"[freeze]\nindex-url = {OLD}\n", python.PIP_DEFAULT),
        (f"# index-url = {OLD}\n[global]\ntimeout = 5\n", python.PIP_DEFAULT),
        ("", python.PIP_DEFAULT),
        (f"[global]\nindex-url = {GATEWAY}\n", python.PIP_DEFAULT),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_index_that_pip_uses(home, text, url, end):
    put(home / ".config/pip/pip.conf", text.replace("\n", end))
    assert python.index_in_use(home / "node") == url


def test_variables_count_over_files(home, monkeypatch):
    put(home / ".config/pip/pip.conf", "[global]\nindex-url = https://file.test\n")
    monkeypatch.setenv("PIP_INDEX_URL", OLD)
    assert python.index_in_use(home / "node") == OLD


def test_a_named_file_counts_over_the_others(home, monkeypatch):
    put(home / "xdg/pip/pip.conf", "[global]\nindex-url = https://machine.test\n")
    named = put(home / "named.conf", f"[global]\nindex-url = {OLD}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(named))
    assert python.index_in_use(home / "node") == OLD
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    assert python.index_in_use(home / "node") == python.PIP_DEFAULT


@pytest.mark.parametrize(
    "text",
    [
        f'[[index]]\nurl = "{OLD}"\ndefault = true\n',
        f'index-url = "{OLD}"\n',
        f'[pip]\nindex-url = "{OLD}"\n',
    ],
)
def test_the_index_that_uv_uses(home, text):
    put(home / ".config/uv/uv.toml", text)
    assert python.index_in_use(home / "node") == OLD


@pytest.mark.parametrize(
    "text",
    [
        f"[global]\nindex_url = {OLD}\n",
        f"[global]\r\nIndex-Url = {OLD}\r\ntimeout = 5\r\n",
        f"[install]\nindex-url = {OLD}",
        f"[global]\nindex-url =\n    {OLD}\nuser = no\n",
        "[global]",
        "",
    ],
)
def test_connecting_pip_leaves_a_file_that_pip_can_read(home, text):
    """With one index-url; what it said before is asked by the node; all comes back."""
    file = put(home / ".config/pip/pip.conf", text)
    before = file.read_bytes()
    made = recipe("pip", home / "node", WEB)
    made.write()
    made.write()
    written = file.read_bytes().decode("utf-8-sig")
    assert [one.value for one in python.index_options(written)] == [GATEWAY]
    if OLD in text:
        assert python.index_in_use(home / "node") == OLD
    assert made.undo()
    assert file.read_bytes() == before


def test_two_indexes_of_pip_are_refused(home):
    text = f"[install]\nindex-url = {OLD}\n[download]\nindex-url = https://b.test\n"
    file = put(home / ".config/pip/pip.conf", text)
    with pytest.raises(NodeError, match="different indexes"):
        recipe("pip", home / "node", WEB).write()
    assert file.read_text() == text


# --- npm -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "url", "authorization"),
    [
        ("registry=https://r.test/", "https://r.test/", ""),
        ('registry = "https://r.test/"', "https://r.test/", ""),
        (
            "registry=https://r.test/\n//r.test/:_authToken=tok",
            "https://r.test/",
            "Bearer tok",
        ),
        (
            "registry=https://r.test/npm/x/\n//r.test/npm/:_authToken=tok",
            "https://r.test/npm/x/",
            "Bearer tok",
        ),
        (
            "registry=https://r.test/\n//other.test/:_authToken=tok",
            "https://r.test/",
            "",
        ),
        (
            "registry=https://r.test/\n//r.test/:_authToken=${TOKEN}",
            "https://r.test/",
            "Bearer from-env",
        ),
        (
            "registry=https://r.test/\n//r.test/:_auth=dTpw",
            "https://r.test/",
            "Basic dTpw",
        ),
        (
            "registry=https://r.test/\n//r.test/:username=u\n//r.test/:_password=cA==",
            "https://r.test/",
            "Basic dTpw",
        ),
        ("", npm.DEFAULT, ""),
    ],
)
def test_the_registry_that_npm_uses(home, monkeypatch, text, url, authorization):
    monkeypatch.setenv("TOKEN", "from-env")
    put(home / ".npmrc", text + "\n")
    found = npm.registry(home / "node", "")
    assert (found.url, found.authorization) == (url, authorization)
    assert "tok" not in repr(found)


def test_the_token_of_a_registry_that_was_put_aside_is_used(home):
    text = "registry=https://r.test/\n//r.test/:_authToken=tok\n"
    file = put(home / ".npmrc", text)
    made = recipe("npm", home / "node", WEB)
    made.write()
    assert "tok" in file.read_text()
    found = npm.registry(home / "node", "")
    assert (found.url, found.authorization) == ("https://r.test/", "Bearer tok")
    made.undo()
    assert file.read_text() == text


# --- the others ----------------------------------------------------------------------


def test_a_mirror_of_opam_over_several_lines_is_put_aside(home):
    text = (
        'opam-version: "2.0"\narchive-mirrors: [\n  "https://a.test" # mine\n]\nx: 1\n'
    )
    file = put(home / ".opam/config", text)
    made = recipe("opam", home / "node", WEB)
    made.write()
    active = [one for one in file.read_text().split("\n") if not one.startswith("#")]
    assert active == [
        'opam-version: "2.0"',
        "x: 1",
        f'archive-mirrors: ["http://{WEB}/opam"]',
        "",
    ]
    made.undo()
    assert file.read_text() == text


@pytest.mark.parametrize(
    ("tool", "file", "text"),
    [
        ("cargo", ".cargo/config.toml", 'source.crates-io.replace-with = "mine"\n'),
        ("cargo", ".cargo/config.toml", "[source\n"),
        ("uv", ".config/uv/uv.toml", 'index = [{url = "https://a.test"}]\n'),
    ],
)
def test_a_file_that_would_not_be_valid_is_left_alone(home, tool, file, text):
    path = put(home / file, text)
    with pytest.raises(NodeError, match="by hand"):
        recipe(tool, home / "node", WEB).write()
    assert path.read_text() == text


def test_cargo_reads_its_old_file_first(home):
    put(home / ".cargo/config", "[net]\nretry = 3\n")
    assert recipe("cargo", home / "node", WEB).file == home / ".cargo/config"


def test_a_failed_write_leaves_the_file(home, monkeypatch):
    file = put(home / ".npmrc", "fund=false\n")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NodeError, match="No space"):
        recipe("npm", home / "node", WEB).write()
    assert file.read_text() == "fund=false\n"
    assert [one.name for one in home.iterdir() if one.is_file()] == [".npmrc"]


def test_netrc_names_the_password_of_a_host(home, monkeypatch):
    netrc = put(home / "named", "machine a.test login u password p\n")
    netrc.chmod(0o600)
    environ = {"NETRC": str(netrc)}
    assert authorization_for("https://a.test/x", environ) == "Basic dTpw"
    assert authorization_for("https://b.test/x", environ) == ""
    assert authorization_for("https://v:q@a.test/x", environ) == "Basic djpx"
    assert authorization_for("https://a.test/x", {"NETRC": str(home / "none")}) == ""


def test_what_was_noted_is_json(home):
    recipe("npm", home / "node", WEB).write()
    noted = json.loads((home / "node/connected.json").read_text())
    assert noted["npm"] == {"file": str(home / ".npmrc"), "before": "", "new": True}
