"""The commands `clean` and `verify`: make room, and check what is kept.

What goes first is decided in eviction.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from node import commands, results
from node.commands import Progress
from node.content.eviction import Plan
from node.content.router import ContentRouter
from node.model.catalogue import Catalogue
from node.wallclock import Now
from transfer import Artifact, Digest, NotHeldError, Store, TransferError

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0


class Cleaning:
    """Removes what is not needed, and checks what is there."""

    def __init__(
        self, store: Store, catalogue: Catalogue, provide: ContentRouter, *, now: Now
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
        names = {str(one.digest): self._name(str(one.digest)) for one in unneeded}
        if not command.dry_run:
            await self._remove(dropped, unneeded, progress)
        freed = sum(one.size for one in unneeded)
        return results.CleanResult(
            artifacts=[
                results.RemovedArtifact(
                    digest=str(one.digest), size=one.size, file=names[str(one.digest)]
                )
                for one in unneeded
            ],
            removed=len(unneeded),
            bytes=freed,
            kept=len(held) - len(unneeded),
            count=len(unneeded),
            bytes_freed=freed,
            bytes_held=before - freed,
            dry_run=command.dry_run,
        )

    def _name(self, digest: str) -> str:
        packages = self._catalogue.packages_with(digest)
        return packages[0][1] if packages else self._catalogue.direct_file(digest)

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
