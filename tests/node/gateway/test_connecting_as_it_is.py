"""What `connect` makes of files as people have them, and `--fallback`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from node.errors import NodeError
from node.gateway.ecosystems import fallback_at, recipe, recipe_at
from node.gateway.python.configured import index_in_use, uv_default
from node.runner.uv_project import without_node

WEB = "127.0.0.1:4748"
CORP = "https://corp.test/simple"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home without any configuration."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE", "NPM_CONFIG_USERCONFIG"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path))
    return tmp_path


# --- uv -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f'[[index]]\nname = "corp"\nurl = "{CORP}"\ndefault = true\n',
        f'index-url = "{CORP}"\npreview = true\n',
        f'[pip]\nsystem = true\nindex-url = "{CORP}" # the company\n',
        f'# c\r\n[[index]] # x\r\nurl = "{CORP}"\r\ndefault = true\r\n\r\n[pip]\r\n',
        f'[[index]]\nurl = "http://o.test"\n[[index]]\ndefault = true\nurl = "{CORP}"',
        f'\ufeffindex-url = "{CORP}"\n',
    ],
)
def test_the_default_index_of_uv_is_put_aside_and_asked(home, text):
    file = home / "UV_CONFIG_FILE"
    file.write_bytes(text.encode())
    for _ in range(2):
        recipe("uv", home, WEB).write()
        written = file.read_text("utf-8-sig")
        assert uv_default(written) == f"http://{WEB}/pypi/simple"
        others = [one["url"] for one in tomllib.loads(written)["index"]]
        assert CORP not in others
        assert index_in_use(home) == CORP
        assert without_node({}, {})["UV_DEFAULT_INDEX"] == CORP
    assert recipe("uv", home, WEB).undo()
    assert file.read_bytes() == text.encode()
    assert index_in_use(home) == CORP


@pytest.mark.parametrize(
    "text",
    [
        f'index = [{{url = "{CORP}", default = true}}]\n',
        f'"index-url" = "{CORP}"\n',
        f'pip = {{index-url = "{CORP}"}}\n',
    ],
)
def test_a_form_that_cannot_be_put_aside_is_refused_without_its_password(home, text):
    file = home / "UV_CONFIG_FILE"
    file.write_text(text.replace("https://", "https://me:secret@"))
    before = file.read_bytes()
    with pytest.raises(NodeError) as refused:
        recipe("uv", home, WEB).write()
    assert "secret" not in str(refused.value)
    assert file.read_bytes() == before


def test_credentials_of_uv_by_the_name_of_an_index(home, monkeypatch):
    monkeypatch.setenv("UV_INDEX_MY_CORP_USERNAME", "me")
    monkeypatch.setenv("UV_INDEX_MY_CORP_PASSWORD", "s@c")
    text = f'[[index]]\nname = "my-corp"\nurl = "{CORP}"\ndefault = true\n'
    assert uv_default(text) == "https://me:s%40c@corp.test/simple"


@pytest.mark.parametrize("said", ["https://x.test/s?a=b", "corp=https://x.test/s?a=b"])
def test_an_index_of_uv_may_have_a_name_or_a_query(home, monkeypatch, said):
    monkeypatch.setenv("UV_DEFAULT_INDEX", said)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert index_in_use(home) == "https://x.test/s?a=b"


# --- pip, npm, cargo ----------------------------------------------------------------


def test_the_other_name_of_an_index_of_pip(home):
    file = home / "PIP_CONFIG_FILE"
    file.write_text(f"[global]\npypi-url = {CORP}\n")
    recipe("pip", home, WEB).write()
    assert index_in_use(home) == CORP
    assert "put aside: pypi-url" in file.read_text()


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[global]\n", b"[global]\n# \xe9\n"])
def test_what_pip_cannot_read_is_refused(home, content):
    (home / "PIP_CONFIG_FILE").write_bytes(content)
    for made in (recipe("pip", home, WEB), fallback_at("pip", home, f"http://{WEB}")):
        with pytest.raises(NodeError, match="not read it"):
            made.write()


def test_a_byte_order_mark_is_no_fault_to_cargo(home):
    file = home / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf[net]\nretry = 3\n")
    recipe("cargo", home, WEB).write()
    assert "caravan" in tomllib.loads(file.read_text("utf-8-sig"))["source"]
    recipe("cargo", home, WEB).undo()
    assert file.read_bytes() == b"\xef\xbb\xbf[net]\nretry = 3\n"


def test_registries_of_scopes_are_named(home):
    file = home / "NPM_CONFIG_USERCONFIG"
    file.write_text(
        "@corp:registry=https://npm.corp.test/\n//npm.corp.test/:_authToken=secret\n"
    )
    notes = " ".join(recipe("npm", home, WEB).notes)
    assert "npm.corp.test itself for packages of @corp" in notes
    assert "secret" not in notes


# --- --fallback ---------------------------------------------------------------------


def test_pip_asks_the_node_beside_its_index(home):
    file = home / "PIP_CONFIG_FILE"
    text = f"[global]\nindex-url = {CORP}\n"
    file.write_text(text)
    made = fallback_at("pip", home, f"http://{WEB}")
    assert made.goes_on
    made.write()
    written = file.read_text()
    assert f"index-url = {CORP}" in written
    assert f"extra-index-url = http://{WEB}/pypi/simple" in written
    assert index_in_use(home) == CORP
    # The other lines take the place of these, and are taken out as well.
    recipe("pip", home, WEB).write()
    assert "extra-index-url" not in file.read_text()
    assert recipe("pip", home, WEB).undo()
    assert file.read_text() == text


def test_an_extra_index_is_not_overwritten(home):
    (home / "PIP_CONFIG_FILE").write_text(
        "[install]\nextra-index-url = https://x.test\n"
    )
    with pytest.raises(NodeError, match="extra-index-url already"):
        fallback_at("pip", home, f"http://{WEB}").write()


@pytest.mark.parametrize("tool", ["apt", "opam"])
def test_tools_that_go_on_by_themselves_need_no_other_lines(home, tool):
    base = f"http://{WEB}"
    assert fallback_at(tool, home, base).lines == recipe_at(tool, home, base).lines


@pytest.mark.parametrize("tool", ["uv", "poetry", "npm", "cargo", "yarn-berry", "bun"])
def test_a_tool_that_cannot_go_on_is_refused_with_what_can(home, tool):
    with pytest.raises(NodeError, match="caravan run"):
        fallback_at(tool, home, f"http://{WEB}")
