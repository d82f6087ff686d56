"""The cargo index: the sparse protocol, passed through with our own download URL.

Beside the upstream's crates are those that were published in the network.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import msgspec

from node.gateway import limits
from node.gateway.answers import Answer, GatewayRequest, PageAnswer, Route
from node.gateway.cargo.crates import read_line
from node.gateway.index import IndexContext, PublishedQuery
from node.gateway.named_file import NamedFile, parse_digests
from node.gateway.named_files import NamedFiles
from node.gateway.origin import OriginPage
from node.gateway.page_cache import StoredPage
from node.gateway.pages import PageMissingError, PageRequest, ReadPage, UnreachableError
from node.gateway.published import PublishedPackage, UpstreamSays
from node.model.packages import ArtifactEntry

DOWNLOAD = "blob/sha256/{sha256-checksum}/{crate}-{version}.crate"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,100}")
_MARKER = re.compile(r"\{(crate|version|prefix|lowerprefix|sha256-checksum)\}")
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


class CrateLine(msgspec.Struct):
    """One version of a crate, as its line in an index says."""

    name: str
    vers: str
    cksum: str


class _Config(msgspec.Struct):
    dl: str


class CrateIndex:
    """Answers what cargo asks a sparse index."""

    def __init__(self, context: IndexContext, upstream: str) -> None:
        self._context = context
        self._upstream = upstream

    def routes(self) -> list[Route]:
        """Return the routes of a sparse index."""
        root = f"/{self._upstream}/index"
        return [
            Route(f"{root}/config.json", self._config),
            Route(f"{root}/{{path:.+}}", self._crate),
        ]

    async def learn(self, name: str) -> None:
        """Read the upstream's page of a crate."""
        await self._page(name)

    async def crate(self, path: str) -> bytes | StoredPage:
        """Return the index file of a crate.

        Raises PageMissingError, UnreachableError, ClashError, NothingNamedError.
        """
        name = path.rpartition("/")[2]
        if not _NAME.fullmatch(name) or path != index_path(name):
            raise PageMissingError
        query = PublishedQuery(
            name,
            canonical,
            lambda package: (
                package.name.lower() == name and crate_of(package) is not None
            ),
            lambda: self._says(name),
        )
        package = await self._context.meant(query)
        if package is not None:
            return await self._line(package)
        return await self._page(name)

    async def origin_of(self, path: str) -> str:
        """Return the URL of the index at the upstream; Cargo.lock names no other."""
        upstream = self._context.upstream(self._upstream)
        folder, _, rest = path.partition("/")
        return upstream.url + rest if folder == "index" else ""

    # --- routes --------------------------------------------------------------------

    async def _config(self, request: GatewayRequest) -> Answer:
        document = {"dl": f"{request.base}/{DOWNLOAD}", "api": None}
        return PageAnswer(msgspec.json.encode(document), "application/json")

    async def _crate(self, request: GatewayRequest) -> Answer:
        found = await self.crate(request.parameters["path"])
        kind = "text/plain; charset=utf-8"
        if isinstance(found, bytes):
            return PageAnswer(found, kind)
        return PageAnswer(found.forms[""], kind, found)

    # --- names ---------------------------------------------------------------------

    async def _line(self, package: PublishedPackage) -> bytes:
        entry = crate_of(package)
        if entry is None:
            raise PageMissingError
        line = CrateLine(package.name, package.version, entry.digest.partition(":")[2])

        def read(crate: Path) -> bytes:
            return read_line(crate, line.name, line.vers, checksum=line.cksum)

        return await self._context.metadata.read(entry, self._upstream, read)

    async def _says(self, name: str) -> UpstreamSays:
        """Ask the upstream for a name, and for what it could be mistaken for."""
        if self._context.upstreams.get(self._upstream) is None:
            return "has it not"
        folded = canonical(name)
        spellings = sorted({name, folded, folded.replace("-", "_")})
        try:
            requests = [await self._request(one) for one in spellings]
        except UnreachableError:
            return "nothing"
        return await self._context.says(*requests)

    # --- the upstream's pages --------------------------------------------------------

    async def _page(self, name: str) -> StoredPage:
        if not _NAME.fullmatch(name):
            raise PageMissingError
        return await self._context.pages.get(await self._request(name))

    async def _request(self, name: str) -> PageRequest:
        upstream = self._context.upstream(self._upstream)
        template = await self._template()

        def read(page: OriginPage) -> ReadPage:
            return read_crate(page.body, template, upstream.name)

        return PageRequest(upstream, index_path(name), "*/*", read)

    async def _template(self) -> str:
        request = PageRequest(
            self._context.upstream(self._upstream), "config.json", "*/*", _read_config
        )
        try:
            page = await self._context.pages.get(request)
        except PageMissingError as error:
            raise UnreachableError("it is no sparse index: no config.json") from error
        return msgspec.json.decode(page.forms[""], type=_Config).dl


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


def read_crate(body: bytes, template: str, upstream: str) -> ReadPage:
    """Read a crate's index file, without its bad lines; ValueError if none is good."""
    files: list[NamedFile] = []
    sound: list[bytes] = []
    count = 0
    for count, text in enumerate(filter(None, map(bytes.strip, io.BytesIO(body))), 1):
        if count > limits.FILES_PER_PAGE_MAX:
            raise ValueError("it names too many versions")
        try:
            line = msgspec.json.decode(text, type=CrateLine)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if (
            _NAME.fullmatch(line.name)
            and _VERSION.fullmatch(line.vers)
            and _CHECKSUM.fullmatch(line.cksum)
            and len(url := download_url(template, line)) <= limits.URL_CHARACTERS_MAX
        ):
            sound.append(text)
            files.append(
                NamedFile(
                    upstream,
                    line.name,
                    f"{line.name}-{line.vers}.crate",
                    url,
                    parse_digests([f"sha256:{line.cksum}"]),
                )
            )
    if not sound:
        raise ValueError("none of its lines is that of a crate")
    body = b"".join(text + b"\n" for text in sound)
    return ReadPage(NamedFiles.of(upstream, files), {"": body})


def download_url(template: str, line: CrateLine) -> str:
    """Fill in the `dl` of an index's config.json."""
    if not _MARKER.search(template):
        return f"{template}/{line.name}/{line.vers}/download"
    values = {
        "crate": line.name,
        "version": line.vers,
        "prefix": prefix_of(line.name),
        "lowerprefix": prefix_of(line.name.lower()),
        "sha256-checksum": line.cksum,
    }
    return _MARKER.sub(lambda match: values[match[1]], template)


def _read_config(page: OriginPage) -> ReadPage:
    try:
        config = msgspec.json.decode(page.body, type=_Config)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    if len(config.dl) > limits.URL_CHARACTERS_MAX:
        raise ValueError("its dl is too long for a URL")
    return ReadPage(NamedFiles(""), {"": page.body})
