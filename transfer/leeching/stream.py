"""Reading an artifact from its start while it is still being downloaded.

What is read early matches a manifest that peers named, which is a hint until the
whole file is verified. So the end is held back until then, and whoever passes bytes
on must not let an unfinished file count.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from transfer.errors import WrongBytesError
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from transfer.content.digest import Digest
    from transfer.leeching.result import Downloaded
    from transfer.store.store import Store


class Follower:
    """Follows one download and yields what it has verified, in order."""

    def __init__(
        self, store: Store, digest: Digest, call: asyncio.Task[Downloaded]
    ) -> None:
        self.news = asyncio.Event()
        """Set by whoever knows that the download has come further."""
        self._store = store
        self._digest = digest
        self._call = call
        self._descriptor = -1
        self._manifest: bytes | None = None
        self._offset = 0

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Yield the file; raises as `Leecher.download`, and WrongBytesError."""
        try:
            while not self._call.done():
                await self._wait()
                while self._offset < (end := self._verified()):
                    yield await self._read(end)
            artifact = (await self._call).artifact
            if self._descriptor < 0:
                self._descriptor = await asyncio.to_thread(
                    self._store.open_checked, artifact
                )
            while self._offset < artifact.size:
                yield await self._read(artifact.size)
        finally:
            if self._descriptor >= 0:
                os.close(self._descriptor)

    async def _wait(self) -> None:
        news = asyncio.create_task(self.news.wait())
        try:
            await asyncio.wait((self._call, news), return_when="FIRST_COMPLETED")
        finally:
            news.cancel()
        self.news.clear()

    def _verified(self) -> int:
        """Return how far may be read now; the last block waits for the whole."""
        if self._call.done():
            return self._offset
        partial = self._store.partials.under_way(self._digest)
        if partial is None or partial.manifest is None:
            return self._offset
        manifest = partial.manifest
        if self._descriptor < 0:
            self._descriptor = os.dup(partial.descriptor)
            self._manifest = manifest.digest
        elif manifest.digest != self._manifest and self._offset:
            raise WrongBytesError("A manifest was false after bytes had been read.")
        self._manifest = manifest.digest
        return min(partial.prefix_bytes(), manifest.size - BUFFER_BYTES)

    async def _read(self, end: int) -> bytes:
        count = min(BUFFER_BYTES, end - self._offset)
        data = await asyncio.to_thread(os.pread, self._descriptor, count, self._offset)
        if not data:
            raise WrongBytesError("The file became shorter while it was read.")
        self._offset += len(data)
        return data
