"""Real nodes that fetch the same thing at once give it to each other."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack

from node.commands import FetchCommand, ShareCommand
from node.service import Node
from node.settings import Settings

MIB = 1024 * 1024
UPLOAD_BYTES_PER_SECOND = 4 * MIB


async def test_six_nodes_that_fetch_at_once_swarm(tmp_path):
    """Only the seeder is announced; the others hear of each other from it."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(6 * MIB))
    async with AsyncExitStack() as stack:

        async def start(name: str, *contacts: str, **options) -> Node:
            node = await Node.start(
                Settings(
                    tmp_path / name,
                    listen=("127.0.0.1:0",),
                    web="127.0.0.1:0",
                    contacts=contacts,
                    **options,
                )
            )
            stack.push_async_callback(node.stop)
            return node

        seeder = await start("seeder", upload_bytes_per_second=UPLOAD_BYTES_PER_SECOND)
        first = str(seeder.address)
        crowd = [await start(f"node{number}", first) for number in range(6)]
        shared = await seeder.run(ShareCommand(files=[str(file)]))
        digest = shared.artifacts[0].digest
        calls = (node.run(FetchCommand(targets=[digest])) for node in crowd)
        async with asyncio.timeout(60):
            found = await asyncio.gather(*calls)
    addresses = {str(node.address) for node in crowd}
    given = {first: 0}
    for result in found:
        (artifact,) = result.artifacts
        sources = {one.address: one.bytes for one in artifact.sources}
        assert sum(sources.values()) == 6 * MIB
        assert addresses & sources.keys()
        given[first] += sources.get(first, 0)
    assert given[first] <= 3 * 6 * MIB
