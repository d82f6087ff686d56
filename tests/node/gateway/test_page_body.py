"""Pages whose connection breaks: gone on with where the origin allows it."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading

import pytest

from node.gateway import limits
from node.gateway.origin import BrokenOffError, OriginError, OriginPage
from node.gateway.upstreams import Upstreams
from node.settings import UpstreamSettings
from node.web.gateway.origin_client import HttpOrigin
from node.web.gateway.page_body import PageBody
from tests.node.gateway.test_origin_failures import send, serving

PAGE = json.dumps({"files": list(range(20_000))}).encode()
PACKED = gzip.compress(PAGE)
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
SAME = {"ETag": '"one"'}


def cut(handler, body: bytes, start: int, end: int, **headers: str) -> None:
    """Send a part of an answer, and break the connection."""
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(body) - start))
    if start:
        text = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.send_header("Content-Range", text)
    for name, text in headers.items():
        handler.send_header(name.replace("_", "-"), text)
    handler.end_headers()
    handler.wfile.write(body[start:end])
    handler.wfile.flush()
    threading.Event().wait(0.2)  # until it has been read on the other side
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


async def fetched(url: str, known: OriginPage | None = None) -> OriginPage:
    upstreams = Upstreams({"pypi": UpstreamSettings(url, share=True)})
    upstream = upstreams.get("pypi")
    assert upstream is not None
    async with contextlib.AsyncExitStack() as stack:
        client = HttpOrigin(upstreams)
        stack.push_async_callback(client.close)
        return await client.page(upstream, upstream.url, accept="*/*", known=known)


@pytest.mark.parametrize("body", [PAGE, PACKED])
@pytest.mark.parametrize(
    ("validator", "condition"),
    [({"ETag": '"one"'}, '"one"'), ({"ETag": 'W/"x"', "Last_Modified": DATE}, DATE)],
)
async def test_a_page_that_breaks_off_goes_on_where_it_was(body, validator, condition):
    asked = []
    third = len(body) // 3
    encoding = {"Content_Encoding": "gzip"} if body is PACKED else {}

    def answer(handler, number):
        asked.append((handler.headers["Range"], handler.headers["If-Range"]))
        start = third * (number - 1)
        end = len(body) if number == 3 else start + third
        cut(handler, body, start, end, **validator, **encoding)

    with serving(answer) as url:
        page = await fetched(url)
    assert page.body == PAGE
    assert page.etag == validator.get("ETag", "")
    assert asked == [
        (None, None),
        (f"bytes={third}-", condition),
        (f"bytes={2 * third}-", condition),
    ]


async def test_a_page_that_has_changed_meanwhile_begins_anew():
    """The server sends the whole; nothing of the first answer is in it."""

    def answer(handler, number):
        if number == 1:
            cut(handler, b"x" * 100_000, 0, 50_000, ETag='"old"')
        else:
            send(handler, 200, PACKED, ETag='"new"', Content_Encoding="gzip")

    with serving(answer) as url:
        page = await fetched(url)
    assert (page.body, page.etag) == (PAGE, '"new"')


@pytest.mark.parametrize("validator", [{}, {"ETag": 'W/"weak"'}])
async def test_what_cannot_be_compared_is_not_gone_on_with(validator):
    asked = []

    def answer(handler, number):
        asked.append(number)
        cut(handler, PAGE, 0, 1000, **validator)

    with serving(answer) as url, pytest.raises(BrokenOffError):
        await fetched(url)
    assert asked == [1]


async def test_a_page_that_makes_no_progress_is_given_up(monkeypatch):
    monkeypatch.setattr(limits, "PAGE_ATTEMPTS", 1)
    asked = []

    def answer(handler, number):
        asked.append(number)
        if number == 1:
            cut(handler, PAGE, 0, 1000, **SAME)
        else:
            cut(handler, PAGE, 1000, 1000, **SAME)

    with serving(answer) as url, pytest.raises(BrokenOffError):
        await fetched(url)
    assert len(asked) == 3


async def test_a_passing_failure_in_between_loses_nothing():
    def answer(handler, number):
        if number == 1:
            cut(handler, PAGE, 0, 1000, **SAME)
        elif number == 2:
            send(handler, 503, b"busy", Retry_After="0")
        else:
            cut(handler, PAGE, 1000, len(PAGE), **SAME)

    with serving(answer) as url:
        assert (await fetched(url)).body == PAGE


async def test_another_part_than_was_asked_for_is_refused():
    def answer(handler, number):
        if number == 1:
            cut(handler, PAGE, 0, 1000, **SAME)
        else:
            cut(handler, PAGE, 500, len(PAGE), **SAME)

    with serving(answer) as url, pytest.raises(OriginError, match="another part"):
        await fetched(url)


async def test_a_resumed_page_is_no_longer_than_others(monkeypatch):
    monkeypatch.setattr(limits, "PAGE_BYTES_MAX", 3000)

    def answer(handler, number):
        start = 1000 * (number - 1)
        cut(handler, PAGE, start, start + 1000, **SAME)

    with serving(answer) as url, pytest.raises(OriginError, match="too long"):
        await fetched(url)


def test_a_part_that_nobody_asked_for_is_refused():
    with pytest.raises(OriginError, match="another part"):
        PageBody().begin({"Content-Range": "bytes 0-9/10"}, "", is_part=True)
