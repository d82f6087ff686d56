"""Metadata and ends of wheels, asked of the origin without the whole wheel."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
import time
import zipfile

import pytest

from node.gateway import limits
from node.gateway.named_file import NamedFile
from node.gateway.origin import BrokenOffError, DownError, OriginError, OriginPart
from node.gateway.python import simple
from node.gateway.python.index import is_end
from node.gateway.python.wheel_end import metadata_in_end
from node.gateway.upstreams import Upstreams
from node.settings import UpstreamSettings
from node.web.gateway.origin_client import HttpOrigin
from node.web.gateway.ranges import parse_range
from tests.node.gateway.door import Opened, opened_in
from tests.node.gateway.rig import INDEX
from tests.node.gateway.test_origin_failures import send, serving
from transfer import Digest

ABOUT = b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n"
FILE = "toy-1.0-py3-none-any.whl"
URL = f"https://files.test/{FILE}"


def wheel(*, first: bool = False, comment: bytes = b"", body: int = 3_000_000) -> bytes:
    """Return a wheel with its metadata behind the code, or before it."""
    members = [
        ("toy/data.bin", random.Random(1).randbytes(body)),
        ("toy-1.0.dist-info/METADATA", ABOUT),
    ]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in reversed(members) if first else members:
            archive.writestr(name, data)
        archive.comment = comment
    return buffer.getvalue()


class Origin:
    """A file that is asked for in parts."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[str] = []

    async def fetch(self, wanted: str) -> OriginPart:
        self.asked.append(wanted)
        found = parse_range(wanted, len(self.data))
        assert found is not None
        start, end = found
        assert end - start <= limits.PART_BYTES_MAX
        return OriginPart(start, self.data[start:end], len(self.data))


@pytest.mark.parametrize(
    ("made", "times"),
    [
        (wheel(), 1),
        (wheel(body=10), 1),
        (wheel(first=True), 2),
        (wheel(comment=b"c" * 65_535), 3),
    ],
)
async def test_metadata_is_found_in_few_parts(made, times):
    origin = Origin(made)
    assert await metadata_in_end(origin.fetch) == ABOUT
    assert len(origin.asked) == times


@pytest.mark.parametrize(
    "data",
    [
        b"no archive" * 100,
        b"PK\5\6" + bytes(18),
        b"x" * 70_000 + b"PK\5\6" + b"\xff" * 18,
        wheel()[:-10],
    ],
)
async def test_what_is_no_wheel_has_no_metadata(data):
    origin = Origin(data)
    assert await metadata_in_end(origin.fetch) is None
    assert len(origin.asked) <= 1 + limits.WHEEL_PARTS_MAX


async def test_a_directory_that_is_too_long_for_a_part_is_left_alone():
    """The whole wheel is brought then, as for any other."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(9000):
            archive.writestr(f"toy/{'x' * 150}{number}", b"")
        archive.writestr("toy-1.0.dist-info/METADATA", ABOUT)
    origin = Origin(buffer.getvalue())
    assert await metadata_in_end(origin.fetch) is None
    assert len(origin.asked) == 1


async def test_an_origin_that_sends_another_part_is_not_believed():
    origin = Origin(wheel(first=True))

    async def fetch(wanted: str) -> OriginPart:
        part = await origin.fetch(wanted)
        return OriginPart(part.start + 1, part.data, part.size)

    with pytest.raises(OriginError, match="another part"):
        await metadata_in_end(fetch)


@pytest.mark.parametrize(
    ("wanted", "size", "found"),
    [
        ("bytes=-16384", 10**7, True),
        ("bytes=-16384", None, True),
        (f"bytes=-{limits.PART_BYTES_MAX}", None, True),
        (f"bytes=-{limits.PART_BYTES_MAX + 1}", None, False),
        ("bytes=-0", None, False),
        ("bytes=-", None, False),
        ("bytes=9990000-9999999", 10**7, True),
        ("bytes=9990000-9999999", None, False),
        ("bytes=9990000-10000000", 10**7, False),
        ("bytes=9990000-", 10**7, False),
        ("bytes=0-99", 10**7, False),
        ("bytes=0-99", 100, False),
        ("bytes=1-99", 100, False),
        ("bytes=-99", limits.PART_BYTES_MAX, False),
        ("bytes=-5,-6", 10**7, False),
        ("", 10**7, False),
    ],
)
def test_which_ranges_are_ends(wanted, size, found):
    named = NamedFile("pypi", "toy", FILE, URL, (Digest.of(b""),), size)
    assert is_end(wanted, [named]) == found


async def known(door: Opened, data: bytes, **more: object) -> str:
    """Let the upstream have a wheel; return its path at the gateway."""
    door.rig.origin.files[URL] = data
    door.rig.origin.sends_parts = True
    hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    entry = {"filename": FILE, "url": URL, "hashes": hashes, **more}
    page = {"meta": {"api-version": "1.0"}, "files": [entry]}
    door.rig.origin.pages[f"{INDEX}/toy/"] = json.dumps(page).encode()
    answer = await door.ask("/pypi/simple/toy/", Accept=simple.JSON_TYPE)
    url: str = json.loads(answer.body)["files"][0]["url"]
    return url.replace("../../", "/pypi/")


@pytest.mark.parametrize("said", [True, False])
async def test_metadata_does_not_wait_for_the_wheel(tmp_path, said):
    """Nothing of it is kept: what a part holds is verified by nothing."""
    async with opened_in(tmp_path) as door:
        data = wheel()
        path = await known(door, data, **{"core-metadata": said})
        answer = await door.ask(f"{path}.metadata")
        assert (answer.status, answer.body) == (200, ABOUT)
        assert door.rig.store.count == 0
        assert sum(end - start for start, end in door.rig.origin.parts) < 100_000
        whole = await door.ask(path)
        assert whole.body == data


async def test_metadata_with_a_digest_is_not_taken_from_the_end(tmp_path):
    async with opened_in(tmp_path) as door:
        digest = {"sha256": hashlib.sha256(ABOUT).hexdigest()}
        door.rig.origin.files[f"{URL}.metadata"] = ABOUT
        path = await known(door, wheel(), **{"core-metadata": digest})
        answer = await door.ask(f"{path}.metadata")
        assert (answer.status, answer.body) == (200, ABOUT)
        assert door.rig.origin.parts == []


@pytest.mark.parametrize("said", [False, {"sha256": Digest.of(ABOUT).hex}])
async def test_metadata_that_does_not_come_is_not_waited_for_too_long(
    tmp_path, monkeypatch, said
):
    """A client's patience ends; it comes again, and what has begun goes on."""
    monkeypatch.setattr(limits, "MISS_SECONDS_MAX", 0.3)
    async with opened_in(tmp_path) as door:
        origin = door.rig.origin
        origin.files[f"{URL}.metadata"] = ABOUT
        origin.pause = asyncio.Event()
        path = await known(door, wheel(), **{"core-metadata": said})
        origin.sends_parts = False
        began = time.monotonic()
        answer = await door.ask(f"{path}.metadata")
        assert (answer.status, time.monotonic() - began < 2.0) == (502, True)
        origin.pause.set()
        monkeypatch.undo()
        answer = await door.ask(f"{path}.metadata")
        assert (answer.status, answer.body) == (200, ABOUT)


async def test_the_end_of_a_wheel_does_not_wait_for_the_rest(tmp_path):
    async with opened_in(tmp_path) as door:
        data = wheel()
        path = await known(door, data, size=len(data))
        answer = await door.ask(path, Range="bytes=-16384")
        assert (answer.status, answer.body) == (206, data[-16384:])
        last = f"{len(data) - 16384}-{len(data) - 1}/{len(data)}"
        assert answer.headers["Content-Range"] == f"bytes {last}"
        assert "ETag" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-store"
        assert door.rig.store.count == 0
        # What is no end is part of a file that is verified.
        answer = await door.ask(path, Range="bytes=0-99")
        assert (answer.status, answer.body) == (206, data[:100])
        await door.wait_for_artifacts(1)
        door.rig.origin.parts.clear()
        answer = await door.ask(path, Range="bytes=-16384")
        assert (answer.status, answer.body) == (206, data[-16384:])
        assert door.rig.origin.parts == []


async def test_an_end_that_is_the_whole_is_verified(tmp_path):
    """Its page does not say how long it is, so its origin does."""
    async with opened_in(tmp_path) as door:
        data = wheel(body=1000)
        path = await known(door, data)
        door.rig.origin.files[URL] = bytes(len(data))
        answer = await door.ask(path, Range="bytes=-16384")
        assert answer.status == 502
        assert door.rig.origin.parts == [(0, len(data))]


@pytest.mark.parametrize("dead", [True, False])
async def test_without_parts_the_end_comes_with_the_whole(tmp_path, dead):
    async with opened_in(tmp_path) as door:
        data = wheel(body=1000)
        path = await known(door, data)
        door.rig.origin.sends_parts = False
        if dead:
            door.rig.origin.dead = True
            door.rig.peers.offered[Digest.of(data)] = data
        for answer, body in (
            (await door.ask(path, Range="bytes=-100"), data[-100:]),
            (await door.ask(f"{path}.metadata"), ABOUT),
        ):
            assert answer.body == body
            assert answer.status in (200, 206)


async def part_of(url: str, wanted: str) -> OriginPart:
    upstreams = Upstreams({"pypi": UpstreamSettings(url, share=True)})
    upstream = upstreams.get("pypi")
    assert upstream is not None
    client = HttpOrigin(upstreams)
    try:
        return await client.part(upstream, upstream.url, wanted)
    finally:
        await client.close()


async def test_a_part_is_asked_of_an_origin():
    def answer(handler, number):
        assert handler.headers["Range"] == "bytes=-3"
        send(handler, 206, b"xyz", Content_Range="bytes 7-9/10")

    with serving(answer) as url:
        assert await part_of(url, "bytes=-3") == OriginPart(7, b"xyz", 10)


@pytest.mark.parametrize(
    ("status", "given", "error"),
    [
        (200, "", OriginError),
        (206, "", OriginError),
        (206, "bytes 7-9/*", OriginError),
        (206, "bytes 9-7/10", OriginError),
        (206, "bytes 7-10/10", OriginError),
        (206, "bytes 0-2000000/3000000", OriginError),
        (206, "bytes 6-9/10", BrokenOffError),
        (206, "bytes 8-9/10", BrokenOffError),
        (416, "bytes */10", OriginError),
    ],
)
async def test_an_answer_that_is_no_such_part_is_refused(status, given, error):
    with (
        serving(
            lambda handler, _: send(handler, status, b"xyz", Content_Range=given)
        ) as url,
        pytest.raises(error),
    ):
        await part_of(url, "bytes=-3")


async def test_an_origin_that_is_down_has_no_parts():
    with pytest.raises(DownError):
        await part_of("http://127.0.0.1:1/", "bytes=-3")
