"""The gateway behind a real door, and requests as raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from dht import Address
from node.web import Door
from node.web.gateway.routes import GatewayRoutes
from node.web.gateway.serving import FileSender
from tests.node.doors import TOKEN, Answer, Node, receive, send
from tests.node.gateway.rig import Rig, rig_in


@dataclass
class Opened:
    """A rig whose gateway answers at `address`."""

    rig: Rig
    address: Address
    door: Door

    async def ask(
        self, path: str, method: str = "GET", **headers: str | None
    ) -> Answer:
        """Send one request; a header whose value is None is left out."""
        return await receive(
            *await send(self.address, self.raw(path, method, **headers))
        )

    async def wait_for_connections(self, count: int) -> None:
        """Wait until the door has `count` connections open."""
        async with asyncio.timeout(30):
            room = self.door._server.room
            while len(room) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def wait_for_artifacts(self, count: int) -> None:
        """Wait until that many are held: clients have a file before it is kept."""
        async with asyncio.timeout(30):
            while len(self.rig.store.artifacts()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def raw(self, path: str, method: str = "GET", **headers: str | None) -> bytes:
        named: dict[str, str | None] = {"Host": str(self.address)}
        named |= {name.replace("_", "-"): text for name, text in headers.items()}
        lines = [f"{name}: {text}" for name, text in named.items() if text is not None]
        head = "\r\n".join([f"{method} {path} HTTP/1.0", *lines])
        return head.encode() + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def opened_in(folder: Path, **options: bool) -> AsyncIterator[Opened]:
    """Give a gateway behind a door, closed again whatever happens."""
    async with rig_in(folder, **options) as rig:
        door = Door(Node(), TOKEN, GatewayRoutes(rig.gateway, FileSender(rig.store)))
        try:
            yield Opened(rig, await door.start("127.0.0.1:0"), door)
        finally:
            await door.stop()
