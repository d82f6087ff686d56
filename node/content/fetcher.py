"""Bring content by its digest: from the store, or from the peers that offer it.

`ContentFetcher` is the one way from a digest to verified bytes of peers. Commands,
releases, repair and the gateway share it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from node import results
from node.commands import Progress
from node.content.router import ANNOUNCED_ALGORITHMS
from node.content.routing import Routing
from node.errors import (
    NobodyOffersError,
    NodeError,
    RefusedError,
    VerificationError,
    clause,
)
from node.model.folders import (
    BYTES_MAX,
    FolderFile,
    is_folder_list,
    read_folder_list,
)
from node.model.names import is_file_name
from node.model.packages import PACKAGE_FILE_BYTES_MAX, Package, is_package_file
from transfer import (
    Artifact,
    Digest,
    Downloaded,
    Leecher,
    NoPeerError,
    Peer,
    Store,
    TransferError,
    Wanted,
    WrongBytesError,
)

TOGETHER_MIN = 4
"""So many files are asked of the same peers, without a search for each."""
DESCRIPTION_BYTES_MAX = max(PACKAGE_FILE_BYTES_MAX, BYTES_MAX)
READ_AT_ONCE = 250
"""Artifacts that are read from the store together."""
NAMES_SECONDS_MAX = 2.0
"""How long a command waits for the file names that givers know."""

Report = Callable[[int, int | None], None]
"""Takes bytes done and bytes in all, None while that is not known."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact that is here now; without sources, it was here before."""

    artifact: Artifact
    file: str
    seconds: float
    sources: tuple[tuple[str, int], ...]
    giver: Peer | None = None
    """The peer that gave most of it."""

    def entry(self, path: str) -> results.FetchedArtifact:
        """Return what the command says of it."""
        return results.FetchedArtifact(
            digest=str(self.artifact.digest),
            file=self.file,
            size=self.artifact.size,
            path=path,
            seconds=round(self.seconds, 3),
            sources=[
                results.SourceEntry(address=address, bytes=count)
                for address, count in self.sources
            ],
        )


@dataclass(frozen=True, slots=True)
class WantedFile:
    """What to fetch, and what a package file or a page said of it."""

    digest: Digest
    file: str = ""
    size: int | None = None
    size_max: int | None = None
    manifest: bytes | None = None

    @property
    def content(self) -> Wanted:
        """What of it the transfer layer needs to know."""
        return Wanted(self.digest, self.size, self.size_max, self.manifest)

    def event(self, done: int, total: int | None) -> dict[str, Any]:
        """Return what a progress bar shows of it, of bytes."""
        return {
            "label": self.file or self.digest.short(),
            "key": str(self.digest),
            "done": done,
            "total": total,
            "unit": "bytes",
        }


def _described(content: bytes) -> Package | list[FolderFile] | None:
    if is_package_file(content):
        return Package.verify(content)
    return read_folder_list(content) if is_folder_list(content) else None


def _fetched(wanted: WantedFile, downloaded: Downloaded) -> Fetched:
    sources = tuple((str(one.peer), one.bytes) for one in downloaded.sources)
    most = max(downloaded.sources, key=lambda one: one.bytes, default=None)
    return Fetched(
        downloaded.artifact,
        wanted.file,
        downloaded.seconds,
        sources,
        giver=most.peer if most else None,
    )


def _never(digest: Digest) -> bool:
    del digest
    return False


class ContentFetcher:
    """Brings content from peers into the store."""

    def __init__(
        self,
        *,
        store: Store,
        leecher: Leecher,
        router: Routing,
        weak_digests: bool,
        is_out_of_reach: Callable[[Digest], bool] = _never,
    ) -> None:
        self._store = store
        self._leecher = leecher
        self._is_out_of_reach = is_out_of_reach
        self._router = router
        self._algorithms = {*ANNOUNCED_ALGORITHMS}
        if weak_digests:
            self._algorithms |= {"md5", "sha1"}

    async def held(self, digests: Iterable[Digest]) -> dict[Digest, Artifact]:
        """Return what the store has already of these."""
        return await asyncio.to_thread(self._held, list(digests))

    def _held(self, digests: list[Digest]) -> dict[Digest, Artifact]:
        found: dict[Digest, Artifact] = {}
        for algorithm in {one.algorithm for one in digests}:
            raws = [one.raw for one in digests if one.algorithm == algorithm]
            for start in range(0, len(raws), READ_AT_ONCE):
                part = raws[start : start + READ_AT_ONCE]
                for raw, artifact in self._store.find_many(algorithm, part).items():
                    found[Digest(algorithm, raw)] = artifact
        return found

    def is_strong(self, digest: Digest) -> bool:
        """Tell whether content may be looked up among strangers by this digest."""
        return digest.algorithm in self._algorithms

    def check_algorithm(self, digest: Digest) -> None:
        """Raise RefusedError for a digest too weak to be believed from strangers."""
        if not self.is_strong(digest):
            raise RefusedError(
                f"{digest} is not held, and {digest.algorithm.upper()} is too weak to "
                "be looked up among strangers; use its SHA-256, or set weak_digests"
            )

    async def download(
        self, wanted: WantedFile, report: Report, *, in_order: bool = False
    ) -> Downloaded:
        """Download `wanted` from peers into the store, verified.

        `in_order` brings the start of the file first. Raises RefusedError for a weak
        digest, NobodyOffersError where no peer has it, VerificationError where peers
        gave only wrong bytes, and NodeError for anything else, like a full disk.
        """
        self.check_algorithm(wanted.digest)
        try:
            async with contextlib.aclosing(self._router.peers(wanted.digest)) as peers:
                return await self._leecher.download(
                    wanted.content,
                    peers,
                    on_progress=report,
                    in_order=in_order,
                )
        except NoPeerError as error:
            named = f"{wanted.file or 'it'} now ({wanted.digest})"
            problem = f"nobody offers {named}"
            if self._is_out_of_reach(wanted.digest):
                problem = (
                    f"nobody in reach offers {named}: this node and those that offer "
                    "it are behind routers, and no node between them relays"
                )
            raise NobodyOffersError(problem) from error
        except WrongBytesError as error:
            raise VerificationError(clause(error)) from error
        except TransferError as error:
            raise NodeError(clause(error)) from error

    async def artifact(self, wanted: WantedFile, progress: Progress) -> Fetched:
        """Return `wanted` from the store, or download it as `download` does."""
        held = await asyncio.to_thread(self._store.find_pending, wanted.digest)
        if held is not None:
            return Fetched(held, wanted.file, 0.0, ())

        def report(done: int, total: int | None) -> None:
            progress(wanted.event(done, total))

        return _fetched(wanted, await self.download(wanted, report))

    async def together(
        self, wanted: Iterable[WantedFile], progress: Progress
    ) -> dict[Digest, Fetched]:
        """Return of many files those that are held or that few peers have, by digest.

        The peers that offer one of them are asked for all that are small. What is
        not among the outcome is left to `artifact`. Raises NodeError.
        """
        files = {one.digest: one for one in wanted}
        held = await self.held(files)
        fetched = {
            digest: Fetched(artifact, files[digest].file, 0.0, ())
            for digest, artifact in held.items()
        }
        left = [
            one
            for digest, one in files.items()
            if digest not in held
            and self.is_strong(digest)
            and one.content.may_be_small
        ]
        if len(left) < TOGETHER_MIN:
            return fetched

        def give(digest: Digest, downloaded: Downloaded) -> None:
            one = files[digest]
            fetched[digest] = _fetched(one, downloaded)
            progress(one.event(downloaded.artifact.size, downloaded.artifact.size))

        try:
            async with contextlib.aclosing(self._router.peers(left[0].digest)) as peers:
                contents = [one.content for one in left]
                await self._leecher.download_together(contents, peers, give)
        except TransferError as error:
            raise NodeError(str(error)) from error
        return fetched

    async def hinted_names(self, fetched: Iterable[Fetched]) -> dict[Digest, str]:
        """Return the plain file names by which their givers know artifacts.

        They are hints, good for a label where nothing better is known.
        """
        given: dict[Peer, list[Digest]] = {}
        for one in fetched:
            if one.giver is not None:
                given.setdefault(one.giver, []).append(one.artifact.digest)
        found: dict[Digest, str] = {}

        async def ask(peer: Peer, digests: list[Digest]) -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(NAMES_SECONDS_MAX):
                    found.update(await self._leecher.names(peer, digests))

        async with asyncio.TaskGroup() as tasks:
            for peer, digests in given.items():
                tasks.create_task(ask(peer, digests))
        return {digest: name for digest, name in found.items() if is_file_name(name)}

    async def package(
        self, digest: Digest, progress: Progress
    ) -> tuple[Package, Fetched]:
        """Return the verified package file of this digest; RefusedError if none."""
        wanted = WantedFile(digest, "package file", size_max=PACKAGE_FILE_BYTES_MAX)
        fetched = await self.artifact(wanted, progress)
        package = await self.read_package(fetched.artifact)
        if package is None:
            raise RefusedError(f"{digest} is not a package file")
        return package, fetched

    async def read(self, artifact: Artifact) -> Package | list[FolderFile] | None:
        """Return the package or the folder's files that an artifact describes.

        None where it describes neither; RefusedError for a bad one.
        """
        if artifact.size > DESCRIPTION_BYTES_MAX:
            return None
        return _described(await asyncio.to_thread(self._store.read, artifact))

    async def read_many(
        self, artifacts: Iterable[Artifact]
    ) -> dict[Digest, Package | list[FolderFile]]:
        """Return, by digest, what those of many describe that `read` says describe it.

        Raises RefusedError for a bad one.
        """
        small = [one for one in artifacts if one.size <= DESCRIPTION_BYTES_MAX]

        def read() -> dict[Digest, bytes]:
            contents = {}
            for one in small:
                content = self._store.read_small(one)
                if is_package_file(content) or is_folder_list(content):
                    contents[one.digest] = content
            return contents

        contents = await asyncio.to_thread(read)
        found = {digest: _described(content) for digest, content in contents.items()}
        return {digest: one for digest, one in found.items() if one is not None}

    async def read_package(self, artifact: Artifact) -> Package | None:
        """Return the package that a held artifact describes; None if it does not."""
        found = await self.read(artifact)
        return found if isinstance(found, Package) else None
