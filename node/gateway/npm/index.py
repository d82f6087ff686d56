"""The npm registry: packuments with our own tarball URLs.

Beside the upstream's packages are those that were published in the network. What npm
asks a registry beyond packages (audit, ping, search, dist-tags) is passed on.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from node.gateway import limits
from node.gateway.answers import (
    Answer,
    FileAnswer,
    GatewayRequest,
    PageAnswer,
    RelayAnswer,
    Route,
)
from node.gateway.index import IndexContext, PublishedQuery
from node.gateway.npm.guesses import needs_in
from node.gateway.npm.packument import BASE, read_packument
from node.gateway.npm.published import read_manifest, tarball_of, write_packument
from node.gateway.origin import OriginPage, RelayRequest
from node.gateway.page_cache import StoredPage
from node.gateway.pages import (
    PageMissingError,
    PageRequest,
    ReadPage,
    UnreachableError,
)
from node.gateway.published import PublishedPackage, UpstreamSays
from node.gateway.upstream import without_user
from transfer import Digest

SHORT_TYPE = "application/vnd.npm.install-v1+json"
FULL_TYPE = "application/json"
_NAME = re.compile(r"(@[A-Za-z0-9~._-]{1,100}/)?[A-Za-z0-9~_-][A-Za-z0-9~._-]{0,213}")
_TARBALL = re.compile(r"([^/]++(?:/[^/]++)?)/-/([^/]++)")
_VERSION = re.compile(
    r"((?:@[A-Za-z0-9~._-]{1,100}/)?[A-Za-z0-9~_-][A-Za-z0-9~._-]{0,213})"
    r"/([A-Za-z0-9^~*<>=][A-Za-z0-9.+~^*<>=| -]{0,100})"
)
# What npm asks beyond packages. The upstream is asked with the node's own credentials,
# so nothing is passed on that could read or change an account.
_AUDIT = "-/npm/v1/security/.+"
_BEYOND = (
    "-/(?:ping|whoami|v1/search|npm/v1/(?:keys|attestations/.+)|package/.+/dist-tags)"
)
_LOOKS = ("audit", "diff", "info", "outdated", "search", "show", "view")
# Headers of npm's that a registry needs; credentials of the client stay here.
_PASSED_ON = ("content-type", "content-encoding", "accept", "npm-command", "user-agent")


class NpmIndex:
    """Answers what npm asks a registry."""

    def __init__(self, context: IndexContext, upstream: str) -> None:
        self._context = context
        self._upstream = upstream

    def routes(self) -> list[Route]:
        """Return the routes of a registry."""
        root = f"/{self._upstream}"
        return [
            Route(f"{root}/{{path:{_AUDIT}}}", self._beyond, ("GET", "HEAD", "POST")),
            Route(f"{root}/{{path:{_BEYOND}}}", self._beyond),
            Route(f"{root}/{{path:.+}}", self._package, kind=_type),
        ]

    async def learn(self, name: str) -> None:
        """Read a package's document."""
        await self._page(name, short=True)

    async def packument(
        self, name: str, base: str, *, short: bool, wanted: str | None = None
    ) -> PageAnswer:
        """Return a package's document, its tarballs at `base`.

        `wanted` is a range of versions whose needs are read ahead; None for nothing.
        Raises PageMissingError, UnreachableError, ClashError, NothingNamedError.
        """
        self._context.ahead.asked((self._upstream, name))
        package = await self._meant(name)
        if package is not None:
            body = await self._published(package, base, short=short)
            return PageAnswer(body, SHORT_TYPE if short else FULL_TYPE)
        page, kind = await self._document(name, short=short, wanted=wanted)
        form = f"at {base}"
        if form not in page.forms:
            ours = f"{base}/{self._upstream}".encode()
            body = page.forms[""]
            page.forms[form] = await self._context.pages.in_reader(
                lambda: body.replace(BASE.encode(), ours)
            )
        return PageAnswer(page.forms[form], kind, page, form)

    async def tarball(self, name: str, file: str) -> FileAnswer | RelayAnswer:
        """Return the digest of a tarball, whose URL holds none, and its origins.

        One without a digest is passed through.
        """
        package = await self._meant(name)
        if package is not None:
            entry = tarball_of(package)
            if entry is None or entry.file != file:
                raise PageMissingError
            return FileAnswer(Digest.parse(entry.digest), (), moves=True)
        # The newest page decides: a version can be rebuilt under the same name.
        page = await self._any_page(name)
        named = page.files.find_file(file) or page.files.find_file(f"-{file}")
        if named is not None:
            return FileAnswer(named.strong, (named,), moves=True)
        url = page.files.url_without_digest(file)
        if not url:
            raise PageMissingError
        upstream = self._context.upstream(self._upstream)
        return RelayAnswer(upstream, RelayRequest(url), is_file=True)

    async def origin_of(self, path: str) -> str:
        """Return the URL of the registry, a package or a tarball at the upstream."""
        upstream = self._context.upstream(self._upstream)
        name, file = split_path(path)
        if file is None:
            return upstream.url + path
        page = await self._any_page(name)
        named = page.files.find_file(file) or page.files.find_file(f"-{file}")
        url = page.files.url_without_digest(file) if named is None else named.url
        return without_user(url)

    # --- routes --------------------------------------------------------------------

    async def _package(self, request: GatewayRequest) -> Answer:
        path = request.parameters["path"]
        if match := _TARBALL.fullmatch(path):
            return await self.tarball(match[1], match[2])
        is_reserved = path.startswith("-/")  # what could read an account is there
        is_one = not is_package_name(path) and not is_reserved
        if is_one and _VERSION.fullmatch(path):
            return self._relay(request)  # /NAME/VERSION: the document of one version
        short = _type(request.accept) == SHORT_TYPE
        # What only looks at packages installs nothing of what they need.
        looks = request.headers.get("npm-command", "") in _LOOKS
        wanted = None if looks else ""
        return await self.packument(path, request.base, short=short, wanted=wanted)

    async def _beyond(self, request: GatewayRequest) -> Answer:
        return self._relay(request)

    def _relay(self, request: GatewayRequest) -> RelayAnswer:
        upstream = self._context.upstream(self._upstream)
        if len(request.body) > limits.RELAY_BODY_BYTES_MAX:
            raise PageMissingError
        headers = tuple(
            (name, text)
            for name, text in request.headers.items()
            if name.lower() in _PASSED_ON
        )
        return RelayAnswer(
            upstream,
            RelayRequest(
                upstream.url + request.tail, request.method, request.body, headers
            ),
        )

    # --- names ---------------------------------------------------------------------

    async def _meant(self, name: str) -> PublishedPackage | None:
        """Return the published package that a name means, None for the upstream's."""
        if not is_package_name(name):
            raise PageMissingError
        query = PublishedQuery(
            name,
            lambda spelling: spelling,
            lambda package: tarball_of(package) is not None,
            lambda: self._says(name),
        )
        return await self._context.meant(query)

    async def _says(self, name: str) -> UpstreamSays:
        if self._context.upstreams.get(self._upstream) is None:
            return "has it not"
        return await self._context.says(self._request(name, short=True))

    async def _published(
        self, package: PublishedPackage, base: str, *, short: bool
    ) -> bytes:
        entry = tarball_of(package)
        if entry is None:
            raise PageMissingError

        def read(tarball: Path) -> dict[str, Any]:
            return read_manifest(tarball, package.name, package.version)

        metadata = self._context.metadata
        manifest = await metadata.read(entry, self._upstream, read)
        digests = await metadata.digests(entry)
        url = f"{base}/{self._upstream}/{package.name}/-/{entry.file}"
        return await asyncio.to_thread(
            write_packument, manifest, url, digests, short=short
        )

    # --- the upstream's pages --------------------------------------------------------

    async def _page(
        self, name: str, *, short: bool, wanted: str | None = None
    ) -> StoredPage:
        if not is_package_name(name):
            raise PageMissingError
        request = self._request(name, short=short, wanted=wanted)
        return await self._context.pages.get(request)

    async def _document(
        self, name: str, *, short: bool, wanted: str | None = None
    ) -> tuple[StoredPage, str]:
        """Return a package's document and its type.

        Where the registry cannot be asked, that is the other form if it is known:
        each serves for an installation.
        """
        try:
            page = await self._page(name, short=short, wanted=wanted)
        except UnreachableError:
            other = self._request(name, short=not short)
            known = await self._context.pages.kept(other.place)
            if known is None:
                raise
            page, short = known, not short
        return page, SHORT_TYPE if short else FULL_TYPE

    async def _any_page(self, name: str) -> StoredPage:
        """Return the document in the form that was read last, or else the short one."""
        pages = self._context.pages
        short, full = (self._request(name, short=short) for short in (True, False))
        known = await pages.kept(short.place), await pages.kept(full.place)
        ages = [float("inf") if one is None else pages.age(one) for one in known]
        page, _ = await self._document(name, short=ages[0] <= ages[1])
        return page

    async def _look_ahead(self, page: StoredPage, wanted: str, *, short: bool) -> None:
        """Ask for the documents of what a package needs, in a range of its versions."""
        context = self._context
        body = page.forms.get("", b"")
        needs = await context.pages.in_reader(lambda: needs_in(body, wanted))
        for name, range_ in needs.items():
            if is_package_name(name) and not context.is_published(name, str):
                request = self._request(name, short=short, wanted=range_)
                place = (self._upstream, name)
                context.ahead.begin(place, partial(context.pages.get, request))

    def _request(
        self, name: str, *, short: bool, wanted: str | None = None
    ) -> PageRequest:
        """Return what asks for a document.

        `wanted` is a range of versions whose needs are read ahead; None for nothing.
        """
        upstream = self._context.upstream(self._upstream)
        path = quote(name, safe="@")

        def read(page: OriginPage) -> ReadPage:
            return read_packument(page.body, upstream.name, name, registry=upstream.url)

        def look_ahead(page: StoredPage) -> None:
            if wanted is not None:
                self._context.ahead.follow(
                    partial(self._look_ahead, page, wanted, short=short)
                )

        return PageRequest(
            upstream,
            path,
            f"{SHORT_TYPE}, {FULL_TYPE};q=0.8" if short else FULL_TYPE,
            read,
            key=f"{path} {'short' if short else 'full'}",
            on_asked=look_ahead,
        )


def _type(accept: str) -> str:
    return SHORT_TYPE if SHORT_TYPE in accept else FULL_TYPE


def is_package_name(name: str) -> bool:
    """Tell whether npm could have a package of this name."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def split_path(raw_path: str) -> tuple[str, str | None]:
    """Split a path below the registry into (package, tarball or None)."""
    path = unquote(raw_path)
    if match := _TARBALL.fullmatch(path):
        return match[1], match[2]
    return path, None
