"""Complaints: a leecher received a chunk that does not match the manifest.

Whether it lies is decided by one look at the chunk that it names. What a complaint
costs is bounded: each chunk is read once in a while, and so many in all.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from transfer.errors import DamagedError, NotHeldError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transfer.content.digest import Digest
    from transfer.store.store import Store

_REMEMBERED_MAX = 256


class Complaints:
    """Checks chunks that leechers complain about; in any thread."""

    def __init__(
        self,
        store: Store,
        again_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._again_seconds = again_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._checked_at: dict[tuple[Digest, int], float] = {}

    def hear(self, name: Digest, index: int) -> None:
        """Check one chunk, unless that was just done; a damaged file is set aside."""
        if not self._is_new(name, index):
            return
        artifact = self._store.find(name)
        if artifact is not None:
            with contextlib.suppress(NotHeldError, DamagedError):
                self._store.check_chunk(artifact, index)

    def _is_new(self, name: Digest, index: int) -> bool:
        now = self._clock()
        with self._lock:
            self._checked_at = {
                chunk: at
                for chunk, at in self._checked_at.items()
                if now - at < self._again_seconds
            }
            if (name, index) in self._checked_at or len(
                self._checked_at
            ) >= _REMEMBERED_MAX:
                return False
            self._checked_at[name, index] = now
            return True
