"""Reading in order while a file comes; and who was bad is named."""

from __future__ import annotations

import os

import pytest

from tests.transfer import hostile
from tests.transfer.conftest import until
from transfer import Digest, NoPeerError, SeederLimits, WrongBytesError

MIB = 1024 * 1024
DATA = os.urandom(6 * MIB + 77)


async def test_a_reader_gets_the_start_before_the_end_is_there(new_node):
    """And the whole, in order."""
    seeder = await new_node(seeder_limits=SeederLimits(bytes_per_second=4 * MIB))
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    got, early = b"", False
    async for block in leecher.leecher.stream(artifact.digest, [seeder.peer]):
        got += block
        early = early or leecher.leecher.stats.downloads == 1
    assert got == DATA
    assert early
    assert leecher.store.find(artifact.digest)


@pytest.mark.parametrize("size", [0, 20_000, MIB])
async def test_what_is_small_or_held_is_read_as_well(new_node, size):
    seeder, leecher = await new_node(), await new_node()
    artifact = seeder.store.add_bytes(DATA[:size])
    for peers in ([seeder.peer], []):
        blocks = leecher.leecher.stream(artifact.digest, peers)
        assert b"".join([block async for block in blocks]) == DATA[:size]


async def test_a_reader_learns_that_nobody_gives_it(new_node):
    leecher = await new_node()
    with pytest.raises(NoPeerError):
        async for _ in leecher.leecher.stream(Digest.of(DATA), []):
            pass


async def test_a_reader_that_leaves_ends_the_download(new_node):
    seeder = await new_node(seeder_limits=SeederLimits(bytes_per_second=2 * MIB))
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    stream = leecher.leecher.stream(artifact.digest, [seeder.peer])
    assert await anext(stream)
    await stream.aclose()
    assert leecher.leecher.stats.downloads == 0


async def test_a_false_manifest_never_ends_a_stream_well(new_node):
    """The end is held back until the whole file is verified."""
    leecher = await new_node(encryption=False)
    got = b""
    async with hostile.FalseManifest(DATA, places=(5,)) as forger:
        stream = leecher.leecher.stream(Digest.of(DATA), [forger.peer])
        with pytest.raises(WrongBytesError):  # noqa: PT012 (any step may tell)
            async for block in stream:
                got += block
    assert len(got) < len(DATA)


@pytest.mark.parametrize("kind", [hostile.BadChunk, hostile.FalseManifest])
async def test_a_bad_peer_is_named(new_node, kind, caplog):
    """In the log and in the stats, with what it did."""
    leecher = await new_node(encryption=False)
    async with kind(DATA) as bad:
        with pytest.raises(WrongBytesError):
            await leecher.download(Digest.of(DATA), [bad.peer])
        await until(lambda: bool(leecher.leecher.stats.bad_peers))
        (named,) = leecher.leecher.stats.bad_peers.items()
        assert named[0] == str(bad.peer)
        assert Digest.of(DATA).short() in named[1]
        assert str(bad.peer) in caplog.text
