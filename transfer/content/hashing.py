"""Computing digests of files: many algorithms in one pass over the bytes.

hashlib and BLAKE3 release the interpreter lock, so that the algorithms share
the processor's cores; each buffer is read once and stays in the cache.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.content.digest import (
    ALGORITHM_BYTES,
    NAME_ALGORITHM,
    Digest,
    Hash,
    new_hash,
)
from transfer.content.manifest import Manifest, ManifestHasher, chunk_digest
from transfer.errors import ClosedError
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed import ReadableBuffer

_THREADS_MAX = 4
_NICENESS = 10


@dataclass(frozen=True, slots=True)
class Contents:
    """What the bytes of a file say about it."""

    digests: dict[str, Digest]
    manifest: Manifest

    @property
    def name(self) -> Digest:
        """The SHA-256."""
        return self.digests[NAME_ALGORITHM]


class ContentsHasher:
    """Takes in a stream of known size once; use it as a context manager."""

    def __init__(
        self, size: int, algorithms: Iterable[str] = tuple(ALGORITHM_BYTES)
    ) -> None:
        self._manifest = ManifestHasher(size)
        self._hashes = {name: new_hash(name) for name in algorithms}
        self._pool: ThreadPoolExecutor | None = None
        self._pending: list[Future[None]] = []
        if size > BUFFER_BYTES:
            threads = min(_THREADS_MAX, os.cpu_count() or 1)
            self._pool = ThreadPoolExecutor(threads, "caravan-hash")

    def __enter__(self) -> ContentsHasher:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def update(self, data: ReadableBuffer) -> None:
        """Take in the next bytes; they may change afterwards."""
        self.feed(data)
        self._finish()

    def feed(self, data: ReadableBuffer) -> None:
        """Take in the next bytes, which must not change before the call after this.

        So the next can be read into another buffer while these are hashed.
        """
        takers: list[Hash | ManifestHasher] = [self._manifest, *self._hashes.values()]
        if self._pool is None:
            for taker in takers:
                taker.update(data)
            return
        self._finish()  # each hash takes them in their order
        self._pending = [self._pool.submit(taker.update, data) for taker in takers]

    def _finish(self) -> None:
        """Wait until what was fed is taken in."""
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def contents(self) -> Contents:
        """Return all digests and the manifest of what was taken in."""
        self._finish()
        digests = {
            name: Digest(name, state.digest()) for name, state in self._hashes.items()
        }
        return Contents(digests, self._manifest.manifest())


def blocks(
    descriptor: int,
    size: int,
    stop: threading.Event | None = None,
    *,
    buffers: int = 1,
) -> Iterator[memoryview]:
    """Yield the first `size` bytes of a file through buffers used in turn.

    Ends early where the file does; raises ClosedError once `stop` is set.
    """
    length = min(BUFFER_BYTES, max(size, 1))
    ring = itertools.cycle([memoryview(bytearray(length)) for _ in range(buffers)])
    offset = 0
    while offset < size:
        if stop is not None and stop.is_set():
            raise ClosedError
        buffer = next(ring)
        room = buffer[: min(len(buffer), size - offset)]
        count = os.preadv(descriptor, [room], offset)
        if not count:
            return
        yield room[:count]
        offset += count


def digests_of(
    descriptor: int,
    size: int,
    algorithms: Iterable[str],
    *,
    stop: threading.Event | None = None,
    pause: Callable[[], None] | None = None,
) -> dict[str, Digest]:
    """Compute digests of an open file in this thread alone.

    `pause` is called before each block, and may take its time.
    """
    hashes = {name: new_hash(name) for name in algorithms}
    for part in blocks(descriptor, size, stop):
        if pause is not None:
            pause()
        for state in hashes.values():
            state.update(part)
    return {name: Digest(name, state.digest()) for name, state in hashes.items()}


def lower_priority() -> None:
    """Let this thread yield to all others; for work that nobody waits for."""
    with contextlib.suppress(OSError, AttributeError):
        # On Linux this is the priority of one thread.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def sound_chunks(
    descriptor: int, manifest: Manifest, stop: threading.Event | None = None
) -> bytearray:
    """Return, for each chunk, 1 where the file's bytes match the manifest."""
    flags = bytearray(manifest.count)
    buffer = memoryview(bytearray(min(manifest.chunk_size, max(manifest.size, 1))))
    for index in range(manifest.count):
        if stop is not None and stop.is_set():
            raise ClosedError
        room = buffer[: manifest.length(index)]
        count = os.preadv(descriptor, [room], manifest.offset(index))
        if count == len(room) and chunk_digest(room) == manifest.chunk(index):
            flags[index] = 1
    return flags
