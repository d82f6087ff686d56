"""The commands `clean` and `verify`: make room, and check what is kept.

What a pin covers and what was published here stays, with all that it needs. The rest
goes by age: a package goes with everything that needs it, so that nothing is left which
lacks a part.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterable

from node import commands, results
from node.commands import Progress
from node.content.router import ContentRouter
from node.model.catalogue import Catalogue
from node.wallclock import Now
from transfer import Artifact, Digest, NotHeldError, Store, TransferError

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0
RECENT_SECONDS = 3600.0


class Plan:
    """What to keep and what may go, decided from the catalogue alone.

    An artifact is needed as often as kept packages and the user's own fetches name
    it; a package that goes takes its counts with it.
    """

    def __init__(self, catalogue: Catalogue, held: dict[str, Artifact]) -> None:
        self._catalogue = catalogue
        self._held = held
        self._kept = {row.digest for row in catalogue.packages()}
        self._kept |= catalogue.directs() & held.keys()
        self._protected = self._reachable(catalogue.protected())
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
        found: set[str] = set()
        waiting = [digest]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += set(self._catalogue.needed_by(one)) & self._kept
        return found

    def _reachable(self, roots: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self._names(digest)
        return found

    def _names(self, root: str) -> set[str]:
        """Return a package with all that it names, or just an artifact."""
        files = {artifact for _, artifact in self._catalogue.files_of(root)}
        needs = {digest for _, digest in self._catalogue.dependencies_of(root)}
        return {root} | files | needs


class Cleaning:
    """Removes what is not needed, and checks what is there."""

    def __init__(
        self, store: Store, catalogue: Catalogue, provide: ContentRouter, now: Now
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._provide = provide
        self._now = now

    async def clean(
        self, command: commands.CleanCommand, progress: Progress
    ) -> results.CleanResult:
        """Remove what nothing needs, then by age, then by size."""
        held = await self._all_held()
        plan = Plan(self._catalogue, held)
        keep_bytes = command.keep_bytes
        before = sum(one.size for one in held.values())
        dropped: list[str] = []
        while (oldest := plan.oldest()) is not None:
            too_old = (
                command.days is not None
                and plan.used_at(oldest) < self._now() - command.days * DAY_SECONDS
            )
            too_much = keep_bytes is not None and plan.bytes_kept > keep_bytes
            if not (too_old or too_much):
                break
            dropped += plan.drop(oldest)
        unneeded = [held[one] for one in sorted(held) if not plan.is_needed(one)]
        await self._remove(dropped, unneeded, progress)
        freed = sum(one.size for one in unneeded)
        return results.CleanResult(
            artifacts=[
                results.RemovedArtifact(digest=str(one.digest), size=one.size)
                for one in unneeded
            ],
            count=len(unneeded),
            bytes_freed=freed,
            bytes_held=before - freed,
        )

    async def make_room(self, size: int) -> None:
        """Remove the oldest until `size` bytes may come in under the cap.

        Nothing is removed where that would not be enough. What came in last is left
        alone: a package that is being fetched is not in the catalogue yet.
        """
        cap = self._store.room.bytes_max
        if cap is None:
            return
        held = await self._all_held()
        plan = Plan(self._catalogue, held)
        recent = self._now() - RECENT_SECONDS
        waiting = [one for one in held.values() if not plan.is_needed(str(one.digest))]
        spared = sum(one.size for one in waiting if one.added_at >= recent)
        dropped: list[str] = []
        while plan.bytes_kept + spared + size > cap:
            oldest = plan.oldest()
            if oldest is None:
                return
            dropped += plan.drop(oldest)
        unneeded = [
            artifact
            for name, artifact in held.items()
            if not plan.is_needed(name)
            and not (artifact in waiting and artifact.added_at >= recent)
        ]
        log.info("making room for %d bytes: %d files go", size, len(unneeded))
        await self._remove(dropped, unneeded, lambda _: None)

    async def _remove(
        self, dropped: list[str], unneeded: list[Artifact], progress: Progress
    ) -> None:
        self._catalogue.forget(dropped)
        await self._provide.sync()
        for count, artifact in enumerate(unneeded, 1):
            with contextlib.suppress(NotHeldError):
                await asyncio.to_thread(self._store.remove, artifact.digest)
            progress(
                {
                    "label": "cleaning",
                    "done": count,
                    "total": len(unneeded),
                    "unit": "files",
                }
            )

    async def verify(
        self, _command: commands.VerifyCommand, progress: Progress
    ) -> results.VerifyResult:
        """Hash everything again; what is damaged is set aside and named."""
        held = list((await self._all_held()).values())
        total, done = sum(one.size for one in held), 0
        damaged: list[Artifact] = []
        for artifact in held:
            if not await self._is_sound(artifact.digest):
                damaged.append(artifact)
            done += artifact.size
            progress(
                {"label": "verifying", "done": done, "total": total, "unit": "bytes"}
            )
        if damaged:
            await self._provide.sync()
        return results.VerifyResult(
            artifacts=[
                results.VerifiedArtifact(
                    digest=str(one.digest),
                    size=one.size,
                    sound=one not in damaged,
                )
                for one in held
            ],
            count=len(held),
            damaged=len(damaged),
            bytes_checked=total,
        )

    async def _is_sound(self, digest: Digest) -> bool:
        try:
            return await asyncio.to_thread(self._store.check, digest)
        except TransferError:
            return False

    async def _all_held(self) -> dict[str, Artifact]:
        artifacts = await asyncio.to_thread(self._store.artifacts)
        return {str(one.digest): one for one in artifacts}
