"""What was found damaged is fetched again, also by the node's next run."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

from node.commands import FetchCommand, ListCommand, ShareCommand, VerifyCommand
from node.content import repair
from node.service import Node
from node.settings import Settings

MIB = 1024 * 1024


@asynccontextmanager
async def running(home, *contacts: str, listen: str = "127.0.0.1:0"):
    """Run a node for a while."""
    settings = Settings(home, listen=(listen,), web="127.0.0.1:0", contacts=contacts)
    node = await Node.start(settings)
    try:
        yield node
    finally:
        await node.stop()


async def held(node: Node) -> set[str]:
    """Return the digests of what a node keeps."""
    result = await node.run(ListCommand())
    return {one.digest for one in result.artifacts}


async def test_a_damaged_artifact_is_fetched_again_after_a_restart(
    tmp_path, monkeypatch
):
    """Nobody had it when the damage was found, and somebody has later."""
    monkeypatch.setattr(repair, "FIRST_PAUSE_SECONDS", 0.2)
    file = tmp_path / "file"
    file.write_bytes(os.urandom(MIB))
    async with running(tmp_path / "seeder") as seeder:
        contact = str(seeder.address)
        shared = await seeder.run(ShareCommand(files=[str(file)]))
        digest = shared.artifacts[0].digest
        async with running(tmp_path / "victim", contact) as victim:
            await victim.run(FetchCommand(targets=[digest]))
    name = digest.removeprefix("sha256:")
    stored = tmp_path / "victim" / "store" / "sha256" / name[:2] / name
    stored.chmod(0o600)
    with stored.open("r+b") as damaged:
        damaged.write(b"xxxx")
    async with running(tmp_path / "victim") as victim:
        await victim.run(VerifyCommand())
        assert await held(victim) == set()
    async with (
        running(tmp_path / "seeder") as seeder,
        running(tmp_path / "victim", str(seeder.address)) as victim,
        asyncio.timeout(30),
    ):
        while digest not in await held(victim):  # noqa: ASYNC110 (likewise)
            await asyncio.sleep(0.05)
        while victim.layers.storage.catalogue.damaged():  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.05)
    assert stored.read_bytes() == file.read_bytes()
