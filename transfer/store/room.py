"""Room: how many bytes of artifacts may be held, and how many are."""

from __future__ import annotations

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
        self.evict: Callable[[int], None] | None = None
        """Called to remove artifacts until this many bytes more may be held.

        It runs in the thread that needs the room and must not wait for an event
        loop: the loop may be waiting for that very thread.
        """
        self._count = count
        self._held = held
        self._reserved = 0
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
        if self.bytes_max is None:
            return 0
        with self._lock:
            return max(self._held + self._reserved + size - self.bytes_max, 0)

    def check(self, size: int) -> None:
        """Raise FullError if `size` bytes would not fit into an empty store.

        Nothing is evicted here: the size may be no more than a peer's claim.
        """
        if self.bytes_max is not None and size > self.bytes_max:
            raise FullError(size, self._held, self.bytes_max)

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
            raise FullError(size, self._held, self.bytes_max)

    def settle(self, reserved: int, *, count: int, held: int) -> None:
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
        taken = self._held + self._reserved
        return not size or self.bytes_max is None or taken + size <= self.bytes_max

    def _try(self, size: int) -> bool:
        with self._lock:
            if not self._has(size):
                return False
            self._reserved += size
            return True
