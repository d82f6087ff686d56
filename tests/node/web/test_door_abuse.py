"""The web door answers nobody but its owner, and survives whoever tries."""

from __future__ import annotations

import asyncio
import logging

import pytest

from dht import Address
from node.errors import UsageError
from node.web import Door, limits
from node.web.api import ProgressFeed
from node.web.guard import host_names
from tests.node.doors import TOKEN, Node, ask, opened, receive, request, send

# --- what others get -----------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:4748"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": ""},
        {"Host": None},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "anything"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/status"), ("GET", "/")])
async def test_what_a_web_page_can_send_is_refused(method, path, headers):
    node = Node()
    async with opened(node) as (address, _):
        answer = await ask(address, method, path, **headers)
    assert answer.status == 403
    assert "error" in answer.document
    assert not node.commands


async def test_two_host_headers_are_refused():
    async with opened() as (address, _):
        raw = request(address).replace(b"\r\n", b"\r\nHost: evil.example\r\n", 1)
        answer = await receive(*await send(address, raw))
    assert answer.status in (400, 403)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST"])
async def test_the_doors_own_names_are_good(name):
    async with opened() as (address, _):
        answer = await ask(address, Host=f"{name}:{address.port}")
        assert answer.status == 200


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_what_the_owner_types_is_good(site):
    async with opened() as (address, _):
        answer = await ask(address, "GET", "/", Sec_Fetch_Site=site)
        assert answer.status == 200


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN,
     f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xff"],
)  # fmt: skip
async def test_without_the_token_nothing_runs(authorization):
    node = Node()
    async with opened(node) as (address, _):
        for method in ("POST", "GET"):
            answer = await ask(address, method, Authorization=authorization)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not node.commands


async def test_a_token_in_the_url_is_no_token():
    async with opened() as (address, _):
        path = f"/api/status?token={TOKEN}"
        assert (await ask(address, path=path, Authorization=None)).status == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("POST", "/api/nonsense", b"{}", {}, 404),
        ("POST", "/api/", b"{}", {}, 404),
        ("POST", "/other", b"{}", {}, 404),
        ("POST", "/", b"{}", {}, 405),
        ("GET", "/api/peers", b"", {}, 405),
        ("PUT", "/api/status", b"{}", {}, 405),
        ("OPTIONS", "/api/status", b"", {}, 405),
        ("POST", "/api/status", b"{}", {"Content_Type": "text/plain"}, 415),
        ("POST", "/api/status", b"{}", {"Content_Type": None}, 415),
        ("POST", "/api/status", b"", {}, 400),
        ("POST", "/api/status", b"{", {}, 400),
        ("POST", "/api/status", b"[]", {}, 400),
        ("POST", "/api/status", b"\xff\xfe", {}, 400),
        ("POST", "/api/status", b'{"more": 1}', {}, 400),
        ("POST", "/api/lookup", b"{}", {}, 400),
        ("POST", "/api/lookup", b'{"digest": 1}', {}, 400),
        ("POST", "/api/fetch", b'{"targets": "x"}', {}, 400),
        ("POST", "/api/fetch", b'{"targets": ' + b"[" * 100_000, {}, 400),
        ("POST", "/api/status", b" " * (limits.BODY_BYTES_MAX + 1), {}, 413),
    ],
)  # fmt: skip
async def test_a_malformed_command_is_refused(method, path, body, headers, status):
    node = Node()
    async with opened(node) as (address, _):
        answer = await ask(address, method, path, body, **headers)
        assert answer.status == status
        assert answer.document["error"]
        assert not node.commands
        assert (await ask(address)).status == 200


async def test_headers_without_end_are_refused():
    async with opened() as (address, _):
        for headers in (
            {"X": "y" * 20_000},
            {f"X-{number}": "y" for number in range(200)},
        ):
            answer = await receive(*await send(address, request(address, **headers)))
            assert answer.status in (400, 431)


async def test_every_answer_keeps_other_origins_out():
    async with opened() as (address, _):
        answers = [
            await ask(address),
            await ask(address, "GET", "/"),
            await ask(address, path="/other"),
            await ask(address, Origin="https://evil.example"),
            await ask(address, Authorization=None),
            await ask(address, path="/api/fetch", body=b"x"),
            await ask(address, Accept="text/event-stream"),
        ]
    for answer in answers:
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("Access-")]
        assert "aiohttp" not in str(answer.headers)


async def test_no_log_holds_the_token(caplog):
    with caplog.at_level(logging.DEBUG):
        async with opened() as (address, _):
            await ask(address)
            await ask(address, Authorization=f"Bearer {TOKEN}" + "x" * 20_000)
            raw = f"Bearer {TOKEN} \x00 \r\n\r\n".encode()
            await receive(*await send(address, raw))
    assert TOKEN not in caplog.text


# --- clients that are slow, or many --------------------------------------------


@pytest.mark.parametrize("part", [b"", b"POST /api/status HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_never_ends_its_request_is_cut(monkeypatch, part):
    monkeypatch.setattr(limits, "QUIET_SECONDS_MAX", 0.05)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.01)
    async with opened() as (address, _):
        reader, writer = await send(address, part)
        async with asyncio.timeout(20):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()


async def test_a_body_that_never_comes_is_cut(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS_MAX", 0.05)
    async with opened() as (address, _):
        raw = request(address, body=b"{", Content_Length="100")
        assert (await receive(*await send(address, raw))).status == 408


async def test_a_connection_with_a_command_under_way_is_not_cut(monkeypatch):
    monkeypatch.setattr(limits, "QUIET_SECONDS_MAX", 0.0)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(limits, "ALIVE_SECONDS", 0.05)
    async with opened() as (address, _):
        raw = request(address, path="/api/fetch", Accept="text/event-stream")
        reader, writer = await send(address, raw)
        async with asyncio.timeout(20):
            for _ in range(3):
                await reader.readuntil(b": alive\n\n")
        writer.close()


async def test_too_many_commands_at_once_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "COMMANDS_MAX", 1)
    node = Node()
    async with opened(node) as (address, _):
        _, writer = await send(address, request(address, path="/api/fetch"))
        async with asyncio.timeout(20):
            await node.began.wait()
        assert (await ask(address)).status == 503
        writer.close()


async def test_progress_of_very_many_labels_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "EVENT_LABELS_MAX", 3)
    feed = ProgressFeed()
    for number in range(10):
        feed.post({"label": str(number)})
    assert len(feed.drain()) == 3


# --- where it opens ------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:0", "[::]:0", "nonsense"])
async def test_it_opens_on_loopback_only(address):
    with pytest.raises(UsageError):
        await Door(Node(), TOKEN).start(address)


async def test_a_taken_port_is_one_sentence():
    async with opened() as (address, _):
        with pytest.raises(Exception, match="is taken by another program"):
            await Door(Node(), TOKEN).start(str(address))


def test_a_door_at_port_80_is_also_known_without_it():
    assert host_names([Address("::1", 80)]) == {
        "[::1]:80", "[::1]", "localhost:80", "localhost"
    }  # fmt: skip
