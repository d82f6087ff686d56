"""The command line, as processes that ask a door over real sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from node.commands import (
    FetchCommand,
    FollowCommand,
    ListCommand,
    LookupCommand,
    PublishCommand,
    ShareCommand,
    UpdatesCommand,
)
from node.errors import NobodyOffersError, UsageError
from node.local_socket import listen_local
from node.results import (
    DoubtEntry,
    FetchedArtifact,
    FetchResult,
    HeldArtifact,
    LimitsStatus,
    ListResult,
    LookupResult,
    ProviderEntry,
    SourceEntry,
    StatusResult,
    TrafficTotals,
    TransferStatus,
    UpdateEntry,
    UpdatesResult,
)
from tests.node.cli.terminals import DIGEST, TOKEN, Node, begin, caravan, end, running
from transfer import LeecherStats, SeederStats


async def test_an_answer_is_one_json_document(tmp_path):
    seeder = SeederStats(
        connections=1, uploads=1, chunks_sent=2, bytes_sent=3, refused={}
    )
    status = StatusResult(
        node_id="ab",
        address="192.0.2.1:4747",
        web="127.0.0.1:4748",
        site=None,
        contacts=3,
        artifacts=4,
        bytes_held=2048,
        downloads=0,
        uploads=1,
        transfer=TransferStatus(
            seeder=seeder, leecher=LeecherStats(downloads=0, bytes_received=0)
        ),
        version="0.2.0",
        network="caravan",
        home="/home/you",
        log="/home/you/node.log",
        uptime_seconds=61.0,
        totals=TrafficTotals(sent=1, received=2, sent_ever=3, received_ever=4),
        limits=LimitsStatus(
            store_bytes=None,
            upload_bytes_per_second=1024,
            download_bytes_per_second=None,
        ),
        dht={"sent": 1},
    )
    node = Node(status)
    async with running(tmp_path, node):
        for arguments in (["status", "--json"], ["--json", "status"]):
            ended = await caravan(tmp_path, *arguments)
            assert ended.document == to_builtins(status)
            assert ended.err == ""
        plain = await caravan(tmp_path, "status")
        assert "node id: ab\nnetwork: caravan\naddress: 192.0.2.1:4747\n" in plain.out
        assert "uptime: 1 min\n" in plain.out
        assert "limits: upload 1.0 KiB/s\n" in plain.out
        assert "contacts: 3\nreach: unknown\nartifacts: 4\nheld: 2.0 KiB\n" in plain.out


async def test_paths_are_sent_as_the_node_can_read_them(tmp_path):
    node = Node({"artifacts": []})
    async with running(tmp_path, node):
        await caravan(tmp_path, "share", "a", "/b")
        await caravan(tmp_path, "fetch", DIGEST, "p.caravan", "-o", "out/")
        await caravan(tmp_path, "fetch", "x/y", "--no-dependencies")
    assert node.asked == [
        ShareCommand(files=[f"{tmp_path}/a", "/b"]),
        FetchCommand(
            targets=[DIGEST, f"{tmp_path}/p.caravan"], output=f"{tmp_path}/out/"
        ),
        FetchCommand(targets=["x/y"], dependencies=False),
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
        PublishCommand(
            files=["/f"], name="n", version="1",
            depends=[f"{tmp_path}/d.caravan", DIGEST],
            urgency="security", note="why", key="work",
        ),
        FollowCommand(target="p/n", auto="all", nickname="me"),
        UpdatesCommand(apply=True),
        ListCommand(),
    ]  # fmt: skip


async def test_in_a_pipe_columns_are_separated_by_tabs_without_colour(tmp_path):
    artifact = FetchedArtifact(
        digest=DIGEST,
        file="",
        size=1536,
        path="/p",
        seconds=0.25,
        sources=[SourceEntry(address="127.0.0.1:1", bytes=1536)],
    )
    held = replace(artifact, sources=[])
    async with running(tmp_path, Node(FetchResult(artifacts=[artifact, held]))):
        ended = await caravan(tmp_path, "fetch", DIGEST)
    assert ended.out == (
        f"{DIGEST}\t1.5 KiB\t1 peer in 0.25 s\t/p\n"
        f"{DIGEST}\t1.5 KiB\theld already\t/p\n"
    )
    assert ended.err == ""


async def test_control_characters_of_others_never_reach_the_terminal(tmp_path):
    update = UpdateEntry(
        name="n\x1b[2J",
        held=None,
        newest="2",
        urgency="security",
        publisher="p",
        note="a\nb\x07\u202e",
        digest=DIGEST,
        confirmed=0,
        confirmed_at=0,
    )
    doubt = DoubtEntry(publisher="p", name="n\x1b[2J", why="\x07", id="i")
    found = UpdatesResult(updates=[update], applied=False, doubts=[doubt])
    async with running(tmp_path, Node(found)):
        ended = await caravan(tmp_path, "updates")
    assert "\x1b" not in ended.out
    assert "\x07" not in ended.out
    assert "\u202e" not in ended.out
    assert "\x1b" not in ended.err
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

    server = await asyncio.start_unix_server(hang_up, sock=listen_local(tmp_path))
    card = {"web": "127.0.0.1:1", "token": "t", "pid": 1}
    (tmp_path / "node.json").write_text(json.dumps(card))
    ended = await caravan(tmp_path, "status")
    server.close()
    assert ended.code == 1
    assert "the node stopped" in ended.err


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
    row = HeldArtifact(
        digest=DIGEST,
        size=1,
        file="",
        kind="artifact",
        packages=[],
        pinned=False,
        added_at=0,
    )
    held = ListResult(artifacts=[row] * 20_000, packages=[], count=1, bytes_held=1)
    async with running(tmp_path, Node(held)):
        process = await begin(tmp_path, "list")
        await process.stdout.readline()
        process.stdout._transport.close()
        async with asyncio.timeout(30):
            err = await process.stderr.read()
            await process.wait()
    assert b"Traceback" not in err
    assert b"internal error" not in err


async def test_a_lookup_lists_providers_on_stdout_and_words_on_stderr(tmp_path):
    provider = ProviderEntry(node_id="ab", address="127.0.0.1:1", reach="punched")
    node = Node(
        LookupResult(digest=DIGEST, providers=[provider], seconds=0.1, requests=7)
    )
    async with running(tmp_path, node):
        ended = await caravan(tmp_path, "lookup", DIGEST)
    assert ended.out == "ab\t127.0.0.1:1\tpunched\n"
    assert "7 requests" in ended.err
    assert node.asked == [LookupCommand(digest=DIGEST)]
