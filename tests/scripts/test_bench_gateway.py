"""The made mirror of the gateway's benchmark answers as a public index does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator

import pytest

from node.gateway.npm.packument import read_packument
from node.gateway.origin import OriginPage
from node.gateway.python import simple
from node.gateway.python.plain_page import read_plain
from scripts.benchmarks import gateway
from scripts.benchmarks.parties import gateway_lab, mirror
from scripts.benchmarks.parties.clients import CLIENTS
from scripts.benchmarks.parties.load import load

LINE = mirror.Line("near", 0.0, 1e9)
TOY = mirror.Package("toy", 100, 1000, ("other",))


@contextlib.asynccontextmanager
async def started(content: mirror.Content) -> AsyncIterator[mirror.Mirror]:
    made = mirror.Mirror(content, LINE)
    await made.start(0)
    try:
        yield made
    finally:
        await made.close()


async def asked(url: str, path: str, **headers: str) -> tuple[str, bytes]:
    """Return the head and the body of an answer."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = int(head.partition("Content-Length: ")[2].split()[0])
    body = await reader.readexactly(size)
    writer.close()
    return head, body


async def test_pages_and_files_are_those_of_real_indexes():
    content = mirror.Content()
    mirror._add_python(content, TOY)
    mirror._add_npm(content, TOY)
    async with started(content) as made:
        await compare(made)


async def compare(made: mirror.Mirror) -> None:
    packed = {"Accept-Encoding": "gzip"}
    head, body = await asked(made.url, "/simple/toy/", **packed)
    page = OriginPage(gzip.decompress(body), mirror.SIMPLE_TYPE, "", made.url)
    assert read_plain("pypi", "toy", page) is not None
    files = simple.read_project("toy", page).files
    assert len(files) == 100
    etag = head.partition("ETag: ")[2].split()[0]
    known = {"Accept-Encoding": "gzip", "If-None-Match": etag}
    head, _ = await asked(made.url, "/simple/toy/", **known)
    assert head.startswith("HTTP/1.1 304")
    wheel = files[-1]
    path = wheel.url.removeprefix(made.url)
    _, data = await asked(made.url, path)
    assert wheel.digests == (f"sha256:{hashlib.sha256(data).hexdigest()}",)
    assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None
    _, about = await asked(made.url, f"{path}.metadata")
    assert b"Requires-Dist: other" in about
    assert wheel.metadata == f"sha256:{hashlib.sha256(about).hexdigest()}"
    head, end = await asked(made.url, path, Range="bytes=-100")
    assert head.startswith("HTTP/1.1 206")
    assert end == data[-100:]
    short = (await asked(made.url, "/npm/toy", Accept=mirror.SHORT_TYPE))[1]
    full = (await asked(made.url, "/npm/toy", Accept="application/json"))[1]
    assert len(full) > 2 * len(short)
    assert json.loads(full)["versions"].keys() == json.loads(short)["versions"].keys()
    named = read_packument(short, "npm", "toy").files.find_file(
        f"toy-{mirror.VERSION}.tgz"
    )
    _, data = await asked(made.url, named.url.removeprefix(made.url))
    assert hashlib.sha512(data).digest() == named.strong.raw


@pytest.mark.parametrize("kind", ["python", "npm"])
def test_sets_need_all_of_their_packages(kind):
    for one in mirror.sets_of(kind):
        needed = {need for package in one.packages for need in package.needs}
        assert needed | set(one.names) == {package.name for package in one.packages}


def test_the_floor_is_what_the_pages_take_and_the_client_itself(tmp_path):
    content = mirror.Content()
    for number in range(2):
        mirror._add_npm(content, mirror.Package(f"toy-{number}", 100, 1000))
    size = sum(mirror.page_bytes(content, "npm", f"toy-{n}") for n in range(2))
    assert 10_000 < size < sum(map(len, content.full.values()))
    case = gateway_lab.Case(CLIENTS["npm"], "toys", [], ["toy-0", "toy-1"], size)
    assert case.page_paths == ["/npm/toy-0", "/npm/toy-1"]
    lab = gateway_lab.Lab(tmp_path, tmp_path)
    rounds = gateway.Rounds(lab, [mirror.SLOW], [case], ends_at=0.0)
    seconds = {"direct": [2.0], "warm": [0.3, 0.5], "3 peers": [1.0, 1.2]}
    rounds.seconds = {("slow", case.words, way): s for way, s in seconds.items()}
    rows = rounds.rows(mirror.SLOW)
    assert [row.what for row in rows] == [f"npm, toys: {way}" for way in seconds]
    floor = (0.4 + size / 2e6 + 2 * 0.05) / 2.0
    assert rows[2].more["floor"] == f"{floor:.2f} x"
    assert (rows[2].ratio, rows[2].more["rounds"], rows[2].reached) == (
        0.55,
        "2",
        False,
    )


def test_no_round_is_begun_when_the_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(gateway, "seeded", lambda *_, **__: [])
    case = gateway_lab.Case(CLIENTS["npm"], "toys", [], [])
    notes: list[str] = []
    lab = gateway_lab.Lab(tmp_path, tmp_path)
    rounds = gateway.Rounds(lab, [mirror.SLOW], [case], ends_at=0.0)
    rounds.run(3, notes.append)
    assert notes[-1] == "the time is over: what follows is left out"
    assert rounds.rows(mirror.SLOW) == []


async def test_a_load_counts_whole_answers(monkeypatch):
    monkeypatch.setattr("scripts.benchmarks.parties.load.WARM_UP_SECONDS", 0.0)
    content = mirror.Content(files={"/a": b"x" * 50_000, "/b": b""})
    async with started(content) as made:
        web = made.url.removeprefix("http://")
        done = await asyncio.to_thread(load, web, ["/a", "/b"], clients=3, seconds=0.2)
        await asyncio.sleep(0.05)  # for the ends of its connections
    assert done.per_second * 0.2 == len(done.latencies) > 3
    assert 0 < done.percentile(0.5) <= done.percentile(0.99)
