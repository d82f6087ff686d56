"""Downloads whose disk fails, or loses what was not synced, at every single call."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading

import pytest

from tests.transfer.conftest import TIMEOUT_SECONDS
from tests.transfer.store.test_power import LosingFs
from tests.transfer.store.test_store import ADVICE, FailingFs
from transfer import Store, StoreError
from transfer.store.partial import Partial

CALLS_MAX = 60
CHUNK = 256 * 1024
CHUNKS = os.urandom(5 * CHUNK + 7)
ONE_CHUNK = os.urandom(20_000)


async def fails(node, artifact, peers) -> str | None:
    """Download; return what the error says, None where there was none."""
    try:
        await node.download(artifact.digest, peers)
    except StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("data", [ONE_CHUNK, CHUNKS], ids=["small", "chunks"])
async def test_a_power_cut_at_every_call_of_a_download(new_node, tmp_path, data):
    """Only what is whole is listed afterwards, and the download can go on."""
    seeders = [await new_node(encryption=False) for _ in range(2)]
    for seeder in seeders:
        artifact = seeder.store.add_bytes(data)
    peers = [seeder.peer for seeder in seeders]
    cuts = 0
    for calls in range(1, CALLS_MAX):
        folder = tmp_path / f"cut{calls}"
        Store(folder).close()
        fs = LosingFs(calls, seed=calls)
        with contextlib.suppress(StoreError):  # at the first calls already
            node = await new_node(folder=folder, fs=fs, encryption=False)
            with contextlib.suppress(StoreError):
                await node.download(artifact.digest, peers)
            with contextlib.suppress(StoreError):
                await node.close()
        fs.lose(folder / "store")
        fs.lose(folder / "partial")
        again = await new_node(folder=folder, encryption=False)
        assert [again.store.read(one) for one in again.store.artifacts()] in (
            [],
            [data],
        )
        await again.download(artifact.digest, peers)
        assert again.store.read(artifact) == data
        assert list(again.store.partials.folder.iterdir()) == []
        await again.close()
        cuts += fs.off
        if not fs.off:
            break
    assert not fs.off
    assert cuts >= 4


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("data", [ONE_CHUNK, CHUNKS], ids=["small", "chunks"])
async def test_a_disk_that_fails_once_at_every_call_of_a_download(
    new_node, tmp_path, data, code
):
    """The sentence says what to do, nothing short is kept, and resuming works."""
    seeder = await new_node(encryption=False)
    artifact = seeder.store.add_bytes(data)
    told = []
    for calls in range(1, CALLS_MAX):
        folder = tmp_path / f"leecher{calls}"
        Store(folder).close()
        fs = FailingFs(calls, code)
        try:
            leecher = await new_node(folder=folder, fs=fs, encryption=False)
        except StoreError:
            continue
        said = await fails(leecher, artifact, [seeder.peer])
        done, fs.left = fs.left > 0, 0
        if said is not None:
            told.append(said)
            assert leecher.store.artifacts() == []
            assert await fails(leecher, artifact, [seeder.peer]) is None
        assert leecher.store.read(artifact) == data
        assert list(leecher.store.partials.folder.iterdir()) == []
        await leecher.close()
        if done:
            break
    assert done
    assert len(told) >= 4
    assert all(one.endswith(ADVICE[code]) for one in told)


class FullFs(FailingFs):
    """Has no room from the n-th call on, until somebody makes some."""

    def _step(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise OSError(self.code, os.strerror(self.code))


async def test_a_disk_that_is_full_until_room_is_made(new_node, tmp_path):
    """What had been written before is kept and not fetched again."""
    seeder = await new_node(encryption=False)
    artifact = seeder.store.add_bytes(CHUNKS)
    folder = tmp_path / "full"
    Store(folder).close()
    fs = FullFs(10**6)
    leecher = await new_node(folder=folder, fs=fs, encryption=False)
    seen = asyncio.Event()

    def fill(done: int, _total: int | None) -> None:
        if done >= 2 * CHUNK and not seen.is_set():
            seen.set()
            fs.left = 0

    slow = seeder.seeder._uploads.rate
    slow._rate = 4 * CHUNK
    call = leecher.leecher.download(artifact.digest, [seeder.peer], on_progress=fill)
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with pytest.raises(StoreError, match="free some space"):
            await call
    fs.left, slow._rate = 10**6, None
    seen_again: list[int] = []
    await leecher.download(
        artifact.digest,
        [seeder.peer],
        on_progress=lambda done, _total: seen_again.append(done),
    )
    assert leecher.store.read(artifact) == CHUNKS
    assert seen_again[0] >= 2 * CHUNK


async def test_what_is_on_disk_is_counted_before_anybody_is_asked(new_node):
    """Peers that answer sooner than the disk is read are not asked for it again."""
    seeder, leecher = await new_node(), await new_node()
    data = os.urandom(40 * CHUNK)
    artifact = seeder.store.add_bytes(data)
    partial = leecher.store.partials.begin(artifact.digest)
    partial.adopt(seeder.store.manifest(artifact))
    partial.save_manifest()
    partial.write(0, data[: 38 * CHUNK])
    leecher.store.partials.end(partial)
    began = threading.Event()
    resume = Partial.resume

    def slowly(self, stop):
        began.wait(0.3)
        return resume(self, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Partial, "resume", slowly)
        downloaded = await leecher.download(artifact.digest, [seeder.peer])
    assert leecher.store.read(artifact) == data
    assert sum(source.bytes for source in downloaded.sources) == 2 * CHUNK
    assert seeder.seeder.stats.bytes_sent == 2 * CHUNK
