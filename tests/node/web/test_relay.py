"""The relay of `caravan run`: a node that stops is replaced, also inside a file."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import pytest
from aiohttp import ClientSession, web
from yarl import URL

from node.web.headers import BASE_HEADER, SOURCE_HEADER
from node.web.relay import NodeGoneError, Relay

BODY = bytes(range(256)) * 4096
ETAG = f'"sha256-{hashlib.sha256(BODY).hexdigest()}"'


class Stub:
    """A node's web door that breaks off after `breaks_after` bytes of a body."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.breaks_after = breaks_after
        self.asked: list[web.Request] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.path == "/missing":
            return web.json_response({"error": "no"}, status=404)
        span = request.http_range
        start, stop = span.start or 0, span.stop or len(BODY)
        part = BODY[start:stop]
        response = web.StreamResponse(status=206 if "Range" in request.headers else 200)
        response.headers.update({"ETag": ETAG, SOURCE_HEADER: "peers"})
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(BODY)}"
        response.content_length = len(part)
        await response.prepare(request)
        if self.breaks_after is not None:
            await response.write(part[: self.breaks_after])
            await asyncio.sleep(0.05)
            request.transport.abort()
            return response
        await response.write(part)
        return response


@contextlib.asynccontextmanager
async def served(*stubs: Stub):
    """Give a relay whose nodes are `stubs`, each used until it has failed."""
    async with contextlib.AsyncExitStack() as stack:
        places = []
        for stub in stubs:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", stub.answer)
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            places.append(f"127.0.0.1:{runner.addresses[0][1]}")
        left = iter(places)
        now = [next(left, "")]

        async def find(failed: str | None) -> str:
            if failed == now[0]:
                now[0] = next(left, "")
            if not now[0]:
                raise NodeGoneError("no node is left")
            return now[0]

        relay = Relay(find)
        base = await relay.start()
        stack.push_async_callback(relay.stop)
        session = await stack.enter_async_context(ClientSession())
        yield relay, base, session, now


async def test_a_file_passes_and_is_counted():
    async with served(Stub()) as (relay, base, session, _):
        async with session.get(f"{base}/file") as answer:
            assert await answer.read() == BODY
            assert answer.headers["ETag"] == ETAG
        assert (relay.totals.files, relay.totals.bytes) == (1, len(BODY))
        assert relay.totals.by_source == {"peers": len(BODY)}


async def test_the_node_learns_where_the_client_asked():
    stub, false_base = Stub(), {BASE_HEADER: "no"}
    async with served(stub) as (_, base, session, _):
        url = URL(f"{base}/a%2Fb?x=%20", encoded=True)
        answer = await session.get(url, headers=false_base)
        answer.close()
    (asked,) = stub.asked
    assert asked.headers.getall(BASE_HEADER) == [base]
    assert asked.raw_path == "/a%2Fb?x=%20"


@pytest.mark.parametrize("asked", [None, "bytes=100-900000"])
async def test_a_file_goes_on_where_the_node_broke_off(asked):
    """The same node may answer again, or another one."""
    first, second = Stub(breaks_after=300_000), Stub()
    headers = {"Range": asked} if asked else {}
    async with served(first, second) as (_, base, session, _):
        async with session.get(f"{base}/file", headers=headers) as answer:
            got = b""
            async for block in answer.content.iter_any():
                got += block
                first.breaks_after = None if len(first.asked) > 1 else 300_000
        assert got == (BODY[100:900_001] if asked else BODY)
    resumed = [*first.asked, *second.asked][1]
    assert resumed.headers["Range"].startswith(
        "bytes=300100-" if asked else "bytes=300000-"
    )
    assert resumed.headers["If-Range"] == ETAG


async def test_a_node_that_is_gone_is_replaced_by_another():
    async with served(Stub(), Stub()) as (relay, base, session, now):
        now[0] = "127.0.0.1:1"  # nothing listens there
        async with session.get(f"{base}/missing") as answer:
            assert answer.status == 404
        assert relay.totals.files == 0
        assert not relay.lost


async def test_without_any_node_the_answer_is_502():
    async with served() as (relay, base, session, _):
        async with session.get(f"{base}/file") as answer:
            assert answer.status == 502
        assert relay.lost


async def test_a_body_that_cannot_be_completed_is_cut():
    """A client must see that the file is not whole."""
    stub = Stub(breaks_after=1000)
    async with served(stub) as (relay, base, session, _):
        with pytest.raises(Exception, match=r"payload|Connection|closed"):
            async with session.get(f"{base}/file") as answer:
                await answer.read()
        assert relay.totals.files == 0
