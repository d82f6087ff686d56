"""What breaks meanwhile: processes, files, the medium; and what it costs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.transfer.conftest import TIMEOUT_SECONDS, until
from transfer import (
    NoPeerError,
    Peer,
    SeederLimits,
    WrongBytesError,
)
from transfer.leeching.download import Download
from transfer.leeching.peer_connection import Outcome, PeerConnection
from transfer.leeching.swarm import Swarm

MIB = 1024 * 1024
DATA = os.urandom(3 * MIB + 12_345)
SLOW = SeederLimits(bytes_per_second=4 * MIB)


def bytes_by_peer(downloaded):
    return {source.peer: source.bytes for source in downloaded.sources}


async def begin_and_cancel(leecher, artifact, seeder) -> None:
    """Download at least four chunks, and then no more."""
    enough = asyncio.Event()

    def count(done: int, total: int | None) -> None:
        if done >= 4 * 256 * 1024:
            enough.set()

    call = asyncio.create_task(
        leecher.download(artifact.digest, [seeder.peer], on_progress=count)
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await enough.wait()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call


async def test_a_cancelled_download_is_resumed(new_node):
    """What arrived is verified again and not fetched again."""
    slow = await new_node(seeder_limits=SLOW)
    quick = await new_node()
    leecher = await new_node()
    for seeder in (slow, quick):
        artifact = seeder.store.add_bytes(DATA)
    await begin_and_cancel(leecher, artifact, slow)
    assert leecher.leecher.stats.downloads == 0
    assert leecher.store.partials.exists(artifact.digest)
    downloaded = await leecher.download(artifact.digest, [quick.peer])
    assert leecher.store.read(downloaded.artifact) == DATA
    assert bytes_by_peer(downloaded)[quick.peer] <= len(DATA) - 4 * 256 * 1024


async def test_a_damaged_partial_file_costs_only_the_damaged_chunk(new_node):
    """The disk is not believed either."""
    slow, quick = await new_node(seeder_limits=SLOW), await new_node()
    leecher = await new_node()
    for seeder in (slow, quick):
        artifact = seeder.store.add_bytes(DATA)
    await begin_and_cancel(leecher, artifact, slow)
    (path,) = leecher.store.partials.folder.glob("*.data")
    with path.open("r+b") as file:
        file.write(b"damage")
    downloaded = await leecher.download(artifact.digest, [quick.peer])
    assert leecher.store.read(downloaded.artifact) == DATA


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
    seeder.store.committer.trust(
        artifact.digest,
        (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns),
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


async def test_a_thread_that_comes_back_after_the_end_is_not_waited_for(
    new_node, monkeypatch
):
    """The last chunk came over another one; this one hears of the end too late."""
    receive = PeerConnection.receive
    waited = []

    def late(peer):
        outcome = receive(peer)
        if outcome is Outcome.NO_WORK:
            waited.append(peer._assembly.over.wait(TIMEOUT_SECONDS))
        return outcome

    graceful = []
    end = Swarm.end

    async def watched(swarm, *, gently):
        graceful.extend(one.task for one in swarm._active)
        await end(swarm, gently=gently)

    def hashed_later(download, hasher, whole):
        """Let the thread come back before the end, however fast that is."""
        download._loop.call_soon_threadsafe(
            download._loop.call_later, 0.2, download._hashed, hasher, whole
        )

    monkeypatch.setattr(Download, "_hashed_in_thread", hashed_later)
    monkeypatch.setattr(PeerConnection, "receive", late)
    monkeypatch.setattr(Swarm, "end", watched)
    seeder, leecher = await new_node(), await new_node()
    artifact = seeder.store.add_bytes(DATA)
    downloaded = await leecher.download(artifact.digest, [seeder.peer])
    assert waited == [True]
    assert not any(task.cancelled() for task in graceful)
    assert leecher.store.read(downloaded.artifact) == DATA
