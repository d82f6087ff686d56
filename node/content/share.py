"""Share: copy files into the store and offer them by digest alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

from node import commands, results
from node.commands import Progress
from node.content.routing import Routing
from node.errors import NodeError
from node.model.catalogue import Catalogue
from transfer import Artifact, Store, TransferError


class Sharer:
    """Brings files of this machine into the store."""

    def __init__(self, store: Store, catalogue: Catalogue, router: Routing) -> None:
        self._store = store
        self._catalogue = catalogue
        self._router = router

    async def add(self, path: Path, progress: Progress) -> Artifact:
        """Copy one file into the store; NodeError names a file that cannot be read."""
        loop = asyncio.get_running_loop()

        def report(done: int, total: int | None) -> None:
            event = {"label": path.name, "done": done, "total": total, "unit": "bytes"}
            loop.call_soon_threadsafe(progress, event)

        try:
            return await asyncio.to_thread(self._store.add, path, report)
        except TransferError as error:
            raise NodeError(str(error)) from error
        except OSError as error:
            raise NodeError(f"cannot read {path}: {error.strerror}") from error

    async def share(
        self, command: commands.ShareCommand, progress: Progress
    ) -> results.ShareResult:
        """Copy and announce files."""
        shared = []
        for file in command.files:
            artifact = await self.add(Path(file), progress)
            self._catalogue.make_public(str(artifact.digest))
            self._catalogue.add_direct(str(artifact.digest), Path(file).name)
            shared.append((file, artifact))
        await self._router.sync()
        return results.ShareResult(
            artifacts=[
                results.SharedArtifact(file=file, digest=str(one.digest), size=one.size)
                for file, one in shared
            ]
        )
