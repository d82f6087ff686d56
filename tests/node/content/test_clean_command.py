"""`clean` shows before it removes, and keeps what was recovered."""

from __future__ import annotations

import shutil

from node.commands import CleanCommand, ListCommand, ShareCommand
from node.service import Node
from node.settings import Settings


def running(home) -> Node:
    """Make a node to run for a while."""
    return Node(Settings(home, listen=("127.0.0.1:0",), web="127.0.0.1:0", lan=False))


async def share(node, folder, *names):
    files = []
    for name in names:
        path = folder / name
        path.write_text(name * 100)
        files.append(str(path))
    await node.run(ShareCommand(files=files))


async def test_a_dry_run_removes_nothing_and_names_what_would_go(tmp_path):
    async with running(tmp_path / "home") as node:
        await share(node, tmp_path, "one", "two")
        would = await node.run(CleanCommand(keep_bytes=0, dry_run=True))
        assert (would.removed, would.kept, would.dry_run) == (2, 0, True)
        assert {one.file for one in would.artifacts} == {"one", "two"}
        assert (await node.run(ListCommand())).count == 2
        done = await node.run(CleanCommand(keep_bytes=0))
        assert (done.removed, done.bytes, done.bytes_held) == (2, would.bytes, 0)
        assert (await node.run(ListCommand())).count == 0


async def test_after_a_lost_catalogue_everything_counts_as_wanted(tmp_path):
    home = tmp_path / "home"
    async with running(home) as node:
        await share(node, tmp_path, "one", "two")
    for path in home.glob("catalogue.sqlite*"):
        path.unlink()
    async with running(home) as node:
        assert (await node.run(ListCommand())).count == 2
        assert (await node.run(CleanCommand())).removed == 0
    shutil.rmtree(home)
