"""Bad peers: nothing of theirs is committed, and they cost little."""

from __future__ import annotations

import dataclasses
import os

import pytest

from tests.transfer import hostile
from transfer import Digest, LeecherLimits, NoPeerError, WrongBytesError

DATA = os.urandom(1_500_000)
SMALL = os.urandom(20_000)
LIMITS = LeecherLimits(
    snub_seconds_min=0.3,
    answer_seconds=2.0,
    stall_seconds=2.0,
    pace_window_seconds=1.0,
    patience_seconds=3.0,
    opening_seconds=1.5,
)


async def quick_node(new_node, **options):
    return await new_node(encryption=False, leecher_limits=LIMITS, **options)


@pytest.mark.parametrize("data", [DATA, SMALL], ids=["chunks", "small"])
@pytest.mark.parametrize(
    "kind",
    [*hostile.LIARS, *hostile.LOAFERS, *hostile.FORGERS, hostile.EndlessData],
    ids=lambda kind: kind.__name__,
)
async def test_one_bad_peer_among_good_ones(new_node, kind, data):
    """The artifact arrives, from the honest peer."""
    honest, leecher = await quick_node(new_node), await quick_node(new_node)
    artifact = honest.store.add_bytes(data)
    async with kind(data) as bad:
        downloaded = await leecher.download(artifact.digest, [bad.peer, honest.peer])
    assert leecher.store.read(downloaded.artifact) == data
    assert leecher.store.artifacts() == [downloaded.artifact]


@pytest.mark.parametrize("data", [DATA, SMALL], ids=["chunks", "small"])
@pytest.mark.parametrize("kind", hostile.LIARS, ids=lambda kind: kind.__name__)
async def test_only_liars(new_node, kind, data):
    """Every byte was wrong: that is said, and nothing is kept."""
    if kind is hostile.Unasked and data is SMALL:
        data = DATA
    if kind is hostile.OtherChunk and data is SMALL:
        data = DATA
    leecher = await quick_node(new_node)
    async with kind(data) as first, kind(data) as second:
        with pytest.raises(WrongBytesError):
            await leecher.download(Digest.of(data), [first.peer, second.peer])
    assert leecher.store.artifacts() == []


@pytest.mark.parametrize("kind", hostile.FORGERS, ids=lambda kind: kind.__name__)
async def test_only_forgers(new_node, kind):
    """A manifest that leads to other bytes is found out by the whole's digest."""
    leecher = await quick_node(new_node)
    async with kind(DATA) as forger:
        with pytest.raises(WrongBytesError):
            await leecher.download(Digest.of(DATA), [forger.peer])
    assert leecher.store.artifacts() == []
    assert list(leecher.store.partials.folder.iterdir()) == []


@pytest.mark.parametrize("kind", hostile.LOAFERS, ids=lambda kind: kind.__name__)
async def test_only_loafers(new_node, kind):
    """Nobody gave it: that is said, and does not hang."""
    leecher = await quick_node(new_node)
    async with kind(DATA) as loafer:
        with pytest.raises(NoPeerError):
            await leecher.download(Digest.of(DATA), [loafer.peer])
    assert leecher.store.artifacts() == []


async def test_a_liar_is_asked_once(new_node):
    """It is banned for this artifact at its first bad chunk, and told of it."""
    honest, leecher = await quick_node(new_node), await quick_node(new_node)
    artifact = honest.store.add_bytes(DATA)
    async with hostile.BadChunk(DATA) as liar:
        await leecher.download(artifact.digest, [liar.peer, honest.peer])
        assert liar.connections == 1
        assert len(liar.chunks_asked) <= 3


async def test_a_colluding_majority_costs_only_the_disputed_chunks(new_node):
    """What both manifests name alike is not fetched again."""
    honest, leecher = await quick_node(new_node), await quick_node(new_node)
    data = os.urandom(5_000_000)
    artifact = honest.store.add_bytes(data)
    places = (300_000, 4_000_000)
    async with (
        hostile.FalseManifest(data, places=places) as first,
        hostile.FalseManifest(data, places=places) as second,
    ):
        peers = [first.peer, second.peer, honest.peer]
        downloaded = await leecher.download(artifact.digest, peers)
    assert leecher.store.read(downloaded.artifact) == data
    given = sum(source.bytes for source in downloaded.sources)
    assert given <= len(data) + 2 * 2 * 256 * 1024


async def test_a_named_manifest_or_size_keeps_forgers_out(new_node):
    """Where the caller knows them, a false manifest costs nothing."""
    honest, leecher = await quick_node(new_node), await quick_node(new_node)
    artifact = honest.store.add_bytes(DATA)
    async with hostile.FalseManifest(DATA) as forger, hostile.WrongSize(DATA) as other:
        await leecher.download(
            artifact.digest,
            [forger.peer, other.peer, honest.peer],
            size=artifact.size,
            manifest_digest=artifact.manifest_digest,
        )
        assert forger.chunks_asked == other.chunks_asked == []


async def test_many_tarpits_do_not_keep_the_honest_peer_waiting(new_node):
    """Late openings and answers give their place to others."""
    honest = await quick_node(new_node)
    limits = dataclasses.replace(LIMITS, opening_soft_seconds=0.1)
    leecher = await new_node(encryption=False, leecher_limits=limits)
    artifact = honest.store.add_bytes(DATA)
    tarpits = [hostile.SilentOnGet(DATA) for _ in range(9)]
    for tarpit in tarpits:
        await tarpit.__aenter__()
    try:
        peers = [*(tarpit.peer for tarpit in tarpits), honest.peer]
        downloaded = await leecher.download(artifact.digest, peers)
        assert [source.peer for source in downloaded.sources if source.bytes] == [
            honest.peer
        ]
    finally:
        for tarpit in tarpits:
            await tarpit.__aexit__()


async def test_a_fifth_of_bad_peers_wastes_little(new_node):
    """Each is banned at its first wrong chunk; nothing wrong is committed."""
    data = os.urandom(20 * 1024 * 1024)
    honest = [await quick_node(new_node) for _ in range(8)]
    for node in honest:
        artifact = node.store.add_bytes(data)
    leecher = await quick_node(new_node)
    async with hostile.BadChunk(data) as liar, hostile.SilentOnGet(data) as tarpit:
        peers = [liar.peer, tarpit.peer, *(node.peer for node in honest)]
        downloaded = await leecher.download(artifact.digest, peers)
        sent = sum(node.seeder.stats.bytes_sent for node in honest)
        sent += len(liar.chunks_asked) * 256 * 1024
    assert leecher.store.read(downloaded.artifact) == data
    assert sent <= 1.02 * len(data) + 2 * 256 * 1024
