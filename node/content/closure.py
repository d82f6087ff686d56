"""Everything that one command needs, fetched once and at the same time.

A package file may name a thousand dependencies, each of which may do so again, and the
sizes in it are its publisher's choice. So a closure has bounds: it is refused as soon
as what is known of it exceeds one, before anything beyond it is downloaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from node.commands import Progress
from node.content.fetcher import ContentFetcher, Fetched, WantedFile
from node.errors import NodeError
from node.model.catalogue import Catalogue
from node.model.folders import FolderFile
from node.model.packages import Package
from transfer import Digest

DOWNLOADS_AT_ONCE = 8
SMALL_AT_ONCE = 64
SMALL_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class ClosureLimits:
    """How much one command brings at most, unless its user said yes to more."""

    packages: int | None = 1_000
    bytes: int | None = 20 * 1024**3
    """Of the artifacts that are not held yet, by their package files."""
    depth: int | None = 100
    """How many packages depend on each other in a row."""


NO_LIMITS = ClosureLimits(packages=None, bytes=None, depth=None)


class ClosureLimitError(NodeError):
    """It needs more than one command fetches without asking."""


class Closures:
    """Starts a closure for each command."""

    def __init__(
        self, fetcher: ContentFetcher, catalogue: Catalogue, limits: ClosureLimits
    ) -> None:
        self._fetcher = fetcher
        self._catalogue = catalogue
        self._limits = limits

    def new(
        self,
        progress: Progress,
        *,
        dependencies: bool = True,
        bounded: bool = True,
        check: Callable[[str], None] = lambda _digest: None,
    ) -> Closure:
        """Return a closure that has fetched nothing yet.

        `check` may refuse an artifact that is asked for by its digest alone.
        """
        return Closure(
            fetcher=self._fetcher,
            catalogue=self._catalogue,
            progress=progress,
            dependencies=dependencies,
            limits=self._limits if bounded else NO_LIMITS,
            check=check,
        )


class Closure:
    """Packages with all that they need, and content by digest; one for a command."""

    def __init__(
        self,
        *,
        fetcher: ContentFetcher,
        catalogue: Catalogue,
        progress: Progress,
        dependencies: bool,
        limits: ClosureLimits,
        check: Callable[[str], None],
    ) -> None:
        self._fetcher = fetcher
        self._catalogue = catalogue
        self._progress = progress
        self._dependencies = dependencies
        self._limits = limits
        self._check = check
        self._count = 0
        self._bytes = 0
        self._slots = _Slots()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fetched: dict[str, Fetched] = {}
        self._packages: dict[str, Package] = {}
        self.folders: dict[str, list[FolderFile]] = {}
        """The folders that were asked for, by the digest of their lists."""

    async def bring(self, digests: list[Digest], packages: list[Digest]) -> None:
        """Fetch content by digest and whole packages by their package files' digests.

        Raise the first NodeError that any of it met; what had come by then stays.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._digests(group, digests))
                for digest in packages:
                    self._want_package(group, digest, 1)
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

    def _want_package(
        self, group: asyncio.TaskGroup, digest: Digest, depth: int
    ) -> None:
        name = f"package {digest}"
        if name not in self._tasks:
            self._count += 1
            _check_limit("packages", self._count, self._limits.packages)
            _check_limit("packages in a row", depth, self._limits.depth)
        self._once(group, name, self._package(group, digest, depth))

    async def _count_bytes(self, wanted: list[WantedFile]) -> None:
        """Add what a package file says that will be downloaded."""
        held = await self._fetcher.held(one.digest for one in wanted)
        for one in wanted:
            if one.size is not None and one.digest not in held:
                self._bytes += one.size
        _check_limit("bytes", self._bytes, self._limits.bytes)

    async def _digests(self, group: asyncio.TaskGroup, digests: list[Digest]) -> None:
        """Bring content by its digests, whatever it is."""
        came = await self._together([WantedFile(one) for one in digests])
        found = await self._fetcher.read_many(one.artifact for one in came.values())
        for digest in dict.fromkeys(digests):
            if (one := came.get(digest)) is not None:
                await self._keep(group, one, found.get(one.artifact.digest))
            else:
                self._once(group, f"? {digest}", self._anything(group, digest))

    async def _together(self, wanted: list[WantedFile]) -> dict[Digest, Fetched]:
        came = await self._fetcher.together(wanted, self._progress)
        self._fetched.update((str(digest), one) for digest, one in came.items())
        return came

    async def _anything(self, group: asyncio.TaskGroup, digest: Digest) -> None:
        fetched = await self._artifact(WantedFile(digest))
        await self._keep(group, fetched, await self._fetcher.read(fetched.artifact))

    async def _keep(
        self,
        group: asyncio.TaskGroup,
        fetched: Fetched,
        found: Package | list[FolderFile] | None,
    ) -> None:
        """Keep what was asked for, and bring what it describes."""
        if isinstance(found, Package):
            self._want_package(group, fetched.artifact.digest, 1)
            return
        self._keep_direct(fetched, "")
        if found is not None and self._dependencies:
            await self._folder(group, fetched, found)

    def _keep_direct(self, fetched: Fetched, name: str) -> None:
        self._check(str(fetched.artifact.digest))
        self._catalogue.add_direct(str(fetched.artifact.digest), name)

    async def _folder(
        self, group: asyncio.TaskGroup, fetched: Fetched, files: list[FolderFile]
    ) -> None:
        """Bring the files of a folder list."""
        self.folders[str(fetched.artifact.digest)] = files
        by_digest: dict[str, WantedFile] = {}
        for one in files:
            if one.digest not in self._tasks:
                digest = Digest.parse(one.digest)
                file = WantedFile(digest, one.name, one.size)
                by_digest.setdefault(one.digest, file)
        wanted = list(by_digest.values())
        await self._count_bytes(wanted)
        came = await self._together(wanted)
        for file in wanted:
            if file.digest in came:
                self._keep_direct(came[file.digest], file.file.rpartition("/")[2])
            else:
                self._once(group, str(file.digest), self._fetch_direct(file))

    async def _fetch_direct(self, wanted: WantedFile) -> None:
        self._keep_direct(await self._artifact(wanted), wanted.file.rpartition("/")[2])

    async def _artifact(self, wanted: WantedFile) -> Fetched:
        async with self._slots:
            fetched = await self._fetcher.artifact(wanted, self._progress)
            self._slots.came(fetched.artifact.size)
        self._fetched[str(wanted.digest)] = fetched
        return fetched

    async def _package(
        self, group: asyncio.TaskGroup, digest: Digest, depth: int
    ) -> None:
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
            if entry.digest not in self._tasks:
                await self._count_bytes([wanted])
                self._once(group, entry.digest, self._fetch_file(wanted))
        if self._dependencies:
            for dependency in package.body.dependencies:
                needed = Digest.parse(dependency.digest)
                if dependency.kind == "package":
                    self._want_package(group, needed, depth + 1)
                else:
                    wanted = WantedFile(
                        needed, dependency.name, size_max=self._bytes_left()
                    )
                    self._once(group, dependency.digest, self._fetch_file(wanted))

    async def _fetch_file(self, wanted: WantedFile) -> None:
        fetched = await self._artifact(wanted)
        if wanted.size is None and fetched.sources:
            self._bytes += fetched.artifact.size
            _check_limit("bytes", self._bytes, self._limits.bytes)

    def _bytes_left(self) -> int | None:
        """Return how large a file of unknown size may be."""
        most = self._limits.bytes
        return None if most is None else max(1, most - self._bytes)


class _Slots:
    """How many downloads run at once: more of them while small files come."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(DOWNLOADS_AT_ONCE)
        self._count = DOWNLOADS_AT_ONCE
        self._surplus = 0

    async def __aenter__(self) -> None:
        await self._free.acquire()

    async def __aexit__(self, *_error: object) -> None:
        if self._surplus:
            self._surplus -= 1
        else:
            self._free.release()

    def came(self, size: int) -> None:
        """Take note of a file of `size` bytes."""
        if size <= SMALL_BYTES_MAX and self._count < SMALL_AT_ONCE:
            self._count += 1
            self._free.release()
        elif size > SMALL_BYTES_MAX and self._count > DOWNLOADS_AT_ONCE:
            self._count -= 1
            self._surplus += 1


def _check_limit(what: str, count: int, most: int | None) -> None:
    if most is not None and count > most:
        raise ClosureLimitError(
            f"it needs more than {most:,} {what}; --yes fetches that all the same, and "
            "closure_packages, closure_bytes and closure_depth in config.toml set how "
            "much is fetched without asking"
        )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first plain error of a group, however deep it lies."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
