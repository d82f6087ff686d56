"""The whole file's digest, computed while the chunks still arrive.

A chunk that is next in order is hashed by the thread that received it, while
the cache has its bytes. One that comes a little early is kept in memory until
its turn. What came too early for that is read back, from the page cache, by a
job that follows the verified prefix. Only one thread hashes at a time.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from transfer.connection.buffers import own_buffer, part_with_buffer, return_buffer
from transfer.content.digest import Digest, new_hash
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

_Step = tuple[int, int | memoryview]
"""Where to go on, and with what: bytes in memory, or how many to read back."""

_AHEAD_BYTES_MAX = 8 * BUFFER_BYTES
"""How far before its turn a chunk may come and still be kept."""

_REACH_BYTES = 64 * BUFFER_BYTES
_WAIT_SECONDS = 0.1
_PAUSE_SECONDS = 0.004
"""How long a thread waits that is ahead of that, lest receiving outruns hashing.

Hashing has one order and one core, so to receive more meanwhile ends nothing
earlier. It is far behind only after a resumption or a gap: then, with links that
are slow themselves, long waits would cost more than they gain.
"""


class PrefixHasher:
    """Hashes a growing file from its start, with one or more algorithms."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        *,
        algorithms: Iterable[str],
        pool: Executor,
        ended: Callable[[PrefixHasher, dict[str, Digest] | OSError], None],
    ) -> None:
        self._descriptor = descriptor
        self._size = size
        self._hashes = {name: new_hash(name) for name in sorted(set(algorithms))}
        self._pool = pool
        self._ended = ended
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._target = 0
        """So many bytes from the start on are verified and written."""
        self._begun = 0
        """So many bytes are hashed or being hashed."""
        self._kept: dict[int, memoryview] = {}
        self._running = False
        self._stopped = False

    def advance(self, target: int) -> None:
        """Say that the first `target` bytes are verified and written."""
        with self._lock:
            self._target = max(self._target, target)
            if self._running or self._stopped:
                return
            if self._begun >= self._target and self._size:
                return
            self._running = True
        self._pool.submit(self._follow)

    def feed(self, offset: int, part: memoryview) -> None:
        """Take in a part of this thread's buffer, verified and written at `offset`.

        It may be kept; the thread then has another buffer.
        """
        with self._idle:
            wait = (
                _PAUSE_SECONDS if offset - self._begun > _REACH_BYTES else _WAIT_SECONDS
            )
            self._idle.wait_for(lambda: self._is_near(offset), wait)
            # Counted after the wait: others may have hashed on meanwhile.
            early = offset - self._begun
            if self._stopped or not 0 <= early < _AHEAD_BYTES_MAX:
                return
            # The one that hashes takes it when its turn comes; two would mix the order.
            if self._running or early:
                if part_with_buffer():
                    self._kept[offset] = part
                return
            self._running = True
            self._begun += len(part)
        # Outside the lock: `_running` alone keeps other threads from the hash states.
        self._update(part)
        self._follow(may_read=False)

    def stop(self) -> None:
        """Stop and wait until the file is no longer read; at most one buffer."""
        with self._idle:
            self._stopped = True
            # The descriptor is closed next; nobody may still be reading from it.
            self._idle.wait_for(lambda: not self._running)
            while self._kept:
                return_buffer(self._kept.popitem()[1])

    def _follow(self, step: _Step | None = None, *, may_read: bool = True) -> None:
        """Hash what comes next in order, as far as it is there.

        A thread that may not read back leaves that, and the rest, to a job.
        """
        step = step or self._next()
        while step is not None:
            offset, part = step
            if isinstance(part, memoryview):
                self._update(part)
                return_buffer(part)
            elif not part:
                self._ended(self, self._digests())
                return
            elif not may_read:
                # A thread that receives would stop receiving while it reads the disk.
                self._pool.submit(self._follow, step)
                return
            elif not self._read_back(offset, part):
                return
            step = self._next()

    def _next(self) -> _Step | None:
        """Return what is to be hashed next; None, and at rest, where there is nothing.

        It is a part that was kept, or how many bytes are to be read back, which
        is 0 once all is hashed.
        """
        with self._idle:
            offset = self._begun
            if not self._stopped:
                part = self._kept.pop(offset, None) or self._readable()
                if part:
                    self._begun += part if isinstance(part, int) else len(part)
                    self._idle.notify_all()
                    return offset, part
            # At rest under the lock: whoever adds a part after this starts again.
            self._running = False
            self._idle.notify_all()
            return (offset, 0) if offset >= self._size and not self._stopped else None

    def _is_near(self, offset: int) -> bool:
        """Whether a chunk at `offset` need not wait for the hashing to catch up."""
        near = offset - self._begun < _AHEAD_BYTES_MAX
        return near or self._stopped or not self._running

    def _readable(self) -> int:
        """Return how many bytes can be read back before the next that was kept."""
        end = min([self._target, self._begun + BUFFER_BYTES, *self._kept])
        return max(end - self._begun, 0)

    def _read_back(self, offset: int, count: int) -> bool:
        """Hash bytes of the file; False where that failed and all is over."""
        part = own_buffer()[:count]
        if (error := self._read(offset, part)) is None:
            self._update(part)
            return True
        with self._idle:
            self._running = False
            self._idle.notify_all()
            if self._stopped:
                return False
        self._ended(self, error)
        return False

    def _read(self, offset: int, part: memoryview) -> OSError | None:
        try:
            if os.preadv(self._descriptor, [part], offset) == len(part):
                return None
        except OSError as error:
            return error
        return OSError("The file became shorter while it was hashed.")

    def _update(self, part: memoryview) -> None:
        for state in self._hashes.values():
            state.update(part)

    def _digests(self) -> dict[str, Digest]:
        return {
            name: Digest(name, state.digest()) for name, state in self._hashes.items()
        }
