"""The command line where no node is running."""

from __future__ import annotations

import json
import socket

import pytest

from node.version import VERSION
from tests.node.cli.terminals import DIGEST, Node, caravan, running


async def test_the_version_is_that_of_the_package(tmp_path):
    from importlib.metadata import version

    assert version("caravan-node") == VERSION
    assert (await caravan(tmp_path, "--version")).out == f"caravan {VERSION}\n"
    assert (await caravan(tmp_path, "--version", "--json")).document == {
        "version": VERSION
    }


async def test_without_a_command_the_help_is_shown(tmp_path):
    ended = await caravan(tmp_path)
    assert ended.code == 0
    assert "caravan COMMAND --help" in ended.out
    for name in ("join", "fetch", "publish", "updates", "network"):
        assert f"  {name} " in ended.out


async def test_every_command_has_help_and_knows_json():
    from click.testing import CliRunner

    from node.cli.run import caravan as group

    def walk(command, path):
        names = command.list_commands(None) if hasattr(command, "list_commands") else []
        for name in names:
            yield from walk(command.get_command(None, name), [*path, name])
        yield path

    for path in walk(group, []):
        result = CliRunner().invoke(group, [*path, "--help"])
        assert result.exit_code == 0, result.output
        assert "--json" in result.output
        assert "--home DIR" in result.output


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["status", "--json"], ["--json", "lookup", DIGEST], ["leave"]],
)
async def test_without_a_node_the_exit_code_is_3(tmp_path, arguments):
    ended = await caravan(tmp_path, *arguments)
    assert ended.code == 3
    assert "caravan join --detach" in ended.err
    if "--json" in arguments:
        assert ended.document["exit_code"] == 3
    else:
        assert ended.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "no command 'nonsense'"),
        (["statsu"], "did you mean 'status'"),
        (["remove"], "did you mean 'unshare'"),
        (["install", "x"], "did you mean 'fetch'"),
        (["status", "--nonsense"], "no such option '--nonsense'"),
        (["status", "--jsno"], "(did you mean '--json'?)"),
        (["log", "-n", "x"], "--lines: expected a whole number from 0 to 1000000"),
        (["demo", "--nodes", "2"], "from 8 to 64, not '2'"),
        (["clean", "--days", "nan"], "--days: expected a number, 0 or more"),
        (["connect"], "expected TOOL, one of pip, "),
        (["pin"], "expected TARGET; see"),
        (["fetch"], "TARGET"),
        (["publish", "f", "--name", "n"], "--version"),
        (["follow", "p/n", "--auto", "sometimes"], "sometimes"),
        (["key"], "missing command"),
        (["network", "new", "../x"], "cannot name a network"),
        (["join", "--web", "0.0.0.0:0"], "can be reached from other machines"),
        (["join", "nonsense"], "nonsense"),
        (["join", "--secret-file", "x"], "--network"),
    ],
)
async def test_wrong_usage_is_one_sentence_and_exit_code_2(tmp_path, arguments, words):
    ended = await caravan(tmp_path, *arguments, "--json")
    assert ended.code == 2
    assert words in ended.err
    assert ended.err.startswith("caravan: ")
    assert ended.err.count("\n") == 1
    assert ended.document["exit_code"] == 2


async def test_an_invalid_config_is_one_sentence_and_exit_code_1(tmp_path):
    (tmp_path / "config.toml").write_text("web = 3\n")
    ended = await caravan(tmp_path, "join", "--json")
    assert ended.code == 1
    assert ended.err.startswith(f"caravan: {tmp_path / 'config.toml'}: web: ")
    assert ended.document["exit_code"] == 1


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"web": "x"}', "\x00", '"a"'])
async def test_a_damaged_node_json_is_one_sentence(tmp_path, content):
    (tmp_path / "node.json").write_text(content)
    ended = await caravan(tmp_path, "status")
    assert ended.code == 1
    assert "is not what a node writes" in ended.err


async def test_a_node_that_was_killed_counts_as_not_running(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    card = {"web": f"127.0.0.1:{port}", "token": "t", "pid": 1}
    (tmp_path / "node.json").write_text(json.dumps(card))
    assert (await caravan(tmp_path, "status")).code == 3


async def test_another_program_at_the_nodes_port_counts_as_not_running(tmp_path):
    async with running(tmp_path, Node()) as web:
        card = {"web": str(web), "token": "of the node before", "pid": 1}
        (tmp_path / "node.json").write_text(json.dumps(card))
        assert (await caravan(tmp_path, "status")).code == 3


async def test_keys_are_made_shown_and_exported(tmp_path):
    made = (await caravan(tmp_path, "key", "new", "--json")).document
    assert len(made["publisher"]) == 52
    shown = (await caravan(tmp_path, "key", "show", "--json")).document
    assert shown["publisher"] == made["publisher"]
    assert [one["name"] for one in shown["keys"]] == ["default"]
    exported = (await caravan(tmp_path, "key", "export", "--json")).document
    assert exported["publisher"] == made["publisher"]
    plain = await caravan(tmp_path, "key", "export", "default")
    assert plain.out == exported["private_key"]
    copy = tmp_path / "copy.key"
    assert (await caravan(tmp_path, "key", "export", "-o", str(copy))).code == 0
    assert copy.read_text() == exported["private_key"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (await caravan(tmp_path, "key", "export", "-o", str(copy))).code == 1
    assert (await caravan(tmp_path, "key", "new")).code == 1
    assert (await caravan(tmp_path, "key", "show", "other")).code == 1


async def test_networks_are_made_and_listed(tmp_path):
    made = (await caravan(tmp_path, "network", "new", "lab", "--json")).document
    assert made["network"] == "lab"
    assert made["secret_file"] == str(tmp_path / "networks" / "lab.secret")
    listed = (await caravan(tmp_path, "network", "list", "--json")).document
    assert listed == {"networks": [made]}


async def test_the_home_option_is_read_before_and_after_the_command(tmp_path):
    for place in (
        ["--home", "h", "network", "list"],
        ["network", "list", "--home", "h"],
    ):
        await caravan(tmp_path, "--home", "h", "network", "new", "lab")
        assert (await caravan(tmp_path, *place)).out.startswith("lab\t")


async def test_a_site_is_named_by_the_lines_for_its_clients(tmp_path):
    url = "http://cache.lab:4749/token/0123456789abcdef"
    done = await caravan(tmp_path, "connect", "pip", "--site", f"{url}/", "--json")
    assert done.document["lines"] == (
        f"[global]\nindex-url = {url}/pypi/simple\ntrusted-host = cache.lab"
    )
    assert done.document["environment"]["PIP_TRUSTED_HOST"] == "cache.lab"
    assert "--undo" not in done.document["if_down"]
    words = await caravan(tmp_path, "connect", "npm", "--site", url)
    assert f"registry={url}/npm/" in words.out
    assert f"npm_config_registry={url}/npm/" in words.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("cache.lab:4749",), ("ftp://cache.lab",), ("http://",), ("http://a b",),
        ("http://a/?x",), ("http://a:99999",), ("http://a'",), ("http://a\n",),
        ("http://a", "--write"), ("http://a", "--undo"),
    ],
)  # fmt: skip
async def test_what_is_no_site_door_is_refused(tmp_path, arguments):
    done = await caravan(tmp_path, "connect", "pip", "--site", *arguments, "--json")
    assert done.code == 2
    assert "expected" in done.document["error"]
