"""Keeping the store in order while the node runs: repairs, and room under the cap.

The store calls from its own threads; what it asks for is done on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import TimeoutError as NoAnswerError

from node.background import Background
from node.catalogue import Catalogue
from node.cleaning import Cleaning
from node.errors import NodeError
from node.fetch import Fetch, Wanted
from node.provide import Provide
from transfer import Artifact, Store

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 10.0
TRIES = 8
ROOM_SECONDS_MAX = 60.0


class Repair:
    """Fetches again what was set aside as damaged, and makes room when asked."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        provide: Provide,
        fetch: Fetch,
        cleaning: Cleaning,
        background: Background,
    ) -> None:
        self._catalogue = catalogue
        self._provide = provide
        self._fetch = fetch
        self._cleaning = cleaning
        self._background = background
        self._loop = asyncio.get_running_loop()
        self._under_way: set[str] = set()
        store.on_quarantine = self._on_quarantine
        store.make_room = self._make_room

    def _on_quarantine(self, artifact: Artifact) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._start, artifact)

    def _start(self, artifact: Artifact) -> None:
        name = str(artifact.digest)
        if name not in self._under_way:
            self._under_way.add(name)
            self._background.start(self._repair(artifact), f"fetching {name} again")

    async def _repair(self, artifact: Artifact) -> None:
        """Stop offering the artifact, and bring it back from whoever has it."""
        name = str(artifact.digest)
        try:
            await self._provide.sync()
            if self._catalogue.is_private(name):
                log.warning("%s is private; fetch it again from where it was", name)
                return
            for attempt in range(TRIES):
                try:
                    await self._fetch_again(artifact)
                except NodeError as error:
                    log.warning("%s could not be fetched again: %s", name, error)
                else:
                    log.warning("%s was damaged and is whole again", name)
                    return
                await asyncio.sleep(FIRST_PAUSE_SECONDS * 4**attempt)
        finally:
            self._under_way.discard(name)

    async def _fetch_again(self, artifact: Artifact) -> None:
        wanted = Wanted(
            artifact.digest, size=artifact.size, manifest=artifact.manifest_digest
        )
        await self._fetch.artifact(wanted, lambda _: None)
        await self._provide.sync()

    def _make_room(self, size: int) -> None:
        """Do so on the event loop and wait for it; in any thread but the loop's."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            return  # the loop cannot wait for itself; the store says that it is full
        if self._loop.is_closed():
            return
        work = asyncio.run_coroutine_threadsafe(
            self._cleaning.make_room(size), self._loop
        )
        try:
            work.result(ROOM_SECONDS_MAX)
        except NoAnswerError:
            work.cancel()
            log.warning("no room was made within %.0f s", ROOM_SECONDS_MAX)
