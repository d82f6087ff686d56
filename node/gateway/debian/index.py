"""A Debian archive: signed files passed through, the rest by the digests in them.

apt verifies everything itself, from the signed Release down. What this adds is peers
and the store, for which a file's digest must be known:

1. A path below `by-hash` holds the digest.
2. Other index files are listed in the Release file beside which they are.
3. Packages are listed in the Packages and Sources files. Those that apt fetches through
   here are read; where apt has its lists from before, they are fetched when the first
   package is asked for.
4. What no signed file names is passed on from the upstream as it comes, and not kept.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import re
from dataclasses import replace

from node.gateway import limits
from node.gateway.answers import (
    Answer,
    FileAnswer,
    GatewayRequest,
    PageAnswer,
    RelayAnswer,
    Route,
)
from node.gateway.debian.packages import (
    ReleasedFile,
    is_path,
    read_packages,
    read_release,
)
from node.gateway.index import IndexContext
from node.gateway.named_file import NamedFile, parse_digests
from node.gateway.named_files import NamedFiles, line
from node.gateway.origin import OriginPage, RelayRequest
from node.gateway.pages import PageMissingError, PageRequest, ReadPage, UnreachableError
from node.gateway.resolver import MissError
from node.gateway.upstream import Upstream
from node.gateway.urls import blob_digest
from transfer import Artifact, ClosedError
from transfer.single_flight import SingleFlight

log = logging.getLogger(__name__)

_SIGNED = ("InRelease", "Release")
_BY_HASH = re.compile(
    r"(?:(.+)/)?by-hash/(MD5Sum|SHA1|SHA256|SHA512)/([0-9a-f]{32,128})"
)
_LISTS = re.compile(
    r"(?:.+/)?(?:binary-[a-z0-9-]+/Packages|source/Sources|Packages|Sources)"
)
_PACKED = re.compile(r"\.(?:xz|gz|bz2)\Z")
_ENDINGS = (".xz", ".gz", ".bz2", "")
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
        for folder in await self._suites():
            for one in await self._lists_of(folder):
                await self._learn_list(folder, one)

    async def origin_of(self, path: str) -> str:
        """Return the same path at the upstream."""
        return self._context.upstream(self._upstream).url + path

    async def _path(self, request: GatewayRequest) -> Answer:
        path = request.parameters["path"].removeprefix("./")
        upstream = self._context.upstream(self._upstream)
        if not is_path(path):
            raise PageMissingError
        if path.rpartition("/")[2] in _SIGNED:
            page = await self._context.pages.get(self._release(upstream, path))
            return PageAnswer(page.forms[""], "text/plain; charset=utf-8", page)
        named = await self._named(path)
        if named is None:
            url = upstream.url + request.tail
            return RelayAnswer(
                upstream,
                RelayRequest(url, request.method, headers=_conditions(request)),
            )
        # As apt writes it: a server may know "%2b" and not "+".
        named = replace(named, url=upstream.url + request.tail)
        await self._read_what_comes(path, named, request.method)
        return FileAnswer(named.strong, (named,))

    async def _read_what_comes(self, path: str, named: NamedFile, method: str) -> None:
        """Read a list of packages that apt fetches, in the background."""
        folder, name = self._list_at(path)
        if method != "GET" or not name:
            return
        try:
            artifact = await self._context.resolver.resolve(named.strong, [named])
        except MissError:
            return  # the same answer comes from the route
        await self._once(f"{folder}/{name}", artifact)

    # --- what is known of a path ---

    async def _named(self, path: str) -> NamedFile | None:
        """Return what signed files say of a path; None where they say nothing."""
        if match := _BY_HASH.fullmatch(path):
            digest = blob_digest(match[2].lower().replace("md5sum", "md5"), match[3])
            if digest is not None:
                url = self._context.upstream(self._upstream).url + path
                return NamedFile(self._upstream, "", match[3], url, (digest,))
        for folder in await self._suites():
            if not folder or path.startswith(f"{folder}/"):
                page = await self._context.pages.kept(
                    (self._upstream, await self._release_path(folder))
                )
                if page and (found := page.files.find_file(path)):
                    return found
        found = await self._in_lists(path)
        if found is None and not path.startswith("dists/"):
            await self._learn_soon()
            found = await self._in_lists(path)
        return found

    async def _in_lists(self, path: str) -> NamedFile | None:
        """Return the package at a path, by the newest list that names it."""
        pages = self._context.pages
        for key in await pages.paths(self._upstream, _LIST_KEY):
            page = await pages.kept((self._upstream, key))
            if page and (found := page.files.find_file(path)):
                return found
        return None

    async def _learn_soon(self) -> None:
        """Read the lists, but let a client wait for that only a while."""
        task = asyncio.ensure_future(self._readings.run("", self.learn))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait({task}, timeout=limits.LEARN_SECONDS_MAX)

    # --- Release files ---

    def _release(self, upstream: Upstream, path: str) -> PageRequest:
        folder = path.rpartition("/")[0]

        def read(page: OriginPage) -> ReadPage:
            prefix = f"{folder}/" if folder else ""
            lines = [
                line(
                    prefix + one.path,
                    size=one.size,
                    digests=one.digest,
                    origin=f"{folder}\t{upstream.url}{prefix}{one.path}",
                )
                for one in read_release(page.body)
            ]
            text = "".join(["\n", *lines]).encode("utf-8", "replace")
            return ReadPage(NamedFiles(upstream.name, text), {"": page.body})

        return PageRequest(upstream, path, "*/*", read)

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

    async def _lists_of(self, folder: str) -> list[ReleasedFile]:
        """Return the lists of packages for this machine that a Release names."""
        page = await self._context.pages.kept(
            (self._upstream, await self._release_path(folder))
        )
        if page is None:
            return []
        wanted = {f"binary-{_MACHINES.get(platform.machine(), 'all')}", "binary-all"}
        found: dict[str, ReleasedFile] = {}
        for one in read_release(page.forms[""]):
            bare = _PACKED.sub("", one.path)
            ending = one.path.removeprefix(bare)
            known = found.get(bare)
            if not _LISTS.fullmatch(bare) or ending not in _ENDINGS:
                continue
            kind = bare.rpartition("/")[0].rpartition("/")[2]
            if kind and kind not in wanted:
                continue
            if known is None or _ENDINGS.index(ending) < _ENDINGS.index(
                known.path.removeprefix(bare)
            ):
                found[bare] = one
        return list(found.values())

    async def _learn_list(self, folder: str, one: ReleasedFile) -> None:
        path = f"{folder}/{one.path}" if folder else one.path
        if one.digest in self._read:
            return
        upstream = self._context.upstream(self._upstream)
        digests = parse_digests([one.digest])
        if not digests:
            return
        named = NamedFile(
            self._upstream, folder, path, upstream.url + path, digests, one.size
        )
        try:
            artifact = await self._context.resolver.resolve(named.strong, [named])
        except MissError as error:
            log.info("a list of packages cannot be had: %s", error)
            return
        await self._once(f"{_list_folder(_PACKED.sub('', path))}/list", artifact)
        self._read.add(one.digest)

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
        if digest in self._read or artifact.size > limits.ARCHIVE_BYTES_MAX:
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


def _conditions(request: GatewayRequest) -> tuple[tuple[str, str], ...]:
    """Return the headers by which apt asks whether something has changed."""
    names = ("if-modified-since", "if-none-match", "range", "if-range")
    return tuple(
        (name, text) for name, text in request.headers.items() if name.lower() in names
    )
