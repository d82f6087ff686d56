"""What the gateway refuses: web pages, proxies, paths, liars and slow clients."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import random
import socket
from urllib.parse import urlsplit

import pytest

from node.gateway import limits as bounds
from node.gateway.origin import OriginError, SlowError
from node.gateway.upstream import Upstream
from node.gateway.upstreams import Upstreams
from node.settings import UpstreamSettings
from node.web import limits
from node.web.gateway.origin_client import HttpOrigin
from tests.end_to_end.origin import Origin
from tests.node.doors import TOKEN, send
from tests.node.gateway.door import opened_in
from tests.node.gateway.rig import INDEX

LARGE = random.Random(3).randbytes(bounds.STREAM_BYTES_MIN + 5_000)
DIGEST = hashlib.sha256(LARGE).hexdigest()
PATHS = (
    f"/blob/sha256/{DIGEST}",
    "/pypi/simple/toy/",
    "/npm/toy",
    "/cargo/index/config.json",
    f"/opam/sha256/{DIGEST[:2]}/{DIGEST}",
)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Host": "evil.test:4748"},
        {"Host": None},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", PATHS)
async def test_web_pages_and_rebound_names_are_refused(tmp_path, path, headers):
    """Abuse 1 to 3: DNS rebinding, requests of pages, of other sites' pages."""
    async with opened_in(tmp_path) as door:
        door.rig.store.add_bytes(LARGE)
        answer = await door.ask(path, **headers)
        assert answer.status in (400, 403)
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert door.rig.origin.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
async def test_nothing_can_be_changed(tmp_path, path, method):
    """Abuse 4: writing."""
    async with opened_in(tmp_path) as door:
        assert (await door.ask(path, method)).status == 405


@pytest.mark.parametrize(
    "path",
    [
        "http://evil.test/file",
        "/blob/http://evil.test/x",
        "/npm/http:%2f%2fevil.test%2fx",
        "/npm/http://evil.test/x/-/x.tgz",
        "/cargo/index/http://evil.test/x",
        "/pypi/simple/http:%2f%2fevil.test/",
        "/pypi/files/sha256/http/x",
        "/debian/http://evil.test/x",
    ],
)
async def test_it_is_no_open_proxy(tmp_path, path):
    """Abuse 5: URLs in requests are never asked."""
    async with opened_in(tmp_path) as door:
        assert (await door.ask(path)).status in (400, 403, 404)
        hosts = {urlsplit(url).hostname for url in door.rig.origin.asked}
        assert hosts <= {"deb.test"}


@pytest.mark.parametrize(
    "path",
    [
        "/blob/sha256/../../node.json",
        "/blob/sha256/..%2f..%2fnode.key",
        f"/blob/..%2f/{DIGEST}",
        f"/blob/sha256/{DIGEST}/../../../node.json",
        "/pypi/simple/..%2f..%2fnode.json/",
        "/pypi/simple/.../",
        "/npm/..%2fnode.json",
        "/npm/toy/-/..%2f..%2fnode.json",
        "/cargo/index/../../node.json",
        f"/opam/sha256/../{DIGEST}",
        "/.well-known/ni/sha-256/..%2fnode.json",
    ],
)
async def test_paths_lead_nowhere(tmp_path, path):
    """Abuse 6: what stands in a URL is never a path on disk."""
    async with opened_in(tmp_path) as door:
        (tmp_path / "node.json").write_text(TOKEN)
        answer = await door.ask(path)
        assert answer.status in (400, 404)
        assert TOKEN.encode() not in answer.body


async def test_a_page_cannot_lead_into_the_lan(tmp_path):
    """Abuse 7: an index that names the router, or the node's own API."""
    async with opened_in(tmp_path) as door:
        data = b"whatever the router says"
        for number, url in enumerate(
            ("http://192.168.0.1/x", "http://127.0.0.1:4748/api/status")
        ):
            digest, _ = door.rig.name(data + b"%d" % number, url)
            assert (await door.ask(f"/blob/sha256/{digest.hex}")).status == 404
        assert door.rig.store.artifacts() == []


async def test_a_file_that_ends_wrong_is_cut_short(tmp_path):
    """Abuse 8: an origin that sends other bytes; no client gets a complete file."""
    async with opened_in(tmp_path) as door:
        digest, named = door.rig.name(LARGE)
        door.rig.origin.files[named[0].url] = LARGE[:-1] + b"!"
        answer = await door.ask(f"/blob/sha256/{digest.hex}")
        if answer.status == 200:
            assert len(answer.body) < int(answer.headers["Content-Length"])
        assert door.rig.store.artifacts() == []


async def test_a_client_that_reads_nothing_is_cut_off(tmp_path, monkeypatch):
    """Abuse 9: a slow reader holds neither a thread nor a file for long."""
    monkeypatch.setattr(limits, "WRITE_SECONDS_MAX", 0.3)
    big = random.Random(4).randbytes(24 * 1024 * 1024)
    async with opened_in(tmp_path) as door:
        artifact = door.rig.store.add_bytes(big)
        path = f"/blob/sha256/{artifact.digest.hex}"
        _, writer = await send(door.address, door.raw(path))
        writer.transport.pause_reading()
        await door.wait_for_connections(1)
        await door.wait_for_connections(0)
        writer.close()


@pytest.mark.parametrize(
    "headers",
    [{"X_Long": "x" * 20_000}, {f"X-{n}": "x" for n in range(200)}],
    ids=["one long", "many"],
)
async def test_headers_have_a_limit(tmp_path, headers):
    """Abuse 10: more header than any package manager sends."""
    async with opened_in(tmp_path) as door:
        assert (await door.ask(PATHS[0], **headers)).status in (400, 431)


async def test_a_token_in_a_url_opens_nothing(tmp_path):
    """Abuse 11: and the gateway needs none, so none is ever in a URL."""
    async with opened_in(tmp_path) as door:
        answer = await door.ask(f"/api/status?token={TOKEN}")
        assert answer.status == 401
        assert TOKEN.encode() not in answer.body


async def test_many_at_once_for_one_file_cause_one_download(tmp_path):
    """Abuse 12: a stampede costs the origin one request."""
    async with opened_in(tmp_path) as door:
        data = LARGE[:60_000]
        digest, _ = door.rig.name(data)
        path = f"/blob/sha256/{digest.hex}"
        answers = await asyncio.gather(*(door.ask(path) for _ in range(40)))
        assert {one.body for one in answers} == {data}
        assert len(door.rig.origin.asked) == 1


async def test_a_name_that_clashes_is_refused_in_words(tmp_path, monkeypatch):
    """A followed publisher never shadows a name of the upstream."""
    from node.gateway.published import PublishedPackage
    from node.model.packages import ArtifactEntry

    entry = ArtifactEntry(
        file="toy-9.0-py3-none-any.whl",
        size=1,
        digest=f"sha256:{DIGEST}",
        manifest="00" * 32,
    )

    async def packages(*_: object) -> list[PublishedPackage]:
        return [PublishedPackage(bytes(32), "toy", "9.0", [entry])]

    async with opened_in(tmp_path) as door:
        published = door.rig.gateway.indexes["pypi"]._context.published
        monkeypatch.setattr(published, "packages", packages)
        page = {"meta": {"api-version": "1.0"}, "files": []}
        door.rig.origin.pages[f"{INDEX}/toy/"] = json.dumps(page).encode()
        answer = await door.ask("/pypi/simple/toy/")
        assert answer.status == 409
        assert "[gateway.names]" in answer.document["error"]
        door.rig.origin.dead = True
        answer = await door.ask("/pypi/simple/other/")
        assert answer.status in (404, 409)


# --- the client that asks origins -----------------------------------------------------


@pytest.fixture
def server():
    with Origin() as origin:
        yield origin


def client_of(server: Origin, **settings: object) -> HttpOrigin:
    return HttpOrigin(Upstreams({"pypi": UpstreamSettings(server.url, **settings)}))


def upstream_of(client: HttpOrigin) -> Upstream:
    return client._upstreams.all()[0]


async def page_of(client: HttpOrigin, url: str) -> bytes:
    page = await client.page(upstream_of(client), url, accept="*/*", known=None)
    return page.body


async def test_the_client_asks_upstreams_and_says_what_failed(server):
    client = client_of(server)
    try:
        url = server.put("/page", b"hello", "text/html")
        upstream = upstream_of(client)
        assert await page_of(client, url) == b"hello"
        async with client.file(upstream, url) as file:
            assert file.size == 5
            assert b"".join([part async for part in file.parts()]) == b"hello"
        assert await client.size(upstream, url, 5) == 5
        server.die()
        with pytest.raises(OriginError, match="connection"):
            await page_of(client, url)
    finally:
        await client.close()


async def test_passwords_go_to_the_upstreams_own_server_only(server):
    """Also for files that its pages name without them."""
    with_password = server.url.replace("http://", "http://me:secret@")
    client = HttpOrigin(Upstreams({"pypi": UpstreamSettings(with_password)}))
    try:
        url = server.put("/page", b"hello")
        upstream = upstream_of(client)
        page = await client.page(upstream, url, accept="*/*", known=None)
        assert "secret" not in page.url
        assert "secret" not in repr(upstream)
        with Origin("127.0.0.2") as other:
            await page_of(client, other.put("/x", b""))
            assert [one.get("Authorization") for one in other.headers] == [None]
        assert server.headers[0]["Authorization"].startswith("Basic ")
    finally:
        await client.close()


async def test_a_host_that_nobody_configured_must_be_public(server):
    """A server on loopback that a public upstream's page names."""
    upstreams = Upstreams({"pypi": UpstreamSettings("https://index.test/")})
    upstreams.found_at(("index.test", 443), ["1.1.1.1"])
    client = HttpOrigin(upstreams)
    try:
        url = server.put("/page", b"hello")
        for refused in (url, url.replace("127.0.0.1", "localhost")):
            with pytest.raises(OriginError):
                await page_of(client, refused)
        assert server.asked == []
    finally:
        await client.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"]
)
async def test_no_other_port_of_an_upstreams_host_is_reached(server, host):
    """Other services run there: the node's own door, for one."""
    client = client_of(server)
    try:
        with Origin() as inside:
            url = inside.put("/admin", b"done").replace("127.0.0.1", host)
            with pytest.raises(OriginError):
                await page_of(client, url)
            server.files["/away"] = (b"", "text/html")
            server.redirects["/away"] = url
            with pytest.raises(OriginError):
                await page_of(client, server.url + "/away")
            assert inside.asked == []
    finally:
        await client.close()


@pytest.mark.parametrize("by", ["page", "redirect"])
async def test_a_private_upstream_may_have_its_files_on_another_private_host(
    server, by
):
    client = client_of(server)
    try:
        with Origin("127.0.0.2") as files:
            url = files.put("/toy.whl", b"wheel")
            if by == "redirect":
                server.files["/toy.whl"] = (b"", "text/html")
                server.redirects["/toy.whl"] = url
                url = server.url + "/toy.whl"
            async with client.file(upstream_of(client), url) as file:
                assert b"".join([part async for part in file.parts()]) == b"wheel"
    finally:
        await client.close()


async def test_a_page_is_bounded_also_when_it_is_packed(server, monkeypatch):
    monkeypatch.setattr(bounds, "PAGE_BYTES_MAX", 10_000)
    client = client_of(server)
    try:
        url = server.put("/long", b"x" * 20_000)
        with pytest.raises(OriginError, match="too long"):
            await page_of(client, url)
        packed = gzip.compress(b"x" * 20_000)
        server.files["/packed"] = (packed, "text/html\r\nContent-Encoding: gzip")
        with pytest.raises(OriginError, match="too long"):
            await page_of(client, server.url + "/packed")
    finally:
        await client.close()


async def test_a_file_is_taken_as_it_is_sent(server):
    """Many servers label a .tar.gz with the encoding that its name says."""
    client = client_of(server)
    packed = gzip.compress(b"x" * 20_000)
    server.files["/toy.tar.gz"] = (
        packed,
        "application/x-tar\r\nContent-Encoding: gzip",
    )
    try:
        async with client.file(upstream_of(client), server.url + "/toy.tar.gz") as file:
            assert b"".join([part async for part in file.parts()]) == packed
    finally:
        await client.close()


async def test_a_request_target_goes_out_as_it_is_written(server):
    client = client_of(server)
    target = "/toy.whl?sig=a%2Fb%2B+c&e=%7e~"
    server.put(target, b"signed")
    server.files["/toy.whl"] = (b"", "text/html")
    server.redirects["/toy.whl"] = server.url + target
    try:
        assert await page_of(client, server.url + "/toy.whl") == b"signed"
        assert server.asked[-1] == target
    finally:
        await client.close()


async def test_silence_of_an_origin_ends(monkeypatch):
    monkeypatch.setattr(bounds, "ORIGIN_FIRST_SECONDS_MAX", 0.2)
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    client = HttpOrigin(Upstreams({"pypi": UpstreamSettings(url)}))
    try:
        with pytest.raises(SlowError):
            await page_of(client, url)
    finally:
        await client.close()
        listening.close()
