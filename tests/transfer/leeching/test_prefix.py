"""The whole file's digest, whatever the order in which its chunks come."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from transfer.connection.buffers import own_buffer, part_with_buffer, return_buffer
from transfer.leeching.prefix import PrefixHasher
from transfer.limits import MIB

if TYPE_CHECKING:
    from pathlib import Path

    from transfer.content.digest import Digest

CHUNK_BYTES = MIB // 4
COUNT = 90
THREADS = 4
ENOUGH_SECONDS = 30


class Writers:
    """Threads that write chunks and offer them for hashing, as receivers do."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.data = data
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self.pool = ThreadPoolExecutor(2)
        self.over = threading.Event()
        self.found: list[dict[str, Digest] | OSError] = []
        self._lock = threading.Lock()
        self._written = bytearray(COUNT)
        self.hasher = PrefixHasher(
            self.descriptor,
            len(data),
            algorithms=["sha256"],
            pool=self.pool,
            ended=self._ended,
        )

    def _ended(self, _: PrefixHasher, found: dict[str, Digest] | OSError) -> None:
        self.found.append(found)
        self.over.set()

    def write(self, index: int) -> None:
        offset = index * CHUNK_BYTES
        part = own_buffer()[:CHUNK_BYTES]
        part[:] = self.data[offset : offset + CHUNK_BYTES]
        os.pwrite(self.descriptor, part, offset)
        with self._lock:
            self._written[index] = 1
            prefix = self._written.find(0)
        self.hasher.feed(offset, part)
        self.hasher.advance((COUNT if prefix < 0 else prefix) * CHUNK_BYTES)

    def close(self) -> None:
        self.hasher.stop()
        self.pool.shutdown()
        os.close(self.descriptor)


@pytest.mark.parametrize("shuffled", [1, 3, 12, COUNT])
def test_any_order_gives_the_same_digest(tmp_path: Path, shuffled: int) -> None:
    """Chunks in order, a little out of it or at random: the digest is the same."""
    rng = random.Random(shuffled)
    writers = Writers(tmp_path / "file", rng.randbytes(COUNT * CHUNK_BYTES))
    order = list(range(COUNT))
    for start in range(0, COUNT, shuffled):
        part = order[start : start + shuffled]
        rng.shuffle(part)
        order[start : start + shuffled] = part
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(writers.write, order))
    assert writers.over.wait(ENOUGH_SECONDS)
    writers.close()
    (found,) = writers.found
    assert isinstance(found, dict)
    assert found["sha256"].raw == hashlib.sha256(writers.data).digest()


def test_stopping_lets_go_of_what_was_kept(tmp_path: Path) -> None:
    """Buffers of a download that was given up serve others: twenty in a row."""
    for number in range(20):
        writers = Writers(tmp_path / str(number), bytes(COUNT * CHUNK_BYTES))
        for index in range(1, 10):
            writers.write(index)
        writers.close()
        assert not writers.found
    part = own_buffer()
    assert part_with_buffer()
    return_buffer(part)


def test_a_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    """What cannot be read back ends the hashing, with the reason."""
    writers = Writers(tmp_path / "file", bytes(COUNT * CHUNK_BYTES))
    writers.hasher.advance(COUNT * CHUNK_BYTES)
    assert writers.over.wait(ENOUGH_SECONDS)
    writers.close()
    assert isinstance(writers.found[0], OSError)
