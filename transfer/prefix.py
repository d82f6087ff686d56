"""The whole file's digest, computed while the chunks still arrive.

One job at a time follows the verified prefix, reading back what was just
written (from the page cache), so that little is left to hash at the end.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from transfer.digest import Digest, new_hash
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor


class PrefixHasher:
    """Hashes a growing file from its start, with one or more algorithms."""

    def __init__(
        self,
        descriptor: int,
        size: int,
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
        self._hashed = 0
        self._running = False
        self._stopped = False

    def advance(self, target: int) -> None:
        """Say that the first `target` bytes are verified and written."""
        with self._lock:
            self._target = max(self._target, target)
            if self._running or self._stopped:
                return
            if self._hashed >= self._target and self._size:
                return
            self._running = True
        self._pool.submit(self._run)

    def stop(self) -> None:
        """Stop and wait until the file is no longer read; at most one buffer."""
        with self._idle:
            self._stopped = True
            self._idle.wait_for(lambda: not self._running)

    def _run(self) -> None:
        result: dict[str, Digest] | OSError | None
        try:
            result = self._follow()
        except OSError as error:
            result = error
        if result is None:
            return
        with self._idle:
            self._running = False
            self._idle.notify_all()
            if self._stopped:
                return
        self._ended(self, result)

    def _follow(self) -> dict[str, Digest] | None:
        """Hash up to the target; return the digests once all is hashed.

        Returning None ends the job, under the lock, so that the next call of
        `advance` starts another.
        """
        buffer = memoryview(bytearray(min(BUFFER_BYTES, max(self._size, 1))))
        while True:
            with self._lock:
                target = self._target
                if self._stopped or self._hashed >= target:
                    if not self._stopped and target >= self._size:
                        break
                    self._running = False
                    self._idle.notify_all()
                    return None
            room = buffer[: min(len(buffer), target - self._hashed)]
            count = os.preadv(self._descriptor, [room], self._hashed)
            if not count:
                raise OSError("The file became shorter while it was hashed.")
            for state in self._hashes.values():
                state.update(room[:count])
            self._hashed += count
        return {
            name: Digest(name, state.digest()) for name, state in self._hashes.items()
        }
