"""Repair: what was found damaged is fetched again while the node runs.

The store calls from its own threads; what it asks for is done on the event loop.
"""

from __future__ import annotations

import asyncio
import logging

from node.background import Background
from node.content.fetcher import ContentFetcher, WantedFile
from node.content.router import ContentRouter
from node.errors import NodeError
from node.model.catalogue import Catalogue
from transfer import Artifact, Digest, Store

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 10.0
PAUSE_SECONDS_MAX = 3600.0


class Repair:
    """Fetches again what was set aside as damaged."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        provide: ContentRouter,
        fetch: ContentFetcher,
        background: Background,
    ) -> None:
        self._catalogue = catalogue
        self._provide = provide
        self._fetch = fetch
        self._background = background
        self._loop = asyncio.get_running_loop()
        self._under_way: set[str] = set()
        store.on_quarantine = self._on_quarantine

    def resume(self) -> None:
        """Go on with what an earlier run of the node could not fetch again."""
        for name, size, manifest in self._catalogue.damaged():
            self._start(WantedFile(Digest.parse(name), size=size, manifest=manifest))

    def _on_quarantine(self, artifact: Artifact) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._record_damage, artifact)

    def _record_damage(self, artifact: Artifact) -> None:
        name, size, manifest = (
            str(artifact.digest),
            artifact.size,
            artifact.manifest_digest,
        )
        if self._catalogue.is_private(name):
            log.warning("%s is private; fetch it again from where it was", name)
            self._background.start(self._provide.sync(), "no longer offering it")
            return
        self._catalogue.mark_damaged(name, size, manifest)
        self._start(WantedFile(artifact.digest, size=size, manifest=manifest))

    def _start(self, wanted: WantedFile) -> None:
        name = str(wanted.digest)
        if name not in self._under_way:
            self._under_way.add(name)
            self._background.start(self._repair(wanted), f"fetching {name} again")

    async def _repair(self, wanted: WantedFile) -> None:
        """Stop offering an artifact, and fetch it again from its providers.

        It is tried for as long as the artifact is wanted, ever more seldom.
        """
        name = str(wanted.digest)
        pause = FIRST_PAUSE_SECONDS
        try:
            await self._provide.sync()
            while self._catalogue.is_known(name):
                try:
                    await self._fetch.artifact(wanted, lambda _: None)
                except NodeError as error:
                    log.warning("%s could not be fetched again: %s", name, error)
                except Exception:
                    log.exception("%s could not be fetched again", name)
                else:
                    log.warning("%s was damaged and is whole again", name)
                    break
                await asyncio.sleep(pause)
                pause = min(4 * pause, PAUSE_SECONDS_MAX)
            self._catalogue.forget_damaged(name)
            await self._provide.sync()
        finally:
            self._under_way.discard(name)
