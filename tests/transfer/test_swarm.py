"""Seeders and leechers on real sockets: one to one, many, late, dying, cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
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
    WrongBytesError,
)
from transfer.digest import ALGORITHM_BYTES

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


async def test_a_cancelled_download_is_resumed(new_node):
    """What arrived is verified again and not fetched again."""
    slow = await new_node(seeder_limits=SLOW)
    quick = await new_node()
    leecher = await new_node()
    for seeder in (slow, quick):
        artifact = seeder.store.add_bytes(DATA)
    call = asyncio.create_task(leecher.download(artifact.digest, [slow.peer]))
    await until(lambda: slow.seeder.stats.chunks_sent >= 6)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert leecher.leecher.stats.downloads == 0
    assert leecher.store.partials.exists(artifact.digest)
    downloaded = await leecher.download(artifact.digest, [quick.peer])
    assert leecher.store.read(downloaded.artifact) == DATA
    assert bytes_by_peer(downloaded)[quick.peer] <= len(DATA) - 3 * 256 * 1024


async def test_a_damaged_partial_file_costs_only_the_damaged_chunk(new_node):
    """The disk is not believed either."""
    slow, quick = await new_node(seeder_limits=SLOW), await new_node()
    leecher = await new_node()
    for seeder in (slow, quick):
        artifact = seeder.store.add_bytes(DATA)
    call = asyncio.create_task(leecher.download(artifact.digest, [slow.peer]))
    await until(lambda: slow.seeder.stats.chunks_sent >= 6)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    (path,) = leecher.store.partials.folder.glob("*.data")
    with path.open("r+b") as file:
        file.write(b"damage")
    downloaded = await leecher.download(artifact.digest, [quick.peer])
    assert leecher.store.read(downloaded.artifact) == DATA


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


async def test_damage_in_the_seeders_store_is_caught_before_it_is_sent(new_node):
    """The copy is set aside; the leecher takes the other peer's."""
    damaged, good, leecher = [await new_node() for _ in range(3)]
    for seeder in (damaged, good):
        artifact = seeder.store.add_bytes(DATA)
    with damaged.store.path(artifact).open("r+b") as file:
        file.seek(MIB)
        file.write(b"damage")
    downloaded = await leecher.download(artifact.digest, [damaged.peer, good.peer])
    assert set(bytes_by_peer(downloaded)) == {good.peer}
    assert damaged.store.artifacts() == []
    assert list((damaged.store.folder / "quarantine").iterdir())


async def test_a_complaint_makes_the_seeder_check_at_once(new_node):
    """Damage that came after the first check is found by a leecher."""
    seeder, leecher = await new_node(), await new_node()
    artifact = seeder.store.add_bytes(DATA)
    path = seeder.store.path(artifact)
    with path.open("r+b") as file:
        file.seek(MIB)
        file.write(b"damage")
    descriptor = os.open(path, os.O_RDONLY)
    # As if the medium had changed the bytes: the signature is that of a check.
    status = os.fstat(descriptor)
    os.close(descriptor)
    seeder.store._signatures[artifact.digest.raw] = (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    with pytest.raises((NoPeerError, WrongBytesError)):
        await leecher.download(artifact.digest, [seeder.peer])
    await until(lambda: seeder.store.artifacts() == [])


async def test_an_artifact_may_be_removed_while_it_is_sent(new_node):
    """Who asked before gets it whole."""
    seeder = await new_node(seeder_limits=SLOW)
    leecher = await new_node()
    artifact = seeder.store.add_bytes(DATA)
    call = asyncio.create_task(leecher.download(artifact.digest, [seeder.peer]))
    await until(lambda: seeder.seeder.stats.chunks_sent > 0)
    await until(lambda: seeder.seeder.stats.connections >= 1)
    seeder.store.remove(artifact.digest)
    downloaded = await call
    assert leecher.store.read(downloaded.artifact) == DATA


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


async def test_a_seeder_killed_in_the_middle_costs_little(new_node, tmp_path):
    """A process with SIGKILL; the others go on."""
    (tmp_path / "data").write_bytes(DATA)
    program = """
        import asyncio, socket, sys
        from pathlib import Path
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from transfer import Identity, Seeder, SeederLimits, Store

        async def main():
            store = Store(Path(sys.argv[1]))
            store.add(Path(sys.argv[2]))
            identity = Identity(Ed25519PrivateKey.generate())
            limits = SeederLimits(bytes_per_second=2 * 1024 * 1024)
            seeder = Seeder(store, identity, limits=limits)
            listener = socket.create_server(("127.0.0.1", 0))
            await seeder.start([listener])
            print(listener.getsockname()[1], identity.public_key.hex(), flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
    """
    process = subprocess.Popen(  # noqa: ASYNC220 (starting it does not block)
        [
            sys.executable,
            "-c",
            textwrap.dedent(program),
            str(tmp_path / "killed"),
            str(tmp_path / "data"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port, key = (await asyncio.to_thread(process.stdout.readline)).split()
        doomed = Peer("127.0.0.1", int(port), bytes.fromhex(key))
        survivor = await new_node(seeder_limits=SLOW)
        artifact = survivor.store.add_bytes(DATA)
        leecher = await new_node()
        done = []
        call = asyncio.create_task(
            leecher.download(
                artifact.digest,
                [doomed, survivor.peer],
                on_progress=lambda count, _: done.append(count),
            )
        )
        await until(lambda: bool(done) and done[-1] > 600_000)
        os.kill(process.pid, signal.SIGKILL)
        downloaded = await call
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert leecher.store.read(downloaded.artifact) == DATA
    assert bytes_by_peer(downloaded)[survivor.peer] > 0
