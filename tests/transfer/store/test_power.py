"""A medium that loses what was not synced, and one that fails at every single write."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest

from tests.transfer import hostile
from transfer import Digest, NoPeerError, Store, StoreError, WrongBytesError
from transfer.store.fs import Fs

DATA = os.urandom(700_000)
PAGE_BYTES = 4096
SMALL = [os.urandom(2_000 + number) for number in range(5)]


class LosingFs(Fs):
    """Goes off at the n-th call, and forgets then what was not synced."""

    def __init__(self, calls: int, seed: int) -> None:
        self.left = calls
        self.off = False
        self._rng = random.Random(seed)
        self._unsynced: set[int] = set()
        self._named: list[tuple] = []

    def _step(self) -> None:
        self.left -= 1
        self.off = self.off or self.left == 0
        if self.off:
            raise OSError(errno.EIO, "the power is off")

    def create(self, path):
        self._step()
        descriptor = super().create(path)
        self._named.append((None, Path(path)))
        return descriptor

    def write(self, descriptor, data, offset):
        self._step()
        super().write(descriptor, data, offset)
        self._unsynced.add(os.fstat(descriptor).st_ino)

    def clone(self, source, target):
        return False

    def set_length(self, descriptor, length):
        self._step()
        super().set_length(descriptor, length)

    def sync(self, descriptor):
        self._step()
        super().sync(descriptor)
        self._unsynced.discard(os.fstat(descriptor).st_ino)

    def sync_folder(self, path):
        self._step()
        super().sync_folder(path)
        self._named = [pair for pair in self._named if pair[1].parent != Path(path)]

    def rename(self, source, target):
        self._step()
        super().rename(source, target)
        self._named.append((Path(source), Path(target)))

    def remove(self, path):
        self._step()
        super().remove(path)

    def _damage(self, path) -> None:
        """Cut a file, or keep its length and lose some of its pages."""
        size = path.stat().st_size
        if self._rng.random() < 0.5:
            os.truncate(path, self._rng.randrange(size + 1))
            return
        with path.open("r+b") as file:
            for offset in range(0, size, PAGE_BYTES):
                if self._rng.random() < 0.3:
                    file.seek(offset)
                    file.write(bytes(min(PAGE_BYTES, size - offset)))

    def lose(self, folder) -> None:
        """Leave what a disk may hold after the power came back."""
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_ino in self._unsynced:
                self._damage(path)
        for source, target in reversed(self._named):
            if self._rng.random() < 0.5 and target.exists():
                if source is None:
                    target.unlink()
                else:
                    target.rename(source)


def act(store, file, kept) -> None:
    """Bring in a file and a group of small ones, and remove one of them."""
    from transfer.content.hashing import ContentsHasher

    kept[store.add(file).digest] = DATA
    entries = []
    for data in SMALL:
        with ContentsHasher(len(data)) as hasher:
            hasher.update(data)
            entries.append((data, hasher.contents()))
    for artifact, data in zip(store.add_group(entries), SMALL, strict=True):
        kept[artifact.digest] = data
    doomed = next(iter(kept))
    del kept[doomed]
    store.remove(doomed)


@pytest.mark.parametrize("calls", range(1, 45))
def test_a_power_cut_loses_nothing_that_was_kept(tmp_path, calls):
    """At whichever call it comes: all that is listed is right, all kept is listed."""
    file = tmp_path / "file"
    file.write_bytes(DATA)
    home = tmp_path / "home"
    Store(home).close()
    fs = LosingFs(calls, seed=calls)
    store = Store(home, fs=fs)
    kept: dict = {}
    try:
        act(store, file, kept)
    except StoreError as error:
        assert str(error).endswith(".")  # noqa: PT017 (only some calls fail)
    finally:
        store.close()
    fs.lose(home / "store")
    fs.lose(home / "partial")
    again = Store(home)
    listed = {artifact.digest: again.read(artifact) for artifact in again.artifacts()}
    contents = {DATA, *SMALL}
    assert set(listed.values()) <= contents
    assert {name: listed.get(name) for name in kept} == kept
    again.close()


def test_the_store_never_holds_more_than_its_cap(tmp_path):
    """It asks for room, takes what it gets, and says one sentence else."""
    store = Store(tmp_path / "home", bytes_max=10_000)
    first = store.add_bytes(os.urandom(6_000))
    with pytest.raises(StoreError, match="raise store_bytes"):
        store.add_bytes(os.urandom(6_000))
    assert store.artifacts() == [first]
    assert store.bytes_held == 6_000
    assert store.add_bytes(store.read(first)) == first
    store.room.evict = lambda size: store.remove(first.digest)
    second = store.add_bytes(os.urandom(6_000))
    assert store.artifacts() == [second]
    assert list(store.partials.folder.iterdir()) == []
    store.close()


async def test_a_download_that_has_no_room_fails_at_once(new_node):
    """Before its chunks are fetched, and with the sentence that helps."""
    seeder, leecher = await new_node(), await new_node()
    leecher.store.room.bytes_max = 1_000_000
    artifact = seeder.store.add_bytes(os.urandom(3_000_000))
    with pytest.raises(StoreError, match="raise store_bytes"):
        await leecher.download(artifact.digest, [seeder.peer])
    assert seeder.seeder.stats.bytes_sent <= 1_000_000


async def test_a_claimed_size_evicts_nothing(new_node):
    """Room is made for verified bytes only; whatever a liar sends is not."""
    leecher = await new_node(encryption=False)
    store = leecher.store
    kept = await asyncio.to_thread(store.add_bytes, os.urandom(100_000))
    evictions = []
    store.room.bytes_max = 700_000
    store.room.evict = evictions.append
    lie = os.urandom(690_000)
    async with hostile.Hostile(lie) as liar:
        with pytest.raises((NoPeerError, WrongBytesError)):
            await leecher.download(Digest.of(b"what nobody has"), [liar.peer])
        assert liar.bytes_sent >= len(lie)
    assert evictions == []
    assert store.artifacts() == [kept]
