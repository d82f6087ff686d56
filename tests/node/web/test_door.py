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


async def test_without_the_cookie_the_page_shows_nothing_of_the_node():
    async with opened() as (address, _):
        answer = await ask(address, "GET", "/", b"", Authorization=None)
    page = answer.body.decode()
    assert answer.status == 200
    assert "caravan open" in page
    assert "ab" * 32 not in page
    assert "http" not in page, "nothing is asked of anybody else"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


async def signed_in(address, door) -> str:
    """Return the cookie of a browser that opened a link."""
    link = door._dashboard.new_link()
    path = "/login/" + link.rpartition("/")[2]
    answer = await ask(address, "GET", path, b"", Authorization=None)
    assert answer.status == 200
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    again = await ask(address, "GET", path, b"", Authorization=None)
    assert again.status == 403, "a link works once"
    return cookie.partition(";")[0]


async def test_a_signed_in_browser_may_use_the_api_from_our_own_page():
    async with opened() as (address, door):
        cookie = await signed_in(address, door)
        own = {"Authorization": None, "Cookie": cookie, "Origin": f"http://{address}"}
        answer = await ask(address, "POST", "/api/status", b"{}", **own)
        assert answer.status == 200
        for changes, status in [
            ({"Origin": "http://evil.test"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec_Fetch_Site": "cross-site"}, 403),
            ({"Sec_Fetch_Site": "same-site"}, 403),
            ({"Cookie": "caravan_session=made-up"}, 403),
            ({"Cookie": "caravan_session=made-up", "Origin": None}, 401),
        ]:
            headers = {**own, **changes}
            refused = await ask(address, "POST", "/api/status", b"{}", **headers)
            assert refused.status == status, changes


async def test_only_a_signed_in_browser_gets_live_figures_or_uploads():
    async with opened() as (address, _):
        for method, path in [("GET", "/api/live"), ("POST", "/api/upload?name=a")]:
            answer = await ask(address, method, path, b"{}")
            assert answer.status == 401, path
