"""Runs `caravan` as a process, and opens a door for it to ask."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.local_socket import listen_local
from node.results import NodeDescription
from node.web import Door

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "token"
DIGEST = "sha256:" + "ab" * 32


class Node:
    """Answers what a test tells it to, and remembers what it was asked."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer or {}
        self.asked: list[Any] = []
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    def describe(self) -> NodeDescription:
        return NodeDescription(
            node_id="ab" * 32, address="127.0.0.1:1", web="127.0.0.1:2", site=None
        )

    async def run(self, command, progress):
        self.asked.append(command)
        self.began.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer == "wait":
            progress({"label": "f", "done": 1, "total": 2, "unit": "bytes"})
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return self.answer


@dataclass
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def environment(home: Path) -> dict[str, str]:
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("CARAVAN")
    }
    return kept | {"CARAVAN_HOME": str(home), "PYTHONPATH": str(ROOT)}


async def begin(home: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.cli.main", *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(home),
        cwd=home,
    )  # fmt: skip


async def end(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert "Traceback" not in err.decode()
    return Ended(process.returncode, out.decode(), err.decode())


async def caravan(home: Path, *arguments: str) -> Ended:
    return await end(await begin(home, *arguments))


@asynccontextmanager
async def running(home: Path, node: Any):
    """Open a door on `node`, and write the node.json that leads there."""
    door = Door(node, TOKEN)
    web = await door.start("127.0.0.1:0")
    door.listen_also(listen_local(home))
    card = {"web": str(web), "token": TOKEN, "pid": os.getpid()}
    (home / "node.json").write_text(json.dumps(card))
    try:
        yield web
    finally:
        await door.stop()
