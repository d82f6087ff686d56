"""What `status` tells of bad peers, and of what package managers were given."""

from __future__ import annotations

import os

import pytest

from node.commands import StatusCommand
from node.results import SourceTraffic
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
                await node.layers.leecher.download(Digest.of(data), [bad.peer])
        status = await node.run(StatusCommand())
    finally:
        await node.stop()
    named = status.transfer.leecher.bad_peers
    assert list(named) == [address]
    assert Digest.of(data).short() in named[address]


async def test_what_package_managers_were_given_counts_over_all_runs(tmp_path):
    settings = Settings(tmp_path, listen=("127.0.0.1:0",), web="127.0.0.1:0")
    for run in (1, 2):
        async with Node(settings) as node:
            traffic = node.traffic()
            traffic.count("origin", 1000, is_whole=True)
            traffic.count("store", 300, is_whole=True)
            traffic.count("peers", 20, is_whole=False)
            status = await node.run(StatusCommand())
        assert status.gateway["origin"] == SourceTraffic(files=1, bytes=1000)
        totals = status.totals
        assert (totals.saved, totals.saved_ever) == (320, 320 * run)
        assert totals.gateway_ever == {
            "origin": SourceTraffic(files=run, bytes=1000 * run),
            "store": SourceTraffic(files=run, bytes=300 * run),
            "peers": SourceTraffic(files=0, bytes=20 * run),
        }
