"""Share: copy files into the store and offer them by digest alone."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from node import commands, results
from node.commands import Progress
from node.content.routing import Routing
from node.content.several import Outcomes
from node.errors import NodeError, UsageError, clause
from node.model.catalogue import Catalogue
from node.model.folders import FILES_MAX, FolderFile, is_path, write_folder_list
from node.model.paths import path_of
from node.printable import printable
from transfer import Artifact, Store, StoreError, TransferError


class Sharer:
    """Brings files of this machine into the store."""

    def __init__(self, store: Store, catalogue: Catalogue, router: Routing) -> None:
        self._store = store
        self._catalogue = catalogue
        self._router = router
        self._pool = ThreadPoolExecutor(2, "caravan-share")

    async def close(self) -> None:
        """Wait for the file that is being copied; begin no other."""
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def add(self, path: Path, progress: Progress) -> Artifact:
        """Copy one file into the store; NodeError names a file that cannot be read."""
        loop, label = asyncio.get_running_loop(), printable(path.name)

        def report(done: int, total: int | None) -> None:
            event = {"label": label, "done": done, "total": total, "unit": "bytes"}
            loop.call_soon_threadsafe(progress, event)

        try:
            # Not in the loop's own pool: a copy may take long, and others need that.
            # Its aliases follow, once its SHA-256 is on offer.
            add = partial(self._store.add, path, report, algorithms=("sha256",))
            return await loop.run_in_executor(self._pool, add)
        except TransferError as error:
            raise NodeError(clause(error)) from error

    async def _add_many(
        self, paths: list[Path], progress: Progress
    ) -> list[Artifact | StoreError]:
        loop = asyncio.get_running_loop()

        def report(done: int, total: int | None) -> None:
            event = {"label": "sharing", "done": done, "total": total, "unit": "files"}
            loop.call_soon_threadsafe(progress, event)

        return await loop.run_in_executor(
            self._pool, self._store.add_many, paths, report
        )

    async def share(
        self, command: commands.ShareCommand, progress: Progress
    ) -> results.ShareResult:
        """Copy and announce files; NodeError says which failed, beside the others."""
        paths = [path_of(file) for file in command.files]
        if (folder := await asyncio.to_thread(_folder_in, paths)) is not None:
            if len(paths) > 1:
                raise UsageError(f"{folder} is a folder; share it by itself")
            return await self._share_folder(folder, progress)
        outcomes: list[Artifact | StoreError]
        if len(paths) == 1:
            outcomes = [await self.add(paths[0], progress)]
        else:
            outcomes = await self._add_many(paths, progress)
        shared: list[tuple[str, Artifact]] = []
        found: Outcomes[Artifact] = Outcomes()
        for file, one in zip(command.files, outcomes, strict=True):
            if isinstance(one, StoreError):
                found.failed.append((file, NodeError(clause(one))))
            else:
                found.done.append(one)
                shared.append((file, one))
        await self._offer(shared)
        result = results.ShareResult(artifacts=_entries(shared))
        found.check(result)
        return result

    async def _share_folder(
        self, folder: Path, progress: Progress
    ) -> results.ShareResult:
        """Share each file of a folder, and the list of them as one artifact."""
        names = await asyncio.to_thread(_files_of, folder)
        outcomes = await self._add_many([folder / one for one in names], progress)
        files, shared = [], []
        for name, one in zip(names, outcomes, strict=True):
            if isinstance(one, StoreError):
                raise NodeError(str(one)) from one
            shared.append((str(folder / name), one))
            files.append(FolderFile(name, str(one.digest), one.size))
        content = write_folder_list(files)
        listed = await asyncio.to_thread(self._store.add_bytes, content)
        await self._offer([*shared, (f"{folder.name}.caravan-folder", listed)])
        return results.ShareResult(
            artifacts=_entries(shared), folder=str(listed.digest)
        )

    async def _offer(self, shared: list[tuple[str, Artifact]]) -> None:
        """Hold artifacts by their digest, for everybody to have."""
        files = [
            (str(one.digest), printable(path_of(path).name)) for path, one in shared
        ]
        for (digest, _), (_, one) in zip(files, shared, strict=True):
            if self._catalogue.is_private(digest):
                await asyncio.to_thread(self._store.set_private, one, private=False)
        self._catalogue.share(files)
        await self._router.sync()


def _entries(shared: list[tuple[str, Artifact]]) -> list[results.SharedArtifact]:
    return [
        results.SharedArtifact(file=file, digest=str(one.digest), size=one.size)
        for file, one in shared
    ]


def _folder_in(paths: list[Path]) -> Path | None:
    return next((one for one in paths if one.is_dir()), None)


def _files_of(folder: Path) -> list[str]:
    """Return the paths of a folder's files below it; NodeError for what is none.

    Links are not followed: they may lead out of the folder.
    """
    names = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            raise NodeError(f"{path} is no regular file; leave it out of the folder")
        if not is_path(name):
            raise NodeError(
                f"{path} cannot be shared in a folder: names there are plain ASCII, "
                "without a leading dot"
            )
        names.append(name)
        if len(names) > FILES_MAX:
            raise NodeError(f"{folder} has more than {FILES_MAX:,} files")
    if not names:
        raise NodeError(f"{folder} has no files")
    return names
