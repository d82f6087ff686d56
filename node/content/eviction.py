"""Eviction: which artifacts go when the store needs room, and making it.

Room is made in the thread that needs it, which waits for no event loop: the loop may
be waiting for that very thread. The loop hears of what went afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from node.model.catalogue import Catalogue, forget_in
from node.model.graph import reachable
from node.wallclock import Now
from transfer import Artifact, NotHeldError, Store

log = logging.getLogger(__name__)

RECENT_SECONDS = 3600.0
MANY = 4096
"""From so many artifacts on a look at all of them has to be worth it."""
SPARE = 64
"""This part of the bound is freed then, beyond what is needed."""


class Held(Protocol):
    """What a plan reads of an artifact."""

    @property
    def size(self) -> int:
        """Its length, in bytes."""

    @property
    def added_at(self) -> float:
        """When it came, in seconds since the epoch."""


class Plan:
    """What to keep and what may go, decided from the catalogue alone.

    1. An artifact is needed as often as kept packages, and the user's own shares and
       fetches, name it. A package that goes takes its counts with it.
    2. What a pin covers, or a package published here, never goes, nor what these need.
    3. The rest goes by age. A package is as young as the youngest that needs it, and
       goes with all that need it, so that nothing is left that lacks a part.
    """

    def __init__(self, catalogue: Catalogue, held: Mapping[str, Held]) -> None:
        self._held = held
        self._contents = catalogue.contents()
        self._needed_by = catalogue.dependents()
        self._kept = {row.digest for row in catalogue.packages()}
        self._kept |= catalogue.directs() & held.keys()
        self._protected = reachable(catalogue.protected(), self._names)
        self._counts = Counter(one for root in self._kept for one in self._names(root))
        self._counts.update(self._protected)
        self._oldest_first = sorted(
            self._kept - self._protected,
            key=lambda digest: (self.used_at(digest), digest),
            reverse=True,
        )
        self.bytes_kept = sum(held[one].size for one in self._counts if one in held)

    def is_needed(self, digest: str) -> bool:
        """Tell whether something that is kept needs this artifact."""
        return self._counts[digest] > 0

    def oldest(self) -> str | None:
        """Return the package or artifact that may go first, or None."""
        while self._oldest_first and self._oldest_first[-1] not in self._kept:
            self._oldest_first.pop()
        return self._oldest_first[-1] if self._oldest_first else None

    def drop(self, digest: str) -> list[str]:
        """Drop an artifact, or a package with everything that needs it."""
        dropped = self._dependents(digest) & self._kept
        self._kept -= dropped
        for root in dropped:
            for one in self._names(root):
                self._counts[one] -= 1
                if self._counts[one] == 0 and one in self._held:
                    self.bytes_kept -= self._held[one].size
        return sorted(dropped)

    def used_at(self, digest: str) -> float:
        """Return when a package, or whatever needs it, came here."""
        times = [
            self._held[one].added_at
            for package in self._dependents(digest)
            for one in self._names(package)
            if one in self._held
        ]
        return max(times, default=0.0)

    def _dependents(self, digest: str) -> set[str]:
        """Return `digest` and all kept packages that need it, however indirectly."""
        return reachable(
            [digest], lambda one: self._needed_by.get(one, set()) & self._kept
        )

    def _names(self, root: str) -> set[str]:
        """Return a package with all that it names, or just an artifact."""
        return {root} | self._contents.get(root, set())


class Evictor:
    """Makes room for verified bytes; in any thread but the event loop's."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        on_evicted: Callable[[], None],
        now: Now,
    ) -> None:
        """`on_evicted` is called on the event loop after artifacts went."""
        self._store = store
        self._catalogue = catalogue
        self._on_evicted = on_evicted
        self._now = now
        self._loop = asyncio.get_running_loop()
        store.room.evict = self.make_room

    def make_room(self, size: int) -> None:
        """Remove the oldest until `size` bytes may come in under the bound.

        Nothing is removed if that would not be enough. What came in last is left
        alone: a package that is being fetched is not in the catalogue yet.

        Which go is decided by a look at all that is held. Where that is much, some
        more room is made at once, so that not each file that comes costs such a look.
        """
        lacking = self._store.room.lacking(size)
        if not lacking or self._loop.is_closed():
            return
        spare = 0
        if self._store.count > MANY:
            spare = (self._store.room.bytes_max or 0) // SPARE
        lacking += spare
        held = {str(one.digest): one for one in self._store.artifacts()}
        plan = Plan(self._catalogue, held)
        recent = self._now() - RECENT_SECONDS
        needed = {name for name in held if plan.is_needed(name)}
        going: list[Artifact] = []
        for one in held.values():  # the oldest first
            if lacking > 0 and str(one.digest) not in needed and one.added_at < recent:
                going.append(one)
                lacking -= one.size
        dropped: list[str] = []
        while lacking > 0:
            oldest = plan.oldest()
            if oldest is None and lacking > spare:
                return
            if oldest is None:
                break
            before = plan.bytes_kept
            dropped += plan.drop(oldest)
            lacking -= before - plan.bytes_kept
        going += [held[name] for name in needed if not plan.is_needed(name)]
        log.info("making room for %d bytes: %d files go", size, len(going))
        self._remove(dropped, going)

    def _remove(self, dropped: list[str], going: list[Artifact]) -> None:
        """Forget first, on the disk too, so that no crash leaves a claim behind."""

        def forget(connection: sqlite3.Connection) -> None:
            forget_in(connection, dropped)

        self._loop.call_soon_threadsafe(self._catalogue.forget, dropped)
        self._store.database.write(forget)
        for artifact in going:
            with contextlib.suppress(NotHeldError):
                self._store.remove(artifact.digest)
        self._loop.call_soon_threadsafe(self._on_evicted)
