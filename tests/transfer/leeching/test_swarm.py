"""Seeders and leechers on real sockets: one to one, many, late, dying, cancelled."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from tests.transfer.conftest import TIMEOUT_SECONDS, until, wait_for_no_threads
from transfer import (
    ClosedError,
    Digest,
    LeecherLimits,
    NoPeerError,
    Peer,
    SeederLimits,
)
from transfer.content.digest import ALGORITHM_BYTES

MIB = 1024 * 1024
DATA = os.urandom(3 * MIB + 12_345)
SLOW = SeederLimits(bytes_per_second=4 * MIB)


def bytes_by_peer(downloaded):
    return {source.peer: source.bytes for source in downloaded.sources}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("encryption", [True, False], ids=["tls", "plaintext"])
@pytest.mark.parametrize("size", [0, 1, 20_480, 262_144, 262_145, len(DATA)])
async def test_one_seeder(new_node, host, encryption, size):
    """Every size arrives, over both families, with and without TLS."""
    seeder = await new_node(host=host, encryption=encryption)
    leecher = await new_node(host=host, encryption=encryption)
    artifact = seeder.store.add_bytes(DATA[:size])
    told = []
    downloaded = await leecher.download(
        artifact.digest, [seeder.peer], on_progress=lambda *step: told.append(step)
    )
    assert leecher.store.read(downloaded.artifact) == DATA[:size]
    assert downloaded.artifact.manifest_digest == artifact.manifest_digest
    assert bytes_by_peer(downloaded) == {seeder.peer: size}
    assert told[-1] == (size, size)
    assert list(leecher.store.partials.folder.iterdir()) == []


@pytest.mark.parametrize("algorithm", sorted(ALGORITHM_BYTES))
@pytest.mark.parametrize("size", [20_000, len(DATA)])
async def test_any_algorithm_may_ask(new_node, algorithm, size):
    """The file is verified with what was asked, and named by its SHA-256."""
    seeder, leecher = await new_node(), await new_node()
    data = DATA[:size]
    seeder.store.add_bytes(data)
    asked = Digest.of(data, algorithm)
    downloaded = await leecher.download(asked, [seeder.peer])
    assert downloaded.artifact.digest == Digest.of(data)
    assert asked in downloaded.artifact.digests
    assert leecher.store.find(asked) == leecher.store.find(Digest.of(data))


async def test_aliases_follow_a_download(new_node):
    """They are computed in the background, and told."""
    seeder, leecher = await new_node(), await new_node()
    told = []
    leecher.store.on_aliases = told.append
    artifact = seeder.store.add_bytes(DATA)
    await leecher.download(artifact.digest, [seeder.peer])
    await until(lambda: bool(told))
    assert told[0].aliases == artifact.aliases


async def test_what_is_held_is_not_fetched(new_node):
    """There are no sources then."""
    leecher = await new_node()
    artifact = leecher.store.add_bytes(DATA)
    downloaded = await leecher.download(artifact.digest, [])
    assert downloaded.artifact == artifact
    assert downloaded.sources == []


async def test_three_seeders_share_the_work(new_node):
    """Each gives chunks that the others do not give."""
    data = os.urandom(12 * MIB)
    seeders = [await new_node(seeder_limits=SLOW) for _ in range(3)]
    for seeder in seeders:
        artifact = seeder.store.add_bytes(data)
    leecher = await new_node()
    downloaded = await leecher.download(artifact.digest, [s.peer for s in seeders])
    given = bytes_by_peer(downloaded)
    assert set(given) == {seeder.peer for seeder in seeders}
    assert sum(given.values()) == len(data)
    assert min(given.values()) >= MIB


async def test_peers_may_come_late(new_node):
    """They join a download that is under way, or one that waits for them."""
    first, second = await new_node(seeder_limits=SLOW), await new_node()
    leecher = await new_node()
    for seeder in (first, second):
        artifact = seeder.store.add_bytes(DATA)

    async def found():
        await asyncio.sleep(0)
        yield Peer("127.0.0.1", free_port())
        yield first.peer
        await until(lambda: first.seeder.stats.chunks_sent > 0)
        yield second.peer

    downloaded = await leecher.download(artifact.digest, found())
    assert set(bytes_by_peer(downloaded)) == {first.peer, second.peer}


async def test_without_a_peer_it_fails_fast(new_node):
    """Nobody named, nobody reachable, nobody who has it."""
    leecher, other = await new_node(), await new_node()
    digest = Digest.of(DATA)
    for peers in ([], [Peer("127.0.0.1", free_port())], [other.peer]):
        with pytest.raises(NoPeerError):
            await leecher.download(digest, peers)
    assert list(leecher.store.partials.folder.iterdir()) == []


async def test_a_failing_search_fails_the_download(new_node):
    """What the iterator raises is not swallowed."""
    leecher = await new_node()

    async def broken():
        raise RuntimeError("no network")
        yield

    with pytest.raises(RuntimeError, match="no network"):
        await leecher.download(Digest.of(DATA), broken())


async def test_leechers_pass_chunks_on_while_they_download(new_node):
    """A chain: the last one has only a leecher beside a slow seeder."""
    data = os.urandom(8 * MIB)
    seeder = await new_node(seeder_limits=SLOW)
    artifact = seeder.store.add_bytes(data)
    middle, last = await new_node(), await new_node()
    first = asyncio.create_task(middle.download(artifact.digest, [seeder.peer]))
    await until(lambda: middle.leecher.stats.downloads == 1)
    await until(lambda: seeder.seeder.stats.chunks_sent > 4)
    downloaded = await last.download(artifact.digest, [middle.peer, seeder.peer])
    await first
    assert last.store.read(downloaded.artifact) == data
    assert bytes_by_peer(downloaded)[middle.peer] > 0


async def test_only_leechers_is_not_enough(new_node):
    """They vouch for nothing, so a download that meets only them gives up."""
    seeder = await new_node(seeder_limits=SeederLimits(bytes_per_second=200_000))
    artifact = seeder.store.add_bytes(DATA)
    limits = LeecherLimits(vouching_seconds=0.2)
    middle, last = await new_node(), await new_node(leecher_limits=limits)
    first = asyncio.create_task(middle.download(artifact.digest, [seeder.peer]))
    await until(lambda: middle.store.partials.is_open(artifact.digest))
    with pytest.raises(NoPeerError, match="has all of it"):
        await last.download(artifact.digest, [middle.peer])
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_what_was_downloaded_is_offered(new_node):
    """The first seeder may go then."""
    first, second, third = [await new_node() for _ in range(3)]
    artifact = first.store.add_bytes(DATA)
    gone = first.peer
    await second.download(artifact.digest, [gone])
    await first.stop_seeding()
    downloaded = await third.download(artifact.digest, [gone, second.peer])
    assert set(bytes_by_peer(downloaded)) == {second.peer}


async def test_several_callers_share_one_download(new_node):
    """Nothing is sent twice; one caller's end does not end the others'."""
    seeder = await new_node(seeder_limits=SLOW)
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    calls = [
        asyncio.create_task(leecher.download(artifact.digest, [seeder.peer]))
        for _ in range(3)
    ]
    await until(lambda: seeder.seeder.stats.chunks_sent > 0)
    calls[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] is results[2]
    assert seeder.seeder.stats.bytes_sent == len(DATA)


async def test_closing_ends_everything_within_a_second(new_node):
    """Downloads are cancelled, threads are gone, partial files stay."""
    seeder = await new_node(seeder_limits=SeederLimits(bytes_per_second=100_000))
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    call = asyncio.create_task(leecher.download(artifact.digest, [seeder.peer]))
    await until(lambda: bool(seeder.seeder.stats.uploads))
    await until(lambda: leecher.store.partials.is_open(artifact.digest))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await leecher.leecher.close()
        with pytest.raises(ClosedError):
            await call
        await seeder.close()
        seeder.store.close()
        leecher.store.close()
    wait_for_no_threads()
    with pytest.raises(ClosedError):
        await leecher.download(artifact.digest, [])


async def test_nothing_is_leaked(new_node, tmp_path):
    """After many downloads as many descriptors are open as before."""
    seeder, leecher = await new_node(), await new_node()
    artifacts = [
        seeder.store.add_bytes(os.urandom(300_000 * (i % 2) + 9)) for i in range(30)
    ]
    await leecher.download(artifacts[0].digest, [seeder.peer])
    await leecher.download(artifacts[1].digest, [seeder.peer])
    before = descriptors()
    for artifact in artifacts:
        await leecher.download(artifact.digest, [seeder.peer])
    await until(lambda: descriptors() <= before)
    assert seeder.seeder.stats.connections == 1
    await leecher.close()
    await seeder.close()
    wait_for_no_threads()


async def test_a_rate_limit_holds(new_node):
    """Upload and download limits, over a whole download."""
    loop = asyncio.get_running_loop()
    rate = 6 * MIB
    seeder = await new_node(seeder_limits=SeederLimits(bytes_per_second=rate))
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    began = loop.time()
    await leecher.download(artifact.digest, [seeder.peer])
    assert loop.time() - began >= 0.9 * (len(DATA) / rate - 0.1)
    other = await new_node(leecher_limits=LeecherLimits(bytes_per_second=rate))
    began = loop.time()
    await other.download(artifact.digest, [leecher.peer])
    assert loop.time() - began >= 0.9 * (len(DATA) / rate - 0.1)
