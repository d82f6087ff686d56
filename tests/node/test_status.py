"""What `status` tells of bad peers."""

from __future__ import annotations

import os

import pytest

from node.commands import StatusCommand
from node.service import Node
from node.settings import Settings
from tests.transfer import hostile
from transfer import Digest, WrongBytesError


async def test_a_bad_peer_is_named(tmp_path):
    """With its address, the artifact and what it did."""
    settings = Settings(
        tmp_path, listen=("127.0.0.1:0",), web="127.0.0.1:0", encryption=False
    )
    node = await Node.start(settings)
    data = os.urandom(600_000)
    try:
        async with hostile.BadChunk(data) as bad:
            address = str(bad.peer)
            with pytest.raises(WrongBytesError):
                await node._leecher.download(Digest.of(data), [bad.peer])
        status = await node.run(StatusCommand())
    finally:
        await node.stop()
    named = status.transfer.leecher.bad_peers
    assert list(named) == [address]
    assert Digest.of(data).short() in named[address]
