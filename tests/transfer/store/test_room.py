"""Room: bounds of the store and of its disk, and a fullness that ends by itself."""

from __future__ import annotations

import os
import threading

import pytest

from transfer import Store, StoreError
from transfer.errors import FullError
from transfer.store.room import Room


def test_reservations_and_what_is_held_add_up():
    room = Room(1, 60, 100)
    room.reserve(30)
    assert not room.has(11)
    assert room.lacking(11) == 1
    with pytest.raises(FullError):
        room.reserve(11)
    room.end_reservation(30, count=1, held=30)
    assert (room.count, room.held) == (2, 90)
    room.release(60)
    assert (room.count, room.held) == (1, 30)
    room.reserve(70)


def test_a_size_that_never_fits_is_refused_and_evicts_nothing():
    room = Room(1, 60, 100)
    room.evict = pytest.fail
    room.check(100)
    with pytest.raises(FullError, match="raise store_bytes"):
        room.check(101)


def test_evictions_come_one_by_one():
    """What the first removes may be enough for the others."""
    room = Room(10, 100, 100)
    evicted = []

    def evict(size):
        evicted.append(size)
        room.release(50)

    room.evict = evict
    threads = [threading.Thread(target=room.reserve, args=(10,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert evicted == [10]


def test_fullness_ends_when_there_is_room():
    """Said as long as what was refused last would be refused again."""
    room = Room(1, 90, 100)
    assert room.fullness is None
    with pytest.raises(FullError):
        room.reserve(20)
    assert "raise store_bytes" in (room.fullness or "")
    room.release(90)
    assert room.fullness is None
    room.trouble = lambda: StoreError("The catalogue failed: disk is full.")
    assert "disk is full" in (room.fullness or "")


def test_the_disk_keeps_bytes_for_others(tmp_path):
    """What is held gives way first; then it is said what to do."""
    store = Store(tmp_path / "home")
    first = store.add_bytes(os.urandom(5_000))
    free = [10_000]
    store.room.free_min, store.room.disk_free = 9_000, lambda: free[0]
    second = store.add_bytes(b"fits")
    free[0] = 8_000

    def evict(_size):
        if store.find(first.digest) is not None:
            store.remove(first.digest)
            free[0] += 5_000

    store.room.evict = evict
    third = store.add_bytes(b"makes room")
    assert {one.digest for one in store.artifacts()} == {second.digest, third.digest}
    free[0] = 8_000
    with pytest.raises(StoreError, match="free some space on the disk"):
        store.add_bytes(b"none left")
    with pytest.raises(StoreError, match="free some space on the disk"):
        store.room.check(1)
    assert "8000 bytes left" in (store.room.fullness or "")
    free[0] = 20_000
    assert store.room.fullness is None
    store.close()


def test_a_download_writes_until_too_little_is_free_and_evicts_before_that():
    room = Room(1, 60, 100)
    room.free_min = 20
    free = [25]
    room.disk_free = lambda: free[0]
    room.make_disk_room(10)
    free[0] = 15
    with pytest.raises(FullError, match="The disk has 15 bytes left"):
        room.make_disk_room(10)
    evicted = []

    def evict(size: int) -> None:
        evicted.append(size)
        free[0] = 40

    room.evict = evict
    room.make_disk_room(10)
    assert evicted == [10]


def test_what_is_too_large_for_the_disk_alone_is_told_so():
    room = Room(0, 0, 100)
    room.free_min = 10
    room.disk_free = lambda: 30
    with pytest.raises(FullError, match="The disk has 30 bytes left"):
        room.check(50)
    with pytest.raises(FullError, match="at most 100 bytes"):
        room.check(150)
