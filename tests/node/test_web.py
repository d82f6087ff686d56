"""The web door answers its owner and nobody else; a command's life is its client's."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from node.commands import Fetch, Leave, Lookup, Status
from node.errors import NobodyOffersError, UsageError
from node.web import Door, limits
from node.web.api import ProgressFeed
from node.web.door import Connections
from node.web.guard import host_names

TOKEN = "a-token-for-this-test"
JSON = {"Content-Type": "application/json"}


class Node:
    """The least that the door serves: it answers, counts, waits and fails."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.commands: list[object] = []

    def describe(self) -> dict[str, Any]:
        return {"node_id": "ab" * 32, "address": "<b>&", "web": "here"}

    async def run(self, command, progress):
        self.commands.append(command)
        match command:
            case Status():
                return {**self.describe(), "contacts": 3, "artifacts": 5}
            case Lookup(digest="nobody"):
                raise NobodyOffersError("nobody offers it", details={"providers": []})
            case Leave():
                self.began.set()
            case Lookup(digest="break"):
                raise RuntimeError("a secret detail")
            case Lookup(digest="disk"):
                raise OSError(28, "No space left on device", "/somewhere")
            case Fetch(targets=["many"]):
                for done in range(100_000):
                    progress(event(done))
                return {"artifacts": []}
            case Fetch():
                return await self._wait(progress)
        return {}

    async def _wait(self, progress):
        progress(event(1))
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def event(done: int) -> dict[str, Any]:
    return {"label": "a file", "done": done, "total": None, "unit": "bytes"}


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        lines = self.body.split(b"\n")
        return [json.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


@asynccontextmanager
async def opened(node: Any = None):
    door = Door(node or Node(), TOKEN)
    address = await door.start("127.0.0.1:0")
    try:
        yield address, door
    finally:
        await door.stop()


async def send(address, raw: bytes) -> tuple[asyncio.StreamReader, Any]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(raw)
    return reader, writer


async def receive(reader, writer) -> Answer:
    try:
        async with asyncio.timeout(20):
            raw = await reader.read()
    finally:
        writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, body)


def request(address, method="POST", path="/api/status", body=b"{}", **headers) -> bytes:
    """Write a request; a header whose value is None is left out."""
    named = {
        "Host": str(address),
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in named.items() if value is not None]
    head = "\r\n".join([f"{method} {path} HTTP/1.0", *lines])
    return head.encode("latin-1") + b"\r\n\r\n" + body


async def ask(address, *args, **kwargs) -> Answer:
    return await receive(*await send(address, request(address, *args, **kwargs)))


# --- what the owner gets -------------------------------------------------------


async def test_a_command_is_decoded_and_answered_as_one_document():
    node = Node()
    async with opened(node) as (address, _):
        answer = await ask(address)
        assert answer.status == 200
        assert answer.document["contacts"] == 3
        await ask(address, path="/api/fetch", body=b'{"targets": ["many"]}')
        assert node.commands[-1] == Fetch(targets=["many"])


async def test_status_may_be_read_with_get():
    async with opened() as (address, _):
        assert (await ask(address, "GET", body=b"")).document["artifacts"] == 5


async def test_an_errors_details_and_exit_code_are_in_its_document():
    async with opened() as (address, _):
        answer = await ask(address, path="/api/lookup", body=b'{"digest": "nobody"}')
        assert answer.status == 404
        assert answer.document == {
            "error": "nobody offers it", "exit_code": 4, "providers": []
        }  # fmt: skip


async def test_events_carry_the_newest_progress_and_end_with_the_result():
    async with opened() as (address, _):
        answer = await ask(
            address,
            path="/api/fetch",
            body=b'{"targets": ["many"]}',
            Accept="text/event-stream",
        )
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.events[-1] == {"result": {"artifacts": []}}
        assert answer.events[-2] == {"progress": event(99_999)}
        assert len(answer.events) < 100


async def test_an_error_is_the_last_event():
    async with opened() as (address, _):
        answer = await ask(
            address,
            path="/api/lookup",
            body=b'{"digest": "nobody"}',
            Accept="text/event-stream",
        )
        assert answer.events == [
            {"error": "nobody offers it", "exit_code": 4, "providers": []}
        ]


async def test_an_unforeseen_failure_is_logged_and_not_shown(caplog):
    async with opened() as (address, _):
        answer = await ask(address, path="/api/lookup", body=b'{"digest": "break"}')
    assert answer.status == 500
    assert "secret detail" not in answer.document["error"]
    assert "secret detail" in caplog.text


async def test_a_full_disk_is_a_sentence(caplog):
    async with opened() as (address, _):
        answer = await ask(address, path="/api/lookup", body=b'{"digest": "disk"}')
    assert answer.document["error"] == "No space left on device (/somewhere)"


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_a_client_that_goes_away_takes_its_command_with_it(accept):
    node = Node()
    async with opened(node) as (address, _):
        raw = request(address, path="/api/fetch", body=b"{}", Accept=accept)
        _, writer = await send(address, raw)
        async with asyncio.timeout(20):
            await node.began.wait()
            writer.close()
            await node.cancelled.wait()


async def test_when_the_door_closes_its_clients_are_told():
    node = Node()
    async with opened(node) as (address, door):
        raw = request(address, path="/api/fetch", Accept="text/event-stream")
        connection = await send(address, raw)
        await node.began.wait()
        answering = asyncio.create_task(receive(*connection))
        await door.stop()
        answer = await answering
    assert answer.events[-1] == {"error": "the node is stopping", "exit_code": 1}


async def test_the_answer_to_leave_arrives_before_the_door_closes():
    async with opened() as (address, door):
        node = door._node
        raw = request(address, path="/api/leave", Accept="text/event-stream")
        answering = asyncio.create_task(receive(*await send(address, raw)))
        async with asyncio.timeout(20):
            await node.began.wait()
        await door.stop()
        assert (await answering).events == [{"result": {}}]


async def test_the_page_says_what_the_node_is_and_loads_nothing():
    async with opened() as (address, _):
        answer = await ask(address, "GET", "/", b"", Authorization=None)
    page = answer.body.decode()
    assert answer.status == 200
    assert "ab" * 32 in page
    assert "&lt;b&gt;&amp;" in page
    assert "<dt>Contacts</dt><dd>3</dd>" in page
    assert "<dt>Artifacts</dt><dd>5</dd>" in page
    assert "src=" not in page
    assert "http" not in page
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


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


def test_the_oldest_quiet_connections_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 2)
    connections = Connections()
    assert connections.overdue(["a"], 0.0) == []
    assert connections.overdue(["a", "b"], 1.0) == []
    assert connections.overdue(["a", "b", "c"], 2.0) == ["a"]
    with connections.busy("a"):
        assert connections.overdue(["a", "b", "c"], 3.0) == ["b"]


async def test_progress_of_very_many_labels_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "EVENT_LABELS_MAX", 3)
    feed = ProgressFeed()
    for number in range(10):
        feed.post({"label": str(number)})
    assert len(feed.take()) == 3


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
    from dht import Address

    assert host_names([Address("::1", 80)]) == {
        "[::1]:80", "[::1]", "localhost:80", "localhost"
    }  # fmt: skip
