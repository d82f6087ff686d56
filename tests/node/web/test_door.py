"""The web door answers its owner; a command's life is its client's."""

from __future__ import annotations

import asyncio

import pytest

from node.commands import FetchCommand
from tests.node.doors import Node, ask, event, opened, receive, request, send


async def test_a_command_is_decoded_and_answered_as_one_document():
    node = Node()
    async with opened(node) as (address, _):
        answer = await ask(address)
        assert answer.status == 200
        assert answer.document["contacts"] == 3
        await ask(address, path="/api/fetch", body=b'{"targets": ["many"]}')
        assert node.commands[-1] == FetchCommand(targets=["many"])


async def test_status_may_be_read_with_get():
    async with opened() as (address, _):
        assert (await ask(address, "GET", body=b"")).document["artifacts"] == 5


async def test_an_errors_details_and_exit_code_are_in_its_document():
    async with opened() as (address, _):
        answer = await ask(address, path="/api/lookup", body=b'{"digest": "nobody"}')
        assert answer.status == 404
        assert answer.document == {
            "error": "nobody offers it", "exit_code": 4, "providers": []
        }  # fmt: skip


async def test_events_carry_the_newest_progress_and_end_with_the_result():
    async with opened() as (address, _):
        answer = await ask(
            address,
            path="/api/fetch",
            body=b'{"targets": ["many"]}',
            Accept="text/event-stream",
        )
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.events[-1] == {"result": {"artifacts": []}}
        assert answer.events[-2] == {"progress": event(99_999)}
        assert len(answer.events) < 100


async def test_an_error_is_the_last_event():
    async with opened() as (address, _):
        answer = await ask(
            address,
            path="/api/lookup",
            body=b'{"digest": "nobody"}',
            Accept="text/event-stream",
        )
        assert answer.events == [
            {"error": "nobody offers it", "exit_code": 4, "providers": []}
        ]


async def test_an_unforeseen_failure_is_logged_and_not_shown(caplog):
    async with opened() as (address, _):
        answer = await ask(address, path="/api/lookup", body=b'{"digest": "break"}')
    assert answer.status == 500
    assert "secret detail" not in answer.document["error"]
    assert "secret detail" in caplog.text


async def test_a_full_disk_is_a_sentence(caplog):
    async with opened() as (address, _):
        answer = await ask(address, path="/api/lookup", body=b'{"digest": "disk"}')
    assert answer.document["error"] == "No space left on device (/somewhere)"


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_client_that_goes_away_takes_its_command_with_it(accept):
    node = Node()
    async with opened(node) as (address, _):
        raw = request(address, path="/api/fetch", body=b"{}", Accept=accept)
        _, writer = await send(address, raw)
        async with asyncio.timeout(20):
            await node.began.wait()
            writer.close()
            await node.cancelled.wait()


async def test_when_the_door_closes_its_clients_are_told():
    node = Node()
    async with opened(node) as (address, door):
        raw = request(address, path="/api/fetch", Accept="text/event-stream")
        connection = await send(address, raw)
        await node.began.wait()
        answering = asyncio.create_task(receive(*connection))
        await door.stop()
        answer = await answering
    assert answer.events[-1] == {"error": "the node is stopping", "exit_code": 1}


async def test_the_answer_to_leave_arrives_before_the_door_closes():
    async with opened() as (address, door):
        node = door._node
        raw = request(address, path="/api/leave", Accept="text/event-stream")
        answering = asyncio.create_task(receive(*await send(address, raw)))
        async with asyncio.timeout(20):
            await node.began.wait()
        await door.stop()
        assert (await answering).events == [{"result": {}}]


async def test_the_page_says_what_the_node_is_and_loads_nothing():
    async with opened() as (address, _):
        answer = await ask(address, "GET", "/", b"", Authorization=None)
    page = answer.body.decode()
    assert answer.status == 200
    assert "ab" * 32 in page
    assert "&lt;b&gt;&amp;" in page
    assert "<dt>Contacts</dt><dd>3</dd>" in page
    assert "<dt>Artifacts</dt><dd>5</dd>" in page
    assert "src=" not in page
    assert "http" not in page
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
