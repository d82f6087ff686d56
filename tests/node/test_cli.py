"""The command line, as processes that ask a door over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.cli.version import VERSION
from node.commands import Fetch, Follow, List, Lookup, Publish, Share, Updates
from node.errors import NobodyOffersError, UsageError
from node.web import Door

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "token"
DIGEST = "sha256:" + "ab" * 32


class Node:
    """Answers what a test tells it to, and remembers what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer or {}
        self.asked: list[Any] = []
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    def describe(self) -> dict[str, Any]:
        return {"node_id": "ab" * 32, "address": "127.0.0.1:1", "web": "127.0.0.1:2"}

    async def run(self, command, progress):
        self.asked.append(command)
        self.began.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "wait":
            progress({"label": "f", "done": 1, "total": 2, "unit": "bytes"})
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return self.answer


@dataclass
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def environment(home: Path) -> dict[str, str]:
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("CARAVAN")
    }
    return kept | {"CARAVAN_HOME": str(home), "PYTHONPATH": str(ROOT)}


async def begin(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.cli.main", *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(home),
        cwd=home,
    )  # fmt: skip


async def end(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


async def caravan(home: Path, *arguments: str) -> Ended:
    return await end(await begin(home, *arguments))


@asynccontextmanager
async def running(home: Path, node: Any):
    """Open a door on `node`, and write the node.json that leads there."""
    door = Door(node, TOKEN)
    web = await door.start("127.0.0.1:0")
    card = {"web": str(web), "token": TOKEN, "pid": os.getpid()}
    (home / "node.json").write_text(json.dumps(card))
    try:
        yield web
    finally:
        await door.stop()


# --- without a node ------------------------------------------------------------


async def test_the_version_is_that_of_the_package(tmp_path):
    from importlib.metadata import version

    assert version("caravan") == VERSION
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
        (["status", "--nonsense"], "--nonsense"),
        (["fetch"], "TARGET"),
        (["publish", "f", "--name", "n"], "--version"),
        (["follow", "p/n", "--auto", "sometimes"], "sometimes"),
        (["key"], "Missing command"),
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


# --- with a node ---------------------------------------------------------------


async def test_an_answer_is_one_json_document(tmp_path):
    node = Node(
        {"node_id": "ab", "contacts": 3, "bytes_held": 2048, "dht": {"sent": 1}}
    )
    async with running(tmp_path, node):
        for arguments in (["status", "--json"], ["--json", "status"]):
            ended = await caravan(tmp_path, *arguments)
            assert ended.document == node.answer
            assert ended.err == ""
        plain = await caravan(tmp_path, "status")
        assert plain.out == "node id: ab\ncontacts: 3\nheld: 2.0 KiB\n"


async def test_paths_are_sent_as_the_node_can_read_them(tmp_path):
    node = Node({"artifacts": []})
    async with running(tmp_path, node):
        await caravan(tmp_path, "share", "a", "/b")
        await caravan(tmp_path, "fetch", DIGEST, "p.caravan", "-o", "out/")
        await caravan(tmp_path, "fetch", "x/y", "--no-dependencies")
    assert node.asked == [
        Share(files=[f"{tmp_path}/a", "/b"]),
        Fetch(targets=[DIGEST, f"{tmp_path}/p.caravan"], output=f"{tmp_path}/out/"),
        Fetch(targets=["x/y"], dependencies=False),
    ]


async def test_options_become_the_fields_of_commands(tmp_path):
    node = Node({"error": "never read"})
    async with running(tmp_path, node):
        await caravan(
            tmp_path, "publish", "/f", "--name", "n", "--version", "1", "--depends",
            "d.caravan", "--depends", DIGEST, "--urgency", "security", "--note", "why",
            "--key", "work", "--json",
        )  # fmt: skip
        await caravan(
            tmp_path, "follow", "p/n", "--auto", "all", "--as", "me", "--json"
        )
        await caravan(tmp_path, "updates", "--apply", "--json")
        await caravan(tmp_path, "list", "--json")
    assert node.asked == [
        Publish(
            files=["/f"], name="n", version="1",
            depends=[f"{tmp_path}/d.caravan", DIGEST],
            urgency="security", note="why", key="work",
        ),
        Follow(target="p/n", auto="all", nickname="me"),
        Updates(apply=True),
        List(),
    ]  # fmt: skip


async def test_in_a_pipe_columns_are_separated_by_tabs_without_colour(tmp_path):
    artifact = {
        "digest": DIGEST, "size": 1536, "path": "/p", "seconds": 0.25,
        "sources": [{"address": "127.0.0.1:1", "bytes": 1536}],
    }  # fmt: skip
    held = {**artifact, "sources": []}
    async with running(tmp_path, Node({"artifacts": [artifact, held]})):
        ended = await caravan(tmp_path, "fetch", DIGEST)
    assert ended.out == (
        f"{DIGEST}\t1.5 KiB\t1 peer in 0.25 s\t/p\n"
        f"{DIGEST}\t1.5 KiB\theld already\t/p\n"
    )
    assert ended.err == ""


async def test_control_characters_of_others_never_reach_the_terminal(tmp_path):
    update = {
        "name": "n\x1b[2J", "held": None, "newest": "2", "urgency": "security",
        "publisher": "p", "note": "a\nb\x07\u202e", "digest": DIGEST,
    }  # fmt: skip
    async with running(tmp_path, Node({"updates": [update]})):
        ended = await caravan(tmp_path, "updates")
    assert "\x1b" not in ended.out
    assert "\x07" not in ended.out
    assert "\u202e" not in ended.out
    assert ended.out.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no digest: forms that are read are ..."), 2),
        (NobodyOffersError("nobody offers it", details={"providers": []}), 4),
        (RuntimeError("unforeseen"), 1),
    ],
)
async def test_an_error_of_the_node_is_a_sentence_and_its_exit_code(
    tmp_path, error, code
):
    async with running(tmp_path, Node(error)):
        plain = await caravan(tmp_path, "lookup", DIGEST)
        assert plain.code == code
        assert plain.out == ""
        assert plain.err.startswith("caravan: ")
        ended = await caravan(tmp_path, "lookup", DIGEST, "--json")
    assert ended.code == code
    assert ended.document["exit_code"] == code
    assert ended.document["error"]
    if code == 4:
        assert ended.document["providers"] == []


async def test_ctrl_c_cancels_the_command_in_the_node(tmp_path):
    node = Node("wait")
    async with running(tmp_path, node):
        process = await begin(tmp_path, "fetch", DIGEST, "--json")
        async with asyncio.timeout(30):
            await node.began.wait()
            process.send_signal(signal.SIGINT)
            ended = await end(process)
            await node.cancelled.wait()
    assert ended.code == 130
    assert ended.document == {"error": "interrupted", "exit_code": 130}


async def test_a_node_that_dies_under_a_command_is_one_sentence(tmp_path):
    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    card = {"web": f"127.0.0.1:{port}", "token": "t", "pid": 1}
    (tmp_path / "node.json").write_text(json.dumps(card))
    ended = await caravan(tmp_path, "status")
    server.close()
    assert ended.code == 1
    assert "went away" in ended.err


async def test_leave_waits_until_the_process_is_gone(tmp_path):
    node = Node({"left": True})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stdin.read()",
        stdin=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with running(tmp_path, node) as web:
        card = {"web": str(web), "token": TOKEN, "pid": process.pid}
        (tmp_path / "node.json").write_text(json.dumps(card))
        leaving = await begin(tmp_path, "leave", "--json")
        async with asyncio.timeout(30):
            await node.began.wait()
            assert leaving.returncode is None
            process.stdin.close()
            ended = await end(leaving)
            await process.wait()
    assert ended.document == {"left": True}
    assert ended.code == 0


async def test_a_reader_that_has_enough_is_no_failure_with_words(tmp_path):
    rows = [{"digest": DIGEST, "size": 1, "file": ""}] * 20_000
    async with running(tmp_path, Node({"artifacts": rows})):
        process = await begin(tmp_path, "list")
        await process.stdout.readline()
        process.stdout._transport.close()
        async with asyncio.timeout(30):
            err = await process.stderr.read()
            await process.wait()
    assert b"Traceback" not in err
    assert b"should not have" not in err


async def test_a_lookup_lists_providers_on_stdout_and_words_on_stderr(tmp_path):
    document = {
        "digest": DIGEST, "seconds": 0.1, "requests": 7,
        "providers": [{"node_id": "ab", "address": "127.0.0.1:1"}],
    }  # fmt: skip
    node = Node(document)
    async with running(tmp_path, node):
        ended = await caravan(tmp_path, "lookup", DIGEST)
    assert ended.out == "ab\t127.0.0.1:1\n"
    assert "7 requests" in ended.err
    assert node.asked == [Lookup(digest=DIGEST)]
