"""A site door among clients that mean harm.

Twelve ways to abuse it:

1. An address of no network of the site asks.
2. A web page asks, with a name that it has bound to this machine (DNS rebinding).
3. The token is guessed, or sent in ways that are not meant.
4. A path is bent towards the API, the dashboard or files (`..`, `//`, `%2e`).
5. Something is written: other methods, bodies.
6. A request has headers or a line without end, or two lengths (request smuggling).
7. Connections are opened and stay silent, more than there is room for.
8. A request comes byte by byte and never ends.
9. A client asks and never reads what it is given.
10. One client has more requests under way than all others together.
11. Ranges are asked for that make many small answers, or none at all.
12. The door is used as a proxy, to ask other hosts.

While each goes on, another client is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dht import Address
from node.settings.site import SiteSettings
from node.web import limits, site_door
from node.web.gateway.routes import GatewayRoutes
from node.web.gateway.serving import FileSender
from node.web.guard import Refusal
from node.web.metrics import Metrics
from node.web.site_door import ClientTurns, SiteDoor
from tests.node.doors import Answer, Node, receive, send
from tests.node.gateway.rig import Rig, rig_in

DATA = bytes(range(256)) * 80  # 20 KiB
LARGE = bytes(64 * 1024 * 1024)
TOKEN = "a-token-of-the-lab-0123"


class Site:
    """A door on loopback over a gateway that holds a file."""

    def __init__(self, rig: Rig, address: Address) -> None:
        self.rig = rig
        self.address = address
        digest = rig.store.add_bytes(DATA).digest
        self.path = f"/blob/sha256/{digest.hex}"

    async def ask(
        self, path: str = "", method: str = "GET", body: bytes = b"", **headers: Any
    ) -> Answer:
        return await receive(
            *await self.begin(path or self.path, method, body, **headers)
        )

    async def begin(
        self, path: str, method: str = "GET", body: bytes = b"", **headers: Any
    ) -> Any:
        named = {"Host": str(self.address), "Connection": "close"}
        if body:
            named["Content-Length"] = str(len(body))
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}\r\n" for name, value in named.items()]
        head = f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n"
        return await send(self.address, head.encode("latin-1") + body)

    async def answers_others(self) -> None:
        """Fail unless an honest client is answered soon."""
        async with asyncio.timeout(30):
            answer = await self.ask()
        assert (answer.status, answer.body) == (200, DATA)


@contextlib.asynccontextmanager
async def site_in(folder: Any, **settings: Any) -> AsyncIterator[Site]:
    async with rig_in(folder) as rig:
        if token := settings.pop("token", ""):
            settings["token_file"] = folder / "token"
            settings["token_file"].write_text(token)
        routes = GatewayRoutes(rig.gateway, FileSender(rig.store))
        door = SiteDoor(
            SiteSettings(listen=("127.0.0.1:0",), **settings), routes, Node(),
            metrics=Metrics(),
        )  # fmt: skip
        (address,) = await door.start()
        try:
            yield Site(rig, address)
        finally:
            await door.stop()


async def test_1_other_networks_are_refused(tmp_path):
    async with site_in(tmp_path, networks=("10.0.0.0/8",)) as site:
        assert (await site.ask()).status == 403
        forged = {"X_Forwarded_For": "10.0.0.1", "Forwarded": "for=10.0.0.1"}
        assert (await site.ask(**forged)).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Host": "127.0.0.1.evil.test"},
        {"Host": ""},
        {"Origin": "http://evil.test"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
async def test_2_web_pages_are_refused(tmp_path, headers):
    async with site_in(tmp_path) as site:
        assert (await site.ask(**headers)).status in (400, 403)
        await site.answers_others()


async def test_3_a_token_is_not_guessed(tmp_path):
    async with site_in(tmp_path, token=TOKEN) as site:
        for given in ("", "Bearer x", f"Bearer {TOKEN[:-1]}", f"Digest {TOKEN}"):
            assert (await site.ask(Authorization=given)).status == 401
        for path in (f"/token/{TOKEN[:-1]}{site.path}", f"{site.path}?token={TOKEN}"):
            assert (await site.ask(path)).status == 401
        answer = await site.ask(f"/token/{TOKEN}/no/such/thing")
        assert answer.status == 404
        assert TOKEN not in str(answer.headers) + answer.body.decode()
        assert (await site.ask(Authorization=f"Bearer {TOKEN}")).body == DATA


@pytest.mark.parametrize(
    "path",
    [
        "/api/status", "//api/status", "/blob/../api/status", "/%2e%2e/api/status",
        "/static/app.js", "/login/x", "/", "/openapi.json", "/metrics", "/ready",
        "/blob/sha256/../../node.key", "/blob/sha256/%2e%2e%2fnode.key",
        "/blob/sha256/..%5c..%5cnode.key", "/pypi/simple/..%2f..%2fapi/",
    ],
)  # fmt: skip
async def test_4_no_path_leads_elsewhere(tmp_path, path):
    async with site_in(tmp_path) as site:
        assert (await site.ask(path)).status in (301, 400, 403, 404, 502)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "X"])
async def test_5_nothing_is_written(tmp_path, method):
    async with site_in(tmp_path) as site:
        answer = await site.ask(method=method, body=b"x" * 100)
        assert answer.status in (400, 404, 405, 413)
        await site.answers_others()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000,
    ],
)
async def test_6_malformed_requests_end_their_own_connection(
    tmp_path, raw, monkeypatch
):
    monkeypatch.setattr(limits, "QUIET_SECONDS_MAX", 0.3)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.05)
    async with site_in(tmp_path) as site:
        reader, writer = await send(site.address, raw)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                answer = await reader.read()
            assert b" 200 " not in answer
        writer.close()
        await site.answers_others()


async def test_7_silent_connections_leave_room(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SITE_QUIET_PER_CLIENT_MAX", 20)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.02)
    async with site_in(tmp_path) as site:
        silent = [await send(site.address, b"") for _ in range(60)]
        await asyncio.sleep(0.2)
        await site.answers_others()
        cut = [reader.at_eof() for reader, _ in silent]
        assert sum(cut) >= 35
        for _, writer in silent:
            writer.close()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send byte by byte until the connection is closed."""
    async with asyncio.timeout(30):
        while True:
            writer.write(b"x")
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await reader.readexactly(1)


async def test_8_a_request_that_never_ends_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "QUIET_SECONDS_MAX", 0.2)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.02)
    async with site_in(tmp_path) as site:
        reader, writer = await send(site.address, b"GET /")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await drip(reader, writer)
        writer.close()
        await site.answers_others()


async def test_9_a_client_that_does_not_read_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "WRITE_SECONDS_MAX", 0.3)
    monkeypatch.setattr(limits, "QUIET_SECONDS_MAX", 0.3)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.05)
    async with site_in(tmp_path) as site:
        name = site.rig.store.add_bytes(LARGE).digest.hex
        reader, writer = await site.begin(f"/blob/sha256/{name}")
        await asyncio.sleep(0.1)
        await site.answers_others()
        await asyncio.sleep(1.0)
        got = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(10):
                while data := await reader.read(1 << 20):
                    got += len(data)
        assert got < len(LARGE)
        writer.close()


async def test_10_one_client_never_has_all_turns():
    turns = ClientTurns(2)
    under_way = 0
    go_on = asyncio.Event()

    async def one(client: str) -> None:
        nonlocal under_way
        async with turns.turn(client):
            under_way += 1
            await go_on.wait()

    greedy = [asyncio.create_task(one("greedy")) for _ in range(50)]
    await asyncio.sleep(0.01)
    assert under_way == 2
    other = asyncio.create_task(one("other"))
    await asyncio.sleep(0.01)
    assert under_way == 3
    go_on.set()
    await asyncio.gather(*greedy, other)


@pytest.mark.parametrize(
    ("one", "other", "is_one_client"),
    [
        ("2a00:1:2:3::1", "2a00:1:2:3:ffff::9", True),
        ("2a00:1:2:3::1", "2a00:1:2:4::1", False),
        ("9.9.9.9", "9.9.9.8", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("fd00::1", "fd00::2", False),
    ],
)
def test_10_a_client_is_what_costs_something(one, other, is_one_client):
    """A host has a whole /64 of the public IPv6 network, and no more."""
    assert (site_door._source(one) == site_door._source(other)) is is_one_client


async def test_10_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "SITE_WAITING_PER_CLIENT_MAX", 1)
    turns = ClientTurns(1)
    async with turns.turn("greedy"):
        with pytest.raises(Refusal) as refused:
            async with turns.turn("greedy"):
                pass
        assert refused.value.status == 429
        async with turns.turn("other"):
            pass


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
        "bytes=0-,0-,0-,0-,0-",
        "bytes=99999999999999999999999-",
        "bytes=-0",
        "bytes=5-2",
        "lines=1-2",
        "bytes=" + "9" * 5000,
    ],
)
async def test_11_ranges_cost_no_more_than_the_file(tmp_path, asked):
    async with site_in(tmp_path) as site:
        answer = await site.ask(Range=asked)
        assert answer.status in (200, 206, 400, 416)
        assert len(answer.body) <= len(DATA)
        assert "multipart" not in answer.headers.get("Content-Type", "")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "http://192.0.2.1/"),
        ("GET", "http://127.0.0.1:1/api/status"),
        ("CONNECT", "192.0.2.1:443"),
        ("GET", "/pypi/simple/http%3A%2F%2F192.0.2.1%2F/"),
        ("GET", "/npm/http%3A%2F%2F192.0.2.1%2F"),
    ],
)
async def test_12_it_is_no_proxy(tmp_path, method, path):
    async with site_in(tmp_path) as site:
        answer = await site.ask(path, method)
        assert answer.status in (400, 403, 404, 405, 502)
        asked = [url for url in site.rig.origin.asked if "192.0.2.1" in url.partition(
            "index.test")[0]]  # fmt: skip
        assert asked == []
