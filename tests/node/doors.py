"""A door on a node that does the least, and a client that writes any request."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from node.commands import FetchCommand, LeaveCommand, LookupCommand, StatusCommand
from node.errors import NobodyOffersError
from node.results import (
    LimitsStatus,
    NodeDescription,
    StatusResult,
    TrafficTotals,
    TransferStatus,
)
from node.web import Door
from transfer import LeecherStats, SeederStats

TOKEN = "a-token-for-this-test"


STATUS = StatusResult(
    node_id="ab" * 32,
    address="<b>&",
    web="here",
    site=None,
    contacts=3,
    artifacts=5,
    bytes_held=0,
    downloads=0,
    uploads=0,
    transfer=TransferStatus(
        seeder=SeederStats(
            connections=0, uploads=0, chunks_sent=0, bytes_sent=0, refused={}
        ),
        leecher=LeecherStats(downloads=0, bytes_received=0),
    ),
    version="0.2.0",
    network="caravan",
    home="/home/you",
    log="/home/you/node.log",
    uptime_seconds=61.0,
    totals=TrafficTotals(sent=1, received=2, sent_ever=3, received_ever=4),
    limits=LimitsStatus(
        store_bytes=None,
        upload_bytes_per_second=1024,
        download_bytes_per_second=None,
    ),
    dht={},
)


class Node:
    """The least that the door serves: it answers, counts, waits and fails."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.commands: list[object] = []

    def describe(self) -> NodeDescription:
        return NodeDescription(node_id="ab" * 32, address="<b>&", web="here", site=None)

    async def run(self, command, progress):
        self.commands.append(command)
        match command:
            case StatusCommand():
                return STATUS
            case LookupCommand(digest="nobody"):
                raise NobodyOffersError("nobody offers it", details={"providers": []})
            case LeaveCommand():
                self.began.set()
            case LookupCommand(digest="break"):
                raise RuntimeError("a secret detail")
            case LookupCommand(digest="disk"):
                raise OSError(28, "No space left on device", "/somewhere")
            case FetchCommand(targets=["many"]):
                for done in range(100_000):
                    progress(event(done))
                return {"artifacts": []}
            case FetchCommand():
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
