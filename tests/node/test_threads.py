"""A program that starts and stops nodes keeps no thread of theirs."""

from __future__ import annotations

import threading

from node.commands import ShareCommand
from tests.node.running import running, until


async def test_a_node_that_stopped_leaves_no_thread(tmp_path):
    before = set(threading.enumerate())
    file = tmp_path / "file.bin"
    file.write_bytes(b"some content")

    def own() -> list[str]:
        """Return the threads that came since, without those of the event loop."""
        came = set(threading.enumerate()) - before
        return [one.name for one in came if not one.name.startswith("asyncio")]

    async with running(tmp_path / "home") as node:
        await node.run(ShareCommand(files=[str(file)]))
        assert own()
    await until(lambda: not own())
