"""Nodes on loopback, inside the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from node.service import Node
from node.settings import Settings


@asynccontextmanager
async def running(home: Path, *contacts: Node, **more: Any) -> AsyncIterator[Node]:
    """Run a node that joins by `contacts`."""
    settings = Settings(
        home,
        listen=("127.0.0.1:0",),
        web="127.0.0.1:0",
        contacts=tuple(str(one.address) for one in contacts),
        **more,
    )
    node = await Node.start(settings)
    try:
        yield node
    finally:
        await node.stop()


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that the nodes do by themselves."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.05)
