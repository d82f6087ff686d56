"""Room: how many bytes of artifacts may be held, and how many are.

Two bounds hold: the store's own, `bytes_max`, and the bytes that stay free on its disk
for others, `free_min`. A store that is full says so until there is room again.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from transfer.errors import FullError

if TYPE_CHECKING:
    from collections.abc import Callable


class Room:
    """Counts held and reserved bytes against a bound; in any thread.

    What is held and what is reserved together never exceed `bytes_max`.
    """

    def __init__(self, count: int, held: int, bytes_max: int | None) -> None:
        self.bytes_max = bytes_max
        """At most this many bytes of artifacts are held; None for no bound."""
        self.free_min = 0
        """So many bytes of the disk stay free."""
        self.disk_free: Callable[[], int] = lambda: sys.maxsize
        """Returns how many bytes of the disk are free."""
        self.trouble: Callable[[], Exception | None] = lambda: None
        """Returns why the store's disk cannot be written in another way, or None."""
        self.evict: Callable[[int], None] | None = None
        """Called to remove artifacts until this many bytes more may be held.

        It runs in the thread that needs the room and must not wait for an event
        loop: the loop may be waiting for that very thread.
        """
        self._count = count
        self._held = held
        self._reserved = 0
        self._refused = 0
        """The size that found no room last, or 0."""
        self._lock = threading.Lock()
        self._evicting = threading.Lock()

    @property
    def held(self) -> int:
        """The sizes of all artifacts together, in bytes."""
        return self._held

    @property
    def count(self) -> int:
        """How many artifacts are held."""
        return self._count

    def has(self, size: int) -> bool:
        """Whether `size` bytes more may be held now."""
        with self._lock:
            return self._has(size)

    def lacking(self, size: int) -> int:
        """Return how many bytes have to go before `size` bytes more may be held."""
        with self._lock:
            return self._lacking(size)

    @property
    def fullness(self) -> str | None:
        """Why something found no room, as long as that is so; else None."""
        with self._lock:
            if self._refused and not self._lacking(self._refused):
                self._refused = 0
            error = self._error(self._refused) if self._refused else self.trouble()
        return None if error is None else str(error)

    def check(self, size: int) -> None:
        """Raise FullError if `size` bytes would not fit into an empty store.

        Nothing is evicted here: the size may be no more than a peer's claim.
        """
        bound = self.bytes_max
        if self.free_min:
            on_disk = self.disk_free() + self._held - self.free_min
            bound = on_disk if bound is None else min(bound, on_disk)
        if bound is not None and size > bound:
            raise self._refuse(size)

    def reserve(self, size: int) -> None:
        """Reserve room for verified bytes, evicting others if need be.

        `settle` ends the reservation. Raise FullError if there is no room.
        """
        if self._try(size):
            return
        if self.evict is not None:
            # One at a time: what the first evicts may be enough for the next.
            with self._evicting:
                if self._try(size):
                    return
                self.evict(size)
        if not self._try(size):
            raise self._refuse(size)

    def make_disk_room(self, size: int) -> None:
        """See that a download may write `size` bytes, evicting others if need be.

        They lie on the disk long before the whole is committed, and are verified one
        by one. Raise FullError where too few bytes are free for others already.
        """
        if self.disk_free() >= self.free_min:
            return
        if self.evict is not None:
            with self._evicting:
                if self.disk_free() < self.free_min:
                    self.evict(size)
        if self.disk_free() < self.free_min:
            raise self._refuse(size)

    def end_reservation(self, reserved: int, *, count: int, held: int) -> None:
        """End a reservation; `count` artifacts of `held` bytes are held now."""
        with self._lock:
            self._reserved -= reserved
            self._count += count
            self._held += held

    def release(self, size: int) -> None:
        """Give back the room of an artifact that was removed."""
        with self._lock:
            self._count -= 1
            self._held -= size

    def _has(self, size: int) -> bool:
        return not size or not self._lacking(size)

    def _lacking(self, size: int) -> int:
        lacking = 0
        if self.bytes_max is not None:
            lacking = self._held + self._reserved + size - self.bytes_max
        if self.free_min:
            # What is committed now lies on the disk already.
            lacking = max(lacking, self.free_min - self.disk_free())
        return max(lacking, 0)

    def _refuse(self, size: int) -> FullError:
        self._refused = size
        return self._error(size)

    def _error(self, size: int) -> FullError:
        bound = self.bytes_max
        is_within = bound is None or self._held + self._reserved + size <= bound
        free = self.disk_free()
        if self.free_min and (free < self.free_min + size * is_within):
            return FullError.of_disk(size, free, self.free_min)
        return FullError(size, self._held, self.bytes_max)

    def _try(self, size: int) -> bool:
        with self._lock:
            if not self._has(size):
                return False
            self._reserved += size
            return True
