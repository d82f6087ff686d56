"""What origins send in real life: redirects, cut and wrong answers, refusals."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
import threading

import pytest

from node.gateway import limits
from node.gateway.origin import (
    BusyError,
    NotAllowedError,
    OriginError,
    RelayRequest,
)
from node.gateway.resolver import MissError
from node.gateway.upstream import Upstream, without_user
from node.gateway.upstreams import Upstreams
from node.settings import UpstreamSettings
from node.web.gateway.origin_client import HttpOrigin
from tests.node.gateway.door import opened_in
from tests.node.gateway.origins import DATA, asking, resolved, send, serving

CUT_AT = 100_000


def cut(handler, body=DATA, start=0, end=CUT_AT):
    """Send a part of what is promised, and end the connection."""
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(body) - start))
    if start:
        text = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.send_header("Content-Range", text)
    handler.end_headers()
    handler.wfile.write(body[start:end])
    handler.wfile.flush()
    threading.Event().wait(0.2)  # until it has been read on the other side
    handler.close_connection = True


def part(handler, start, end=300_000):
    text = f"bytes {start}-{end - 1}/{len(DATA)}"
    send(handler, 206, DATA[start:end], Content_Range=text)


@pytest.mark.parametrize(
    "target",
    [
        "/cache/https://files.test/toy.whl",
        "/toy.whl?u=https://files.test/a%2Fb+c",
        "/a%2bb/%c3%a9/toy.whl",
        "/toy.whl?token=" + "a" * 4000,
        "/x//toy.whl",
        "/~x!$&'()*,;=:@/toy.whl",
    ],
)
async def test_a_redirect_goes_out_as_it_was_written(tmp_path, target):
    def answer(handler, number):
        if number == 1:
            send(handler, 302, Location=target)
        else:
            send(handler, 200 if handler.path == target else 403, DATA)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA


@pytest.mark.parametrize(
    "rest",
    [
        lambda handler: send(handler, 416),
        lambda handler: send(handler, 501),
        lambda handler: part(handler, 0, 100),
        lambda handler: part(handler, CUT_AT + 1),
    ],
    ids=["416", "501", "another start", "a gap"],
)
async def test_an_origin_that_sends_no_rest_is_asked_for_the_whole(tmp_path, rest):
    def answer(handler, number):
        if number == 1:
            cut(handler)
        elif "Range" in handler.headers:
            rest(handler)
        else:
            send(handler, 200, DATA)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA


async def test_a_rest_that_comes_in_short_parts_is_put_together(tmp_path):
    def answer(handler, number):
        if number == 1:
            cut(handler)
        else:
            part(handler, CUT_AT * (number - 1), CUT_AT * number)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA


async def test_a_rest_of_other_bytes_is_not_the_end_of_it(tmp_path):
    """The first answer came from another server than the second one."""

    def answer(handler, number):
        if number == 1:
            cut(handler, bytes(len(DATA)))
        elif "Range" in handler.headers:
            part(handler, CUT_AT)
        else:
            send(handler, 200, DATA)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA


async def test_a_page_in_the_place_of_a_file_is_asked_for_anew(tmp_path):
    def answer(handler, number):
        send(handler, 200, b"<html>please wait</html>" if number == 1 else DATA)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA


async def test_wrong_bytes_are_no_missing_file(tmp_path):
    with serving(lambda handler, number: send(handler, 200, b"other")) as url:
        async with asking(tmp_path, url) as (rig, named):
            with pytest.raises(MissError) as raised:
                await resolved(rig, named)
    assert type(raised.value.cause) is OriginError  # 502 at the door, and not 404


@pytest.mark.parametrize("status", [402, 403, 451])
async def test_a_refusal_stays_a_refusal(tmp_path, status):
    with serving(lambda handler, number: send(handler, status)) as url:
        async with asking(tmp_path, url) as (rig, named):
            with pytest.raises(MissError) as raised:
                await resolved(rig, named)
    assert isinstance(raised.value.cause, NotAllowedError)
    folder = tmp_path / "door"
    folder.mkdir()
    async with opened_in(folder) as door:
        door.rig.origin.dead, door.rig.origin.error = True, raised.value.cause
        assert (await door.ask("/pypi/simple/toy/")).status == 403


def upstreams_at(url: str) -> Upstreams:
    return Upstreams({"pypi": UpstreamSettings(url.rpartition("/")[0], share=True)})


@pytest.mark.parametrize("status", [400, 403, 405, 501, 503])
async def test_an_origin_that_answers_no_head_is_asked_otherwise(status):
    def answer(handler, number):
        is_head = handler.command == "HEAD"
        send(handler, status if is_head else 200, b"" if is_head else DATA)

    with serving(answer) as url:
        client = HttpOrigin(upstreams_at(url))
        try:
            upstream = upstreams_at(url).all()[0]
            assert await client.size(upstream, url, 5.0) == len(DATA)
        finally:
            await client.close()


async def test_an_archive_that_is_labelled_as_packed_is_taken_as_it_is():
    """Static servers say so of every .tar.gz, the index of an opam repository too."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("packages/a/a.1/opam"))
    packed = gzip.compress(raw.getvalue())

    def answer(handler, number):
        send(handler, 200, packed, Content_Encoding="gzip")

    with serving(answer) as url:
        upstream = Upstream("opam", url.rpartition("/")[0] + "/")
        client = HttpOrigin(upstreams_at(url))
        try:
            for name, body in ("index.tar.gz", packed), ("page", raw.getvalue()):
                page = await client.page(
                    upstream, upstream.url + name, accept="*/*", known=None
                )
                assert page.body == body
        finally:
            await client.close()


async def test_a_stale_page_gives_way_to_one_that_failed_once(tmp_path):
    async with opened_in(tmp_path) as door:
        origin, pages = door.rig.origin, door.rig.gateway.pages
        url = "https://index.test/simple/toy/"
        page = b'{"meta":{"api-version":"1.0"},"files":[%s]}'
        origin.pages[url] = page % b""
        assert (await door.ask("/pypi/simple/toy/")).status == 200
        begun, pages._now = pages._now(), lambda: begun + 1000
        file = b'{"filename":"toy-1.whl","url":"https://a.test/toy-1.whl","hashes":{}}'
        origin.pages[url] = page % file
        asked, answered = len(origin.asked), origin._answer

        def once(url, known):
            origin.dead = len(origin.asked) == asked
            return answered(url, known)

        origin._answer, origin.error = once, BusyError(503)
        assert b"toy-1.whl" in (await door.ask("/pypi/simple/toy/")).body


@pytest.mark.parametrize("from_page", [True, False])
async def test_a_password_in_a_link_is_used_and_not_handed_out(tmp_path, from_page):
    asked = []

    def answer(handler, number):
        asked.append(handler.headers.get("Authorization"))
        if number == 1 and not from_page:
            place = f"http://user:word@{handler.headers['Host']}/moved"
            send(handler, 302, Location=place)
        else:
            send(handler, 200, DATA)

    with serving(answer) as url:
        given = url.replace("//", "//user:word@") if from_page else url
        async with asking(tmp_path, given) as (rig, named):
            assert await resolved(rig, named) == DATA
    assert asked[-1] == "Basic " + base64.b64encode(b"user:word").decode()
    assert "word" not in without_user(given)


async def test_a_request_whose_connection_ended_is_passed_on_once_more(tmp_path):
    """Servers close connections that were kept open, just when they are used."""
    bodies = []

    def answer(handler, number):
        bodies.append(handler.path)
        if number == 1:
            handler.close_connection = True
        else:
            send(handler, 200, b"{}")

    with serving(answer) as url:
        client = HttpOrigin(upstreams_at(url))
        try:
            upstream = upstreams_at(url).all()[0]
            async with client.relay(upstream, RelayRequest(url)) as reply:
                assert (reply.status, len(bodies)) == (200, 2)
        finally:
            await client.close()


@pytest.mark.parametrize("path", ["-/all", "-/npm/v1/tokens", "-/user/me"])
async def test_what_could_read_an_account_is_not_passed_on(tmp_path, path):
    async with opened_in(tmp_path) as door:
        assert (await door.ask(f"/npm/{path}")).status == 404
        assert door.rig.origin.relayed == []


@pytest.mark.parametrize(
    "range_", ["1.0.0", "%3E%3D1.0.0", "%3E1%20%3C2", "%5E1", "1%20%7C%7C%202"]
)
async def test_the_document_of_a_version_is_passed_on_as_it_was_asked_for(
    tmp_path, range_
):
    async with opened_in(tmp_path) as door:
        await door.ask(f"/npm/toy/{range_}?x=y")
        (asked,) = door.rig.origin.relayed
        assert asked.url == f"https://registry.npmjs.org/toy/{range_}?x=y"


async def test_a_file_that_stalls_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ORIGIN_FIRST_SECONDS_MAX", 0.3)
    asked = []

    def answer(handler, number):
        asked.append(handler.headers.get("Range"))
        if number == 1:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(DATA)))
            handler.end_headers()
            handler.wfile.write(DATA[:CUT_AT])
            handler.wfile.flush()
            threading.Event().wait(1.0)
            handler.close_connection = True
        else:
            part(handler, CUT_AT)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA
    assert asked == [None, f"bytes={CUT_AT}-"]


async def test_a_long_file_of_no_said_length_may_have_been_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PART_BYTES_MAX", 1000)

    def answer(handler, number):
        body = DATA[:CUT_AT] if number == 1 else DATA
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + body)
        handler.close_connection = True

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA
