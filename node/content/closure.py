"""Everything that one command needs, fetched once and at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from node.commands import Progress
from node.content.fetcher import ContentFetcher, Fetched, WantedFile
from node.model.catalogue import Catalogue
from node.model.packages import Package
from transfer import Digest

DOWNLOADS_AT_ONCE = 8


class Closure:
    """Packages with all that they need, and content by digest; one for a command."""

    def __init__(
        self,
        *,
        fetcher: ContentFetcher,
        catalogue: Catalogue,
        progress: Progress,
        dependencies: bool,
        check: Callable[[str], None] = lambda _digest: None,
    ) -> None:
        """`check` may refuse an artifact that is asked for by its digest alone."""
        self._fetcher = fetcher
        self._catalogue = catalogue
        self._progress = progress
        self._dependencies = dependencies
        self._check = check
        self._slots = asyncio.Semaphore(DOWNLOADS_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fetched: dict[str, Fetched] = {}
        self._packages: dict[str, Package] = {}

    async def bring(self, digests: list[Digest], packages: list[Digest]) -> None:
        """Fetch content by digest and whole packages by their package files' digests.

        Raise the first NodeError that any of it met; what had come by then stays.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for digest in digests:
                    self._once(group, f"? {digest}", self._anything(group, digest))
                for digest in packages:
                    self._want_package(group, digest)
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        for digest_text, package in self._packages.items():
            self._catalogue.add_package(digest_text, package, held=True)

    def artifacts_of(self, package: Digest) -> list[Fetched]:
        """Return a package's artifacts, then those of all that it depends on."""
        found: dict[str, None] = {}
        waiting, seen = [str(package)], set()
        while waiting:
            digest = waiting.pop(0)
            if digest not in self._packages:
                found[digest] = None
            elif digest not in seen:
                seen.add(digest)
                body = self._packages[digest].body
                found.update(dict.fromkeys(entry.digest for entry in body.artifacts))
                waiting += [dependency.digest for dependency in body.dependencies]
        return [self._fetched[one] for one in found if one in self._fetched]

    def fetched(self, digest: Digest) -> Fetched:
        """Return what was asked for by `digest` in any algorithm."""
        return self._fetched[str(digest)]

    def _once(
        self, group: asyncio.TaskGroup, name: str, work: Coroutine[Any, Any, None]
    ) -> None:
        if name in self._tasks:
            work.close()
        else:
            self._tasks[name] = group.create_task(work)

    def _want_package(self, group: asyncio.TaskGroup, digest: Digest) -> None:
        self._once(group, f"package {digest}", self._package(group, digest))

    async def _anything(self, group: asyncio.TaskGroup, digest: Digest) -> None:
        fetched = await self._artifact(WantedFile(digest))
        package = await self._fetcher.read_package(fetched.artifact)
        if package is None:
            self._check(str(fetched.artifact.digest))
            self._catalogue.add_direct(str(fetched.artifact.digest), "")
        else:
            self._want_package(group, fetched.artifact.digest)

    async def _artifact(self, wanted: WantedFile) -> Fetched:
        async with self._slots:
            fetched = await self._fetcher.artifact(wanted, self._progress)
        self._fetched[str(wanted.digest)] = fetched
        return fetched

    async def _package(self, group: asyncio.TaskGroup, digest: Digest) -> None:
        async with self._slots:
            package, fetched = await self._fetcher.package(digest, self._progress)
        named = Fetched(
            fetched.artifact, package.file_name, fetched.seconds, fetched.sources
        )
        self._fetched[str(digest)] = named
        self._packages[str(digest)] = package
        for entry in package.body.artifacts:
            wanted = WantedFile(
                Digest.parse(entry.digest),
                entry.file,
                entry.size,
                manifest=bytes.fromhex(entry.manifest),
            )
            self._once(group, entry.digest, self._keep(wanted))
        if self._dependencies:
            for dependency in package.body.dependencies:
                needed = Digest.parse(dependency.digest)
                if dependency.kind == "package":
                    self._want_package(group, needed)
                else:
                    wanted = WantedFile(needed, dependency.name)
                    self._once(group, dependency.digest, self._keep(wanted))

    async def _keep(self, wanted: WantedFile) -> None:
        await self._artifact(wanted)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first plain error of a group, however deep it lies."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
