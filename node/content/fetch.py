"""Fetch content and packages: find peers, download, verify, keep, offer on.

`Fetch` brings one artifact or package file. `Closure` is one command's work: every
package and artifact that it needs once, all at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from node.commands import Progress
from node.content.router import ANNOUNCED_ALGORITHMS, ContentRouter
from node.errors import (
    NobodyOffersError,
    NodeError,
    RefusedError,
    VerificationError,
)
from node.model.catalogue import Catalogue
from node.model.packages import PACKAGE_FILE_BYTES_MAX, Package, is_package_file
from transfer import (
    Artifact,
    Digest,
    Downloaded,
    Leecher,
    NoPeerError,
    Store,
    TransferError,
    WrongBytesError,
)

DOWNLOADS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact that is here now; no sources means that it was here before."""

    artifact: Artifact
    file: str
    seconds: float
    sources: tuple[tuple[str, int], ...]

    def document(self, path: str) -> dict[str, Any]:
        """Return what `--json` says of it."""
        return {
            "digest": str(self.artifact.digest),
            "file": self.file,
            "size": self.artifact.size,
            "path": path,
            "seconds": round(self.seconds, 3),
            "sources": [
                {"address": address, "bytes": count} for address, count in self.sources
            ],
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to fetch, and what a package file said of it."""

    digest: Digest
    file: str = ""
    size: int | None = None
    size_max: int | None = None
    manifest: bytes | None = None

    @property
    def label(self) -> str:
        """What people call it while it comes in."""
        return self.file or self.digest.short()


class Fetch:
    """Brings content from peers into the store."""

    def __init__(
        self,
        store: Store,
        leecher: Leecher,
        provide: ContentRouter,
        catalogue: Catalogue,
        *,
        weak_digests: bool,
    ) -> None:
        self._store = store
        self._leecher = leecher
        self._provide = provide
        self.catalogue = catalogue
        self._algorithms = {*ANNOUNCED_ALGORITHMS}
        if weak_digests:
            self._algorithms |= {"md5", "sha1"}

    async def artifact(self, wanted: Wanted, progress: Progress) -> Fetched:
        """Return `wanted` from the store, or download, verify, keep and offer it."""
        held = await asyncio.to_thread(self._store.find, wanted.digest)
        if held is not None:
            return Fetched(held, wanted.file, 0.0, ())
        self.check_algorithm(wanted.digest)

        def report(done: int, total: int | None) -> None:
            progress(
                {"label": wanted.label, "done": done, "total": total, "unit": "bytes"}
            )

        async with contextlib.aclosing(self._provide.peers(wanted.digest)) as peers:
            downloaded = await self._download(wanted, peers, report)
        sources = tuple((str(one.peer), one.bytes) for one in downloaded.sources)
        return Fetched(downloaded.artifact, wanted.file, downloaded.seconds, sources)

    async def package(
        self, digest: Digest, progress: Progress
    ) -> tuple[Package, Fetched]:
        """Return the verified package file of this digest; RefusedError if none."""
        wanted = Wanted(digest, "package file", size_max=PACKAGE_FILE_BYTES_MAX)
        fetched = await self.artifact(wanted, progress)
        package = await self.read_package(fetched.artifact)
        if package is None:
            raise RefusedError(f"{digest} is not a package file")
        return package, fetched

    async def read_package(self, artifact: Artifact) -> Package | None:
        """Return the package that a held artifact describes; None if it does not."""
        if artifact.size > PACKAGE_FILE_BYTES_MAX:
            return None
        content = await asyncio.to_thread(self._store.read, artifact)
        return Package.verify(content) if is_package_file(content) else None

    def check_algorithm(self, digest: Digest) -> None:
        """Raise RefusedError for a digest too weak to be believed from strangers."""
        if digest.algorithm not in self._algorithms:
            raise RefusedError(
                f"{digest} is not held, and {digest.algorithm.upper()} is too weak to "
                "be looked up among strangers; use its SHA-256, or set weak_digests"
            )

    async def _download(self, wanted: Wanted, peers: Any, report: Any) -> Downloaded:
        try:
            return await self._leecher.download(
                wanted.digest,
                peers,
                size=wanted.size,
                size_max=wanted.size_max,
                manifest_digest=wanted.manifest,
                on_progress=report,
            )
        except NoPeerError as error:
            raise NobodyOffersError(
                f"nobody offers {wanted.file or 'it'} now ({wanted.digest})"
            ) from error
        except WrongBytesError as error:
            raise VerificationError(str(error)) from error
        except TransferError as error:
            raise NodeError(str(error)) from error


class Closure:
    """Everything that one command needs, fetched once and at the same time."""

    def __init__(self, fetch: Fetch, progress: Progress, *, dependencies: bool) -> None:
        self._fetch = fetch
        self._progress = progress
        self._dependencies = dependencies
        self._slots = asyncio.Semaphore(DOWNLOADS_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._fetched: dict[str, Fetched] = {}
        self._packages: dict[str, Package] = {}

    async def bring(self, digests: list[Digest], packages: list[Digest]) -> None:
        """Fetch content by digest and whole packages by their package files' digests.

        Raises the first NodeError that any of it met; what had come by then stays.
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
            self._fetch.catalogue.add_package(digest_text, package, held=True)

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
        fetched = await self._artifact(Wanted(digest))
        package = await self._fetch.read_package(fetched.artifact)
        if package is None:
            self._fetch.catalogue.add_direct(str(fetched.artifact.digest), "")
        else:
            self._want_package(group, fetched.artifact.digest)

    async def _artifact(self, wanted: Wanted) -> Fetched:
        async with self._slots:
            fetched = await self._fetch.artifact(wanted, self._progress)
        self._fetched[str(wanted.digest)] = fetched
        return fetched

    async def _package(self, group: asyncio.TaskGroup, digest: Digest) -> None:
        async with self._slots:
            package, fetched = await self._fetch.package(digest, self._progress)
        named = Fetched(
            fetched.artifact, package.file_name, fetched.seconds, fetched.sources
        )
        self._fetched[str(digest)] = named
        self._packages[str(digest)] = package
        for entry in package.body.artifacts:
            wanted = Wanted(
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
                    wanted = Wanted(needed, dependency.name)
                    self._once(group, dependency.digest, self._keep(wanted))

    async def _keep(self, wanted: Wanted) -> None:
        await self._artifact(wanted)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first plain error of a group, however deep it lies."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
