"""What clients see: files by digest, ranges, entity tags, pages."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import random

import pytest

from node.gateway import limits
from node.gateway.origin import BusyError, DownError, MissingError, OriginError
from node.gateway.python import simple
from tests.end_to_end.packages import wheel
from tests.node.doors import send
from tests.node.gateway.door import Opened, opened_in
from tests.node.gateway.rig import INDEX
from transfer import Digest

SMALL = random.Random(1).randbytes(50_000)
LARGE = random.Random(2).randbytes(limits.STREAM_BYTES_MIN + 1_000)


def path_of(data: bytes) -> str:
    return f"/blob/sha256/{hashlib.sha256(data).hexdigest()}"


@pytest.mark.parametrize("data", [SMALL, LARGE, b""], ids=["small", "large", "empty"])
async def test_a_held_file_is_served_under_all_its_names(tmp_path, data):
    async with opened_in(tmp_path) as door:
        door.rig.store.add_bytes(data)
        ni = (
            base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        )
        md5 = hashlib.md5(data).hexdigest()
        blake2b = hashlib.blake2b(data, digest_size=32).hexdigest()
        for path in (
            path_of(data),
            f"{path_of(data)}/a-name.whl",
            f"/.well-known/ni/sha-256/{ni}",
            f"/opam/md5/{md5[:2]}/{md5}",
            f"/packages/{blake2b[:2]}/{blake2b[2:4]}/{blake2b[4:]}/toy.whl",
        ):
            answer = await door.ask(path)
            assert (answer.status, answer.body) == (200, data), path


async def test_what_is_said_of_a_file(tmp_path):
    async with opened_in(tmp_path) as door:
        door.rig.store.add_bytes(SMALL)
        headers = (await door.ask(path_of(SMALL))).headers
        digest = hashlib.sha256(SMALL)
        assert headers["ETag"] == f'"sha256-{digest.hexdigest()}"'
        assert "immutable" in headers["Cache-Control"]
        assert headers["Accept-Ranges"] == "bytes"
        text = base64.b64encode(digest.digest()).decode()
        assert headers["Repr-Digest"] == f"sha-256=:{text}:"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
async def test_ranges_and_conditions(tmp_path, data):
    async with opened_in(tmp_path) as door:
        door.rig.store.add_bytes(data)
        path, etag = path_of(data), f'"sha256-{hashlib.sha256(data).hexdigest()}"'
        answer = await door.ask(path, Range="bytes=10-19")
        assert (answer.status, answer.body) == (206, data[10:20])
        assert answer.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
        assert (await door.ask(path, Range="bytes=-100")).body == data[-100:]
        assert (await door.ask(path, Range=f"bytes={len(data)}-")).status == 416
        assert (await door.ask(path, Range="bytes=0-1,3-4")).body == data
        answer = await door.ask(path, Range="bytes=0-1", If_Range='"other"')
        assert (answer.status, answer.body) == (200, data)
        answer = await door.ask(path, If_None_Match=etag)
        assert (answer.status, answer.body) == (304, b"")


async def test_head_downloads_nothing(tmp_path):
    async with opened_in(tmp_path) as door:
        door.rig.name(LARGE)
        answer = await door.ask(path_of(LARGE), "HEAD")
        assert answer.headers["Content-Length"] == str(len(LARGE))
        assert door.rig.origin.asked == []
        assert door.rig.store.artifacts() == []
        assert (await door.ask(path_of(SMALL), "HEAD")).status == 404


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "strict"])
@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("bytes=-16384", len(LARGE) - 16384, len(LARGE)),
        ("bytes=0-99", 0, 100),
        ("bytes=0-2000000", 0, 2_000_001),
        ("bytes=1000000-3000000", 1_000_000, 3_000_001),
        ("bytes=3000000-", 3_000_000, len(LARGE)),
    ],
)
async def test_a_range_of_what_is_not_here_yet(tmp_path, text, start, end, stream):
    async with opened_in(tmp_path, stream=stream) as door:
        door.rig.name(LARGE)
        answer = await door.ask(path_of(LARGE), Range=text)
        assert (answer.status, answer.body) == (206, LARGE[start:end])
        assert (
            answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(LARGE)}"
        )


async def test_a_range_begins_to_arrive_before_the_whole_is_here(tmp_path):
    """All but its end: that leaves only when the whole file is right."""
    async with opened_in(tmp_path) as door:
        digest, _ = door.rig.name(LARGE)
        door.rig.origin.pause = pause = asyncio.Event()
        raw = door.raw(path_of(LARGE), Range="bytes=100000-1999999")
        reader, writer = await send(door.address, raw)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 206")
        free = 1_900_000 - limits.HOLD_BACK_BYTES
        first = await reader.readexactly(free)
        assert await door.rig.gateway.resolver.held(digest) is None
        pause.set()
        assert first + await reader.read(-1) == LARGE[100_000:2_000_000]
        writer.close()


@pytest.mark.parametrize("text", ["bytes=0-1999999", "bytes=100000-1999999"])
async def test_a_range_of_a_wrong_file_is_cut_short(tmp_path, text):
    """Also where the wrong byte lies far behind it."""
    async with opened_in(tmp_path) as door:
        _, named = door.rig.name(LARGE)
        door.rig.origin.files[named[0].url] = LARGE[:-1] + b"!"
        answer = await door.ask(path_of(LARGE), Range=text)
        if answer.status == 206:
            assert len(answer.body) < int(answer.headers["Content-Length"])
        else:
            assert answer.status == 404


async def test_a_large_file_streams_and_arrives_whole(tmp_path):
    async with opened_in(tmp_path) as door:
        door.rig.name(LARGE)
        door.rig.origin.pause = pause = asyncio.Event()
        asking = asyncio.create_task(door.ask(path_of(LARGE)))
        await door.rig.origin.was_asked.wait()
        pause.set()
        answer = await asking
        assert (answer.status, answer.body) == (200, LARGE)


async def toy(door: Opened, **headers: str) -> bytes:
    """Let the upstream have a wheel; returns the gateway's page of it."""
    data = wheel("toy", "1.0", "hello")
    url = "https://files.test/toy-1.0-py3-none-any.whl"
    door.rig.origin.files[url] = data
    entry = {
        "filename": "toy-1.0-py3-none-any.whl",
        "url": url,
        "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
    }
    page = {"meta": {"api-version": "1.0"}, "files": [entry]}
    door.rig.origin.pages[f"{INDEX}/toy/"] = json.dumps(page).encode()
    answer = await door.ask("/pypi/simple/toy/", **headers)
    assert answer.status == 200
    return answer.body


async def test_a_page_in_the_form_that_was_asked_for(tmp_path):
    async with opened_in(tmp_path) as door:
        assert b"<a href=" in await toy(door, Accept="text/html")
        document = json.loads(await toy(door, Accept=simple.JSON_TYPE))
        url = document["files"][0]["url"]
        answer = await door.ask(
            f"/pypi/simple/toy/{url}".replace("simple/toy/../../", "")
        )
        assert answer.body == wheel("toy", "1.0", "hello")


@pytest.mark.parametrize("name", ["toy-1.0-py3-none-any.whl", "toy-1.0.tar.gz"])
async def test_an_address_counts_whose_page_this_node_does_not_know(tmp_path, name):
    """A killed node, or another one, gave it."""
    async with opened_in(tmp_path) as door:
        url, digest = f"https://files.test/{name}", hashlib.sha256(SMALL).hexdigest()
        entry = {"filename": name, "url": url, "hashes": {"sha256": digest}}
        page = {"meta": {"api-version": "1.0"}, "files": [entry]}
        door.rig.origin.pages[f"{INDEX}/toy/"] = json.dumps(page).encode()
        door.rig.origin.files[url] = SMALL
        answer = await door.ask(f"/pypi/files/sha256/{digest}/{name}")
        assert (answer.status, answer.body) == (200, SMALL)


async def test_no_page_is_asked_for_a_name_that_a_publisher_may_own(tmp_path):
    async with opened_in(tmp_path) as door:
        published = door.rig.gateway.indexes["pypi"]._context.published
        published._trust.follow(bytes(32), "toy", "never")
        digest = hashlib.sha256(SMALL).hexdigest()
        path = f"/pypi/files/sha256/{digest}/toy-1.0-py3-none-any.whl"
        assert (await door.ask(path)).status == 404
        assert f"{INDEX}/toy/" not in door.rig.origin.asked


async def test_metadata_is_taken_out_of_the_wheel(tmp_path):
    """It is not promised: an origin that sends no parts has to send the whole."""
    async with opened_in(tmp_path) as door:
        document = json.loads(await toy(door, Accept=simple.JSON_TYPE))
        entry = document["files"][0]
        assert "core-metadata" not in entry
        path = entry["url"].replace("../../", "/pypi/")
        answer = await door.ask(f"{path}.metadata")
        assert answer.body.startswith(b"Metadata-Version: 2.1\nName: toy")


async def test_a_page_is_packed_for_clients_that_accept_it(tmp_path):
    async with opened_in(tmp_path) as door:
        versions = [f"1.{number}" for number in range(100)]
        body = project_of(versions)
        door.rig.origin.pages[f"{INDEX}/many/"] = body
        plain = await door.ask("/pypi/simple/many/", Accept=simple.JSON_TYPE)
        await door.rig.gateway.pages.paths("pypi", "")  # it is written by then
        packed = await door.ask(
            "/pypi/simple/many/", Accept=simple.JSON_TYPE, Accept_Encoding="gzip"
        )
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert len(packed.body) < len(plain.body) / 2


async def test_a_page_that_takes_long_is_waited_for_with_blanks(tmp_path, monkeypatch):
    """A client gives up where nothing comes for fifteen seconds."""
    monkeypatch.setattr(limits, "PADDING_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(limits, "PADDING_EVERY_SECONDS", 0.05)
    async with opened_in(tmp_path) as door:
        hold = asyncio.Event()
        ask = door.rig.origin.page

        async def slow(*arguments: object, **options: object) -> object:
            await hold.wait()
            return await ask(*arguments, **options)

        door.rig.origin.page = slow
        door.rig.origin.pages[f"{INDEX}/toy/"] = project_of(["1.0"])
        raw = door.raw("/pypi/simple/toy/", Accept=simple.JSON_TYPE)
        reader, writer = await send(door.address, raw)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 200")
        assert await reader.readexactly(1) == b"\n"
        hold.set()
        document = json.loads(await reader.read(-1))
        assert len(document["files"]) == 1
        writer.close()


def project_of(versions: list[str]) -> bytes:
    files = [
        {
            "filename": f"toy-{version}-py3-none-any.whl",
            "url": f"https://files.test/{version}",
            "hashes": {"sha256": Digest.of(version.encode()).hex},
        }
        for version in versions
    ]
    return json.dumps({"meta": {"api-version": "1.0"}, "files": files}).encode()


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (BusyError(429, 100.0), 429, "100"),
        (BusyError(503, 100.0), 503, "100"),
        (DownError("no connection"), 502, None),
        (OriginError("it answered with HTTP status 401"), 502, None),
        (MissingError("gone"), 404, None),
    ],
)
async def test_what_an_upstream_could_not_do_keeps_its_meaning(
    tmp_path, monkeypatch, error, status, retry_after
):
    """404 says that there is no such thing, never that it could not be asked for."""
    monkeypatch.setattr(limits, "PAGE_ATTEMPTS", 1)
    async with opened_in(tmp_path) as door:
        _, named = door.rig.name(SMALL)
        del door.rig.origin.files[named[0].url]
        door.rig.origin.dead, door.rig.origin.error = True, error
        for path in ("/pypi/simple/toy/", path_of(SMALL)):
            answer = await door.ask(path)
            assert answer.status == status, path
            if retry_after:
                assert answer.headers["Retry-After"] == retry_after


async def test_names_lead_to_their_normal_form(tmp_path):
    async with opened_in(tmp_path) as door:
        answer = await door.ask("/pypi/simple/Toy_Box")
        assert answer.status == 301
        assert answer.headers["Location"] == "../simple/toy-box/"


async def test_a_pages_entity_tag_saves_sending_it_again(tmp_path):
    async with opened_in(tmp_path) as door:
        await toy(door)
        etag = (await door.ask("/pypi/simple/toy/")).headers["ETag"]
        assert (await door.ask("/pypi/simple/toy/", If_None_Match=etag)).status == 304


async def test_what_nobody_has_is_a_plain_404(tmp_path):
    async with opened_in(tmp_path) as door:
        answer = await door.ask(path_of(SMALL))
        assert answer.status == 404
        assert answer.document["exit_code"] == 4
        assert Digest.of(SMALL) in door.rig.peers.asked


async def test_our_addresses_lead_back_to_their_origins(tmp_path):
    """For lockfiles into which a tool has written them."""
    async with opened_in(tmp_path) as door:
        page = json.loads(await toy(door, Accept=simple.JSON_TYPE))
        url = page["files"][0]["url"].removeprefix("../../")
        registry = "https://registry.npmjs.org/"
        packument = {
            "name": "@s/toy",
            "versions": {
                "1.0.0": {
                    "dist": {
                        "tarball": f"{registry}@s/toy/-/odd.tgz",
                        "shasum": hashlib.sha1(b"x").hexdigest(),
                    }
                }
            },
        }
        door.rig.origin.pages[f"{registry}@s%2Ftoy"] = json.dumps(packument).encode()
        origin_of = door.rig.gateway.origin_of
        for ours, origin in (
            ("pypi/simple", INDEX),
            ("pypi/simple/toy/", f"{INDEX}/toy/"),
            (f"pypi/{url}", "https://files.test/toy-1.0-py3-none-any.whl"),
            ("npm/", registry),
            ("npm/@s/toy/-/toy-1.0.0.tgz", f"{registry}@s/toy/-/odd.tgz"),
            ("cargo/index/", "https://index.crates.io/"),
            ("pypi/files/sha256/00/x", ""),
            ("npm/other/-/other-1.0.0.tgz", ""),
            ("nothing/else", ""),
        ):
            assert await origin_of(ours) == origin
