"""The command line, as processes that ask a door over real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest

from node.commands import Fetch, Follow, List, Lookup, Publish, Share, Updates
from node.errors import NobodyOffersError, UsageError
from tests.node.cli.terminals import DIGEST, TOKEN, Node, begin, caravan, end, running


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
