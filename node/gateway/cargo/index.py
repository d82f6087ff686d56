"""The cargo index: the sparse protocol, passed through with our own download URL.

Beside the upstream's crates are those that were published in the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from node.gateway import limits
from node.gateway.cargo.crates import read_line
from node.gateway.file_metadata import FileMetadata
from node.gateway.page_cache import NamedFile, StoredPage
from node.gateway.pages import PageMissingError, Pages, UnreachableError
from node.gateway.published import (
    Published,
    PublishedPackage,
    UpstreamSays,
    settle,
)
from node.gateway.upstreams import Upstream, Upstreams
from node.model.packages import ArtifactEntry
from node.settings import Winner
from transfer import Digest, DigestError

UPSTREAM = "cargo"
DOWNLOAD = "blob/sha256/{sha256-checksum}/{crate}-{version}.crate"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,100}")
_MARKER = re.compile(r"\{(crate|version|prefix|lowerprefix|sha256-checksum)\}")


class _Line(msgspec.Struct):
    name: str
    vers: str
    cksum: str


class _Config(msgspec.Struct):
    dl: str


class CrateIndex:
    """Answers what cargo asks a sparse index."""

    def __init__(
        self,
        upstreams: Upstreams,
        pages: Pages,
        published: Published,
        derive: FileMetadata,
        winners: Mapping[str, Winner],
    ) -> None:
        self._upstreams = upstreams
        self._pages = pages
        self._published = published
        self._derive = derive
        self._winners = {canonical(name): who for name, who in winners.items()}

    def config(self, base: str) -> bytes:
        """Return our config.json; `base` is the URL of this door."""
        return msgspec.json.encode({"dl": f"{base}/{DOWNLOAD}", "api": None})

    async def crate(self, path: str) -> bytes:
        """Return the index file of a crate.

        Raises PageMissingError, UnreachableError; ClashError and AbsentError where
        something of that name was published.
        """
        name = path.rpartition("/")[2]
        if not _NAME.fullmatch(name) or path != index_path(name):
            raise PageMissingError
        packages = await self._published.packages(
            lambda followed: followed.lower() == name,
            lambda package: crate_of(package) is not None,
        )
        winner = self._winners.get(canonical(name))
        if packages or winner == "network":
            says = await self._says(name)
            package = settle(name, says, packages, winner)
            if package is not None:
                return await self._line(package)
        return (await self._page(name)).body

    async def learn(self, name: str) -> None:
        """Read the upstream's page of a crate; PageMissingError, UnreachableError."""
        await self._page(name)

    async def _line(self, package: PublishedPackage) -> bytes:
        entry = crate_of(package)
        if entry is None:
            raise PageMissingError
        checksum = entry.digest.partition(":")[2]

        def read(crate: Path) -> bytes:
            return read_line(crate, package.name, package.version, checksum)

        return await self._derive.read(entry, UPSTREAM, read)

    async def _says(self, name: str) -> UpstreamSays:
        """Ask the upstream for a name, and for what it could be mistaken for."""
        if self._upstreams.get(UPSTREAM) is None:
            return "has it not"
        folded = canonical(name)
        for spelling in sorted({name, folded, folded.replace("-", "_")}):
            try:
                await self._page(spelling)
            except PageMissingError:
                continue
            except UnreachableError:
                return "nothing"
            return "has it"
        return "has it not"

    async def _page(self, name: str) -> StoredPage:
        upstream = self._upstreams.get(UPSTREAM)
        if upstream is None or not _NAME.fullmatch(name):
            raise PageMissingError
        template = await self._template(upstream)

        def read(page: StoredPage) -> list[NamedFile]:
            return read_crate(page.body, template)

        return await self._pages.get(
            upstream, index_path(name), accept="*/*", read=read
        )

    async def _template(self, upstream: Upstream) -> str:
        try:
            page = await self._pages.get(
                upstream, "config.json", accept="*/*", read=_check_config
            )
        except PageMissingError as error:
            raise UnreachableError("it is no sparse index: no config.json") from error
        return msgspec.json.decode(page.body, type=_Config).dl


def canonical(name: str) -> str:
    """Return what all spellings of a crate's name have in common."""
    return name.lower().replace("_", "-")


def crate_of(package: PublishedPackage) -> ArtifactEntry | None:
    """Return the crate among a package's files, or None."""
    if not _NAME.fullmatch(package.name) or not _VERSION.fullmatch(package.version):
        return None
    wanted = f"{package.name}-{package.version}.crate"
    return next((one for one in package.artifacts if one.file == wanted), None)


def index_path(name: str) -> str:
    """Return where a sparse index has a crate."""
    lower = name.lower()
    return f"{prefix_of(lower)}/{lower}"


def prefix_of(name: str) -> str:
    """Return the folders that a crate's name begins with in an index."""
    if len(name) <= 2:
        return str(len(name))
    if len(name) == 3:
        return f"3/{name[0]}"
    return f"{name[:2]}/{name[2:4]}"


def read_crate(body: bytes, template: str) -> list[NamedFile]:
    """Return the files that a crate's index file names; ValueError if it is none."""
    files = []
    lines = body.split(b"\n")
    if len(lines) > limits.FILES_PER_PAGE_MAX:
        raise ValueError("it names too many versions")
    for text in lines:
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=_Line)
            digest = Digest.parse(f"sha256:{line.cksum}")
        except (msgspec.MsgspecError, DigestError) as error:
            raise ValueError(str(error)) from error
        if _NAME.fullmatch(line.name) and _VERSION.fullmatch(line.vers):
            files.append(
                NamedFile(
                    UPSTREAM,
                    line.name,
                    f"{line.name}-{line.vers}.crate",
                    download_url(template, line.name, line.vers, line.cksum),
                    (digest,),
                )
            )
    return files


def download_url(template: str, name: str, version: str, checksum: str) -> str:
    """Fill in the `dl` of an index's config.json."""
    if not _MARKER.search(template):
        return f"{template}/{name}/{version}/download"
    values = {
        "crate": name,
        "version": version,
        "prefix": prefix_of(name),
        "lowerprefix": prefix_of(name.lower()),
        "sha256-checksum": checksum,
    }
    return _MARKER.sub(lambda match: values[match[1]], template)


def _check_config(page: StoredPage) -> list[NamedFile]:
    try:
        msgspec.json.decode(page.body, type=_Config)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    return []
