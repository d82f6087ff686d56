"""What becomes of a file that the gateway brought: kept, and offered unless private."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from node.background import Background
from node.content.router import ContentRouter
from node.gateway.named_file import NamedFile
from node.gateway.upstreams import Upstreams
from node.model.catalogue import Catalogue
from transfer import Artifact, Digest

QUIET_SECONDS = 2.0  # an installation is busy, and brings many files at once
QUIET_SECONDS_MAX = 15.0


class Retention:
    """Remembers files of the gateway, so that they are listed and offered."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        router: ContentRouter,
        background: Background,
        upstreams: Upstreams,
    ) -> None:
        self._catalogue = catalogue
        self._router = router
        self._background = background
        self._upstreams = upstreams
        self._public: set[str] = set()
        self._private: set[str] = set()
        self._announcing: asyncio.Task[None] | None = None
        self._kept_at = 0.0

    def keep(self, artifact: Artifact, named: Sequence[NamedFile]) -> None:
        """Offer an artifact, or mark it private where only private upstreams name it.

        What is public stays so: it was shared here, or another upstream has it too.
        """
        digest = str(artifact.digest)
        if digest in self._public:
            return
        # An archive names files by their paths.
        file = named[0].file.rpartition("/")[2] if named else ""
        if self._upstreams.are_private(one.upstream for one in named):
            self.silence(artifact.digest, file)
            return
        self._public.add(digest)
        self._private.discard(digest)
        self._catalogue.make_public(digest)
        self._catalogue.add_direct(digest, file)
        self._kept_at = asyncio.get_running_loop().time()
        if self._announcing is None or self._announcing.done():
            self._announcing = self._background.start(
                self._announce(), "announcing what the gateway brought"
            )

    def silence(self, name: Digest, file: str) -> None:
        """Keep an artifact private from before it is held, unless others know it."""
        digest = str(name)
        if digest not in self._private and not self._catalogue.is_known(digest):
            self._private.add(digest)
            self._catalogue.make_private(digest, file)
            self._router.silence(digest)

    async def _announce(self) -> None:
        """Announce once no more files come, or after a while all the same."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + QUIET_SECONDS_MAX
        wait = QUIET_SECONDS
        while wait > 0:
            await asyncio.sleep(wait)
            wait = min(self._kept_at + QUIET_SECONDS, latest) - loop.time()
        self._announcing = None
        await self._router.sync()
