"""A Debian archive: signed files passed through, the rest by the digests in them.

apt verifies everything itself, from the signed Release down. What this adds is peers
and the store, for which a file's digest must be known:

1. A path below `by-hash` holds the digest.
2. Other index files are listed in the Release file beside which they are.
3. Packages are listed in the Packages and Sources files. Those that apt fetches through
   here are read; where apt has its lists from before, they are fetched when the first
   package is asked for.
4. What no signed file names is passed on from the upstream as it comes, and not kept.
5. The upstream is asked for the signed files each time, if only whether they have
   changed, as apt does: its next requests are for what the newest of them names.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
from collections.abc import AsyncIterator
from dataclasses import replace

from node.gateway import limits
from node.gateway.answers import (
    Answer,
    FileAnswer,
    GatewayRequest,
    PageAnswer,
    RelayAnswer,
    Route,
    conditions,
)
from node.gateway.debian.packages import (
    ReleasedFile,
    escaped,
    is_path,
    plain_path,
    read_packages,
    read_release,
)
from node.gateway.index import IndexContext
from node.gateway.named_file import NamedFile, parse_digests
from node.gateway.named_files import NamedFiles, line
from node.gateway.origin import OriginPage, RelayRequest
from node.gateway.page_cache import StoredPage
from node.gateway.pages import PageMissingError, PageRequest, ReadPage, UnreachableError
from node.gateway.resolver import MissError
from node.gateway.upstream import Upstream
from node.gateway.urls import blob_digest
from transfer import Artifact, ClosedError, Digest
from transfer.single_flight import SingleFlight

log = logging.getLogger(__name__)

_SIGNED = ("InRelease", "Release")
_SIGNATURE = "Release.gpg"  # apart from its file; both must be of one age
_BY_HASH = re.compile(
    r"(?:(.+)/)?by-hash/(MD5Sum|SHA1|SHA256|SHA512)/([0-9a-f]{32,128})"
)
_LISTS = re.compile(
    r"(?:.+/)?(?:binary-[a-z0-9-]+/Packages|source/Sources|Packages|Sources)"
)
_PACKED = re.compile(r"\.(?:xz|gz|bz2|lzma)\Z")
_ENDINGS = (".xz", ".gz", ".bz2", ".lzma", "")
_BINARY = re.compile(r"(?:.*_([a-z0-9-]+))?\.[a-z]?deb")
_LIST_KEY = "list:"
_MACHINES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "i686": "i386",
    "ppc64le": "ppc64el", "riscv64": "riscv64", "s390x": "s390x",
}  # fmt: skip


class DebianArchive:
    """Answers what apt asks a mirror."""

    def __init__(self, context: IndexContext, upstream: str) -> None:
        self._context = context
        self._upstream = upstream
        self._readings: SingleFlight[str, None] = SingleFlight(
            linger=limits.PAGE_LINGER_SECONDS
        )
        self._read: set[str] = set()

    def routes(self) -> list[Route]:
        """Return the one route, below which an archive is."""
        return [Route(f"/{self._upstream}/{{path:.+}}", self._path, is_mirror=True)]

    async def learn(self, name: str = "") -> None:  # noqa: ARG002 - it has one page
        """Read the lists of packages for this machine, of all suites that are known."""
        await self._learn(_kinds_for(""))

    async def _learn(self, kinds: frozenset[str]) -> None:
        for folder in await self._suites():
            for forms in await self._lists_of(folder, kinds):
                for one in forms:
                    if await self._learn_list(folder, one):
                        break

    async def origin_of(self, path: str) -> str:
        """Return the same path at the upstream."""
        return self._context.upstream(self._upstream).url + path

    async def _path(self, request: GatewayRequest) -> Answer:
        path = plain_path(request.parameters["path"])
        upstream = self._context.upstream(self._upstream)
        if not is_path(path):
            raise PageMissingError
        if path.rpartition("/")[2] in (*_SIGNED, _SIGNATURE):
            page = await self._context.pages.get(self._release(upstream, path))
            return PageAnswer(page.forms[""], "text/plain; charset=utf-8", page)
        places = await self._places(path)
        if not places:
            url = upstream.url + request.tail
            return RelayAnswer(
                upstream,
                RelayRequest(url, request.method, headers=conditions(request)),
            )
        # As apt writes it: a server may know "%2b" and not "+".
        first = replace(places[0], url=upstream.url + request.tail)
        places = (first, *places[1:])
        await self._read_what_comes(path, places, request.method)
        is_by_hash = _BY_HASH.fullmatch(path) is not None
        return FileAnswer(first.strong, places, moves=not is_by_hash)

    async def _read_what_comes(
        self, path: str, places: tuple[NamedFile, ...], method: str
    ) -> None:
        """Read a list of packages that apt fetches, in the background."""
        folder, name = self._list_at(path)
        if method != "GET" or not name:
            return
        try:
            artifact = await self._context.resolver.resolve(places[0].strong, places)
        except MissError:
            return  # the same answer comes from the route
        await self._once(f"{folder}/{name}", artifact)

    # --- what is known of a path ---

    async def _places(self, path: str) -> tuple[NamedFile, ...]:
        """Return where the file at a path is by the signed files; none: not named."""
        if match := _BY_HASH.fullmatch(path):
            digest = blob_digest(match[2].lower().replace("md5sum", "md5"), match[3])
            if digest is not None:
                url = self._context.upstream(self._upstream).url + path
                named = NamedFile(self._upstream, "", match[3], url, (digest,))
                # Some archives promise by-hash and have it not, or only for a while.
                return (named, *await self._by_name(path, digest))
        found = await self._in_releases(path) or await self._in_lists(path)
        if found is None and not path.startswith("dists/"):
            await self._learn_soon(_kinds_for(path.rpartition("/")[2]))
            found = await self._in_lists(path)
        return () if found is None else (found,)

    async def _in_releases(self, path: str) -> NamedFile | None:
        """Return the index file at a path, by the Release above it."""
        async for page in self._releases_above(path):
            if found := page.files.find_file(path):
                return found
        return None

    async def _by_name(self, path: str, digest: Digest) -> tuple[NamedFile, ...]:
        """Return the index file of a digest as a Release names it."""
        async for page in self._releases_above(path):
            if found := page.files.find(digest):
                return (found,)
        return ()

    async def _releases_above(self, path: str) -> AsyncIterator[StoredPage]:
        for folder in await self._suites():
            if not folder or path.startswith(f"{folder}/"):
                page = await self._context.pages.kept(
                    (self._upstream, await self._release_path(folder))
                )
                if page is not None:
                    yield page

    async def _in_lists(self, path: str) -> NamedFile | None:
        """Return the package at a path, by the newest list that names it."""
        pages = self._context.pages
        for key in await pages.paths(self._upstream, _LIST_KEY):
            page = await pages.kept((self._upstream, key))
            if page and (found := page.files.find_file(path)):
                return found
        return None

    async def _learn_soon(self, kinds: frozenset[str]) -> None:
        """Read the lists, but let a client wait for that only a while."""
        key = " ".join(sorted(kinds))
        task = asyncio.ensure_future(
            self._readings.run(key, lambda: self._learn(kinds))
        )
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({task}, timeout=limits.LEARN_SECONDS_MAX)

    # --- Release files ---

    def _release(self, upstream: Upstream, path: str) -> PageRequest:
        folder, _, name = path.rpartition("/")

        def read(page: OriginPage) -> ReadPage:
            if name == _SIGNATURE:
                return ReadPage(NamedFiles(upstream.name), {"": page.body})
            prefix = f"{folder}/" if folder else ""
            lines = [
                line(
                    prefix + one.path,
                    size=one.size,
                    digests=one.digest,
                    origin=f"{folder}\t{upstream.url}{escaped(prefix + one.path)}",
                )
                for one in read_release(page.body)
            ]
            text = "".join(["\n", *lines]).encode("utf-8", "replace")
            return ReadPage(NamedFiles(upstream.name, text), {"": page.body})

        return PageRequest(upstream, path, "*/*", read, max_age=0.0)

    async def _suites(self) -> list[str]:
        """Return the folders of the Release files that apt has asked for here."""
        paths = await self._context.pages.paths(self._upstream, "")
        folders = (
            path.rpartition("/")[0]
            for path in paths
            if path.rpartition("/")[2] in _SIGNED
        )
        return list(dict.fromkeys(folders))

    async def _release_path(self, folder: str) -> str:
        prefix = f"{folder}/" if folder else ""
        for path in await self._context.pages.paths(self._upstream, prefix):
            if path in {prefix + name for name in _SIGNED}:
                return path
        return f"{prefix}InRelease"

    # --- lists of packages ---

    def _list_at(self, path: str) -> tuple[str, str]:
        """Return (folder, name) of the list at a path; ("", "") for other files."""
        if match := _BY_HASH.fullmatch(path):
            folder = match[1] or ""
            kind = folder.rpartition("/")[2]
            is_list = kind.startswith("binary-") or kind == "source"
            return (folder, "list") if is_list else ("", "")
        bare = _PACKED.sub("", path)
        is_list = _LISTS.fullmatch(bare) is not None
        return (_list_folder(bare), "list") if is_list else ("", "")

    async def _lists_of(
        self, folder: str, kinds: frozenset[str]
    ) -> list[list[ReleasedFile]]:
        """Return the lists of packages that a Release names, each in its packed forms.

        The form that is cheapest to have comes first.
        """
        page = await self._context.pages.kept(
            (self._upstream, await self._release_path(folder))
        )
        if page is None:
            return []
        found: dict[str, list[ReleasedFile]] = {}
        for one in read_release(page.forms[""]):
            bare = _PACKED.sub("", one.path)
            kind = bare.rpartition("/")[0].rpartition("/")[2]
            if _LISTS.fullmatch(bare) and (not kind or kind in kinds):
                found.setdefault(bare, []).append(one)
        for bare, forms in found.items():
            forms.sort(key=lambda one: _ENDINGS.index(one.path.removeprefix(bare)))
        return list(found.values())

    async def _learn_list(self, folder: str, one: ReleasedFile) -> bool:
        """Read a list of packages; return whether it was to be had."""
        path = f"{folder}/{one.path}" if folder else one.path
        place = _list_folder(_PACKED.sub("", path))
        if one.digest in self._read and await self._is_kept(place):
            return True
        upstream = self._context.upstream(self._upstream)
        digests = parse_digests([one.digest])
        if not digests:
            return False
        named = NamedFile(
            self._upstream, folder, path, upstream.url + escaped(path), digests,
            one.size,
        )  # fmt: skip
        try:
            artifact = await self._context.resolver.resolve(named.strong, [named])
        except MissError as error:
            log.info("a list of packages cannot be had: %s", error)
            return False
        await self._once(f"{place}/list", artifact)
        self._read.add(one.digest)
        return True

    async def _is_kept(self, place: str) -> bool:
        """Tell whether what a list named is still among the pages."""
        key = _LIST_KEY + place
        return key in await self._context.pages.paths(self._upstream, key)

    async def _once(self, key: str, artifact: Artifact) -> None:
        """Read a list of packages; a client that leaves does not undo it."""
        try:
            await asyncio.shield(
                asyncio.ensure_future(
                    self._readings.run(
                        str(artifact.digest), lambda: self._take_in(key, artifact)
                    )
                )
            )
        except (ClosedError, PageMissingError, UnreachableError, TimeoutError):
            return

    async def _take_in(self, key: str, artifact: Artifact) -> None:
        digest = str(artifact.digest)
        is_known = digest in self._read and await self._is_kept(key.rpartition("/")[0])
        if is_known or artifact.size > limits.ARCHIVE_BYTES_MAX:
            return
        upstream = self._context.upstream(self._upstream)
        path = self._context.store.path(artifact)

        def read() -> NamedFiles | None:
            try:
                with path.open("rb") as file:
                    return read_packages(file, upstream.name, upstream.url)
            except (OSError, ValueError) as error:
                log.warning("a list of packages cannot be read: %s", error)
                return None

        files = await self._context.pages.in_reader(read)
        if files is not None:
            place = (self._upstream, _LIST_KEY + key.rpartition("/")[0])
            await self._context.pages.put(place, ReadPage(files))
            self._read.add(digest)


def _list_folder(bare: str) -> str:
    """Return what tells a list from others: its folder, if it has one of its own.

    `bare` is its path without the ending of its packer. An archive without suites has
    Packages and Sources side by side.
    """
    folder = bare.rpartition("/")[0]
    kind = folder.rpartition("/")[2]
    return folder if kind.startswith("binary-") or kind == "source" else bare


def _kinds_for(file: str) -> frozenset[str]:
    """Return the folders of the lists that may name a file: "binary-amd64", "source".

    Without a name, or with one that says nothing, those for this machine.
    """
    here = f"binary-{_MACHINES.get(platform.machine(), 'all')}"
    match = _BINARY.fullmatch(file)
    if file and match is None:
        return frozenset({"source"})
    machine = match[1] if match is not None else None
    if machine in (None, "all"):
        return frozenset({here, "binary-all"})
    return frozenset({f"binary-{machine}"})
