"""Origins that fail for a moment, that are slow, and what is not to be believed."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading

import pytest

from node.gateway import limits
from node.gateway.in_flight import InFlightFile
from node.gateway.named_file import NamedFile
from node.gateway.origin import BrokenOffError, BusyError, DownError, MissingError
from node.gateway.resolver import MissError, StreamedFile
from node.gateway.retry import pause_before_retry
from node.gateway.sources import _PeersWatch
from node.web.gateway.origin_client import _retry_after
from tests.node.gateway.origins import DATA, asking, resolved, send, serving
from tests.node.gateway.rig import rig_in
from transfer import Digest, GrowingFile, SizeEvidence


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_passing_failure_is_tried_again(tmp_path, status):
    def answer(handler, number):
        if number <= 2:
            send(handler, status, b"busy", Retry_After="0")
        else:
            send(handler, 200, DATA)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA


@pytest.mark.parametrize("understands_ranges", [True, False])
async def test_a_file_that_is_cut_goes_on_from_where_it_was(
    tmp_path, understands_ranges
):
    asked: list[str | None] = []

    def answer(handler, number):
        asked.append(handler.headers.get("Range"))
        start = 100_000 * (number - 1) if understands_ranges else 0
        if number < 3:
            handler.send_response(206 if start else 200)
            handler.send_header("Content-Length", str(len(DATA) - start))
            if start:
                text = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
                handler.send_header("Content-Range", text)
            handler.end_headers()
            handler.wfile.write(DATA[start : 100_000 * number])
            handler.wfile.flush()
            threading.Event().wait(0.3)  # until it has been read on the other side
            handler.connection.shutdown(socket.SHUT_RDWR)
            handler.close_connection = True
        elif understands_ranges:
            text = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
            send(handler, 206, DATA[start:], Content_Range=text)
        else:
            send(handler, 200, DATA)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            assert await resolved(rig, named) == DATA
    assert asked == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize(("status", "times"), [(404, 1), (410, 1), (401, 1), (403, 1)])
async def test_what_is_final_is_not_asked_again(tmp_path, status, times):
    count = []

    def answer(handler, number):
        count.append(number)
        send(handler, status)

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            with pytest.raises(MissError):
                await resolved(rig, named)
    assert len(count) == times


async def test_a_passing_failure_is_not_remembered(tmp_path, monkeypatch):
    """The next client asks again; a 404 of the origin is believed for a moment."""
    monkeypatch.setattr(limits, "ORIGIN_ATTEMPTS", 1)
    answers = iter([503, 200])

    def answer(handler, number):
        status = next(answers)
        send(handler, status, DATA if status == 200 else b"")

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            with pytest.raises(MissError) as raised:
                await resolved(rig, named)
            assert isinstance(raised.value.cause, BusyError)
            assert await resolved(rig, named) == DATA


async def test_a_false_size_of_the_index_does_not_refuse_a_file(tmp_path):
    """Its digest decides."""
    with serving(lambda handler, _: send(handler, 200, DATA)) as url:
        async with asking(tmp_path, url, size=5) as (rig, named):
            assert await resolved(rig, named) == DATA


async def test_a_small_file_that_comes_slowly_is_passed_on(tmp_path, monkeypatch):
    """A client waits fifteen seconds for bytes, and such a file may take minutes."""
    monkeypatch.setattr(limits, "SLOW_SECONDS", 0.1)
    go_on = threading.Event()

    def answer(handler, number):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:270_000])
        handler.wfile.flush()
        go_on.wait(20)
        handler.wfile.write(DATA[270_000:])

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, named):
            found = await rig.gateway.resolver.open(named[0].strong, named)
            assert isinstance(found, StreamedFile)
            assert found.size == len(DATA)
            assert found.coming.read(0, 1000) == DATA[:1000]
            go_on.set()
            assert (await found.whole()).digest == named[0].strong
            found.close()


async def test_files_of_a_private_upstream_are_readable_by_their_owner_only(tmp_path):
    async with rig_in(tmp_path, share=False) as rig:
        digest, named = rig.name(DATA)
        artifact = await rig.gateway.resolver.resolve(digest, named)
        assert rig.store.path(artifact).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("evidence", "is_named", "passed_on", "is_known"),
    [
        (SizeEvidence.CALLER, True, True, True),
        (SizeEvidence.INDEPENDENT, True, True, True),
        (SizeEvidence.UNCONFIRMED, True, False, False),
        (SizeEvidence.INDEPENDENT, False, True, True),
        (SizeEvidence.UNCONFIRMED, False, True, False),
    ],
)
async def test_a_length_that_one_peer_vouches_for_is_no_content_length(
    tmp_path, evidence, is_named, passed_on, is_known
):
    """Where there is an origin, nothing is passed on from a peer alone."""
    path = tmp_path / "coming"
    path.write_bytes(DATA)
    named = NamedFile("pypi", "a", "a", "https://a", (Digest.of(b"a"),))
    file = InFlightFile(Digest.of(b"a"), [named] if is_named else [])
    watch = _PeersWatch(file)
    with path.open("rb") as opened:
        coming = GrowingFile(opened.fileno(), 6_000_000, evidence)
    watch.on_file(coming)
    coming.advance(1_000_000)
    watch.on_progress(1_000_000, 6_000_000)
    assert (file.streamed(0.0) is not None) == passed_on
    assert file.has_known_size == is_known
    coming.evidence = SizeEvidence.INDEPENDENT  # another peer says the same
    watch.on_progress(1_000_000, 6_000_000)
    assert file.streamed(0.0) is coming
    assert file.has_known_size


async def test_a_file_of_another_manifest_takes_the_place_of_one_that_failed(tmp_path):
    path = tmp_path / "coming"
    path.write_bytes(DATA)
    file = InFlightFile(Digest.of(b"a"), [])
    watch = _PeersWatch(file)
    with path.open("rb") as opened:
        first, second = (
            GrowingFile(opened.fileno(), size, SizeEvidence.INDEPENDENT)
            for size in (6_000_000, 5_000_000)
        )
    for coming in (first, second):
        watch.on_file(coming)
        coming.advance(1_000_000)
        watch.on_progress(1_000_000, coming.size)
        assert file.streamed(0.0) is coming
        coming.fail()
    assert file.streamed(0.0) is None


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (BusyError(503), True),
        (BusyError(429, 2.0), True),
        (BusyError(503, 3600.0), False),
        (BusyError(501), False),
        (BrokenOffError("cut"), True),
        (DownError("refused"), False),
        (MissingError("gone"), False),
    ],
)
def test_when_an_origin_is_asked_again(error, waits):
    """As long as a client would wait for it."""
    wait = pause_before_retry(error, 1)
    assert (wait is not None) == waits
    if isinstance(error, BusyError) and error.retry_after == 2.0:
        assert wait == 2.0


def test_retry_after_is_seconds_or_a_date():
    assert _retry_after("120") == 120.0
    assert _retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0.0
    for text in ("", "soon", "9" * 40, "-5"):
        assert _retry_after(text) is None


async def test_forty_files_at_once_are_queued(tmp_path, monkeypatch):
    """However few connections there are, none is refused."""
    monkeypatch.setattr(limits, "CONNECTIONS_PER_UPSTREAM", 4)
    bodies = {f"/{n}": b"%d" % n * 1000 for n in range(40)}

    def answer(handler, number):
        threading.Event().wait(0.02)
        send(handler, 200, bodies[handler.path])

    with serving(answer) as url:
        async with asking(tmp_path, url) as (rig, _):
            base = url.rpartition("/")[0]
            named = [
                NamedFile("pypi", "a", "a", base + path, (Digest.of(body),))
                for path, body in bodies.items()
            ]
            found = await asyncio.gather(*(resolved(rig, [one]) for one in named))
    assert [hashlib.sha256(one).digest() for one in found] == [
        one.strong.raw for one in named
    ]
