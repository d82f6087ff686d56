"""The Python index: an upstream's pages, and wheels published in the network."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import unquote

from packaging.specifiers import SpecifierSet

from node.gateway import limits
from node.gateway.answers import (
    Answer,
    FileAnswer,
    GatewayRequest,
    MovedAnswer,
    PageAnswer,
    PartAnswer,
    RelayAnswer,
    Route,
    conditions,
)
from node.gateway.index import IndexContext, PublishedQuery
from node.gateway.named_file import NamedFile, parse_digests
from node.gateway.origin import OriginError, OriginPart, RelayRequest, SlowError
from node.gateway.page_cache import StoredPage
from node.gateway.pages import PageMissingError, PageRequest, UnreachableError
from node.gateway.published import PublishedPackage, UpstreamSays
from node.gateway.python import simple
from node.gateway.python.guesses import likely_wheel, needs_in
from node.gateway.python.plain_page import METADATA
from node.gateway.python.simple import Project, ProjectFile
from node.gateway.python.wheel_end import metadata_in_end
from node.gateway.python.wheels import normalized, project_of, read_metadata
from node.gateway.resolver import MissError
from node.gateway.upstream import without_user
from node.gateway.urls import blob_digest
from transfer import Digest, TransferError

_ANY = SpecifierSet()
_PART = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")


class PythonIndex:
    """Answers what pip and uv ask an index."""

    def __init__(self, context: IndexContext, upstream: str) -> None:
        self._context = context
        self._upstream = upstream

    def routes(self) -> list[Route]:
        """Return the routes of the simple API and of files."""
        root = f"/{self._upstream}"
        return [
            Route(f"{root}/simple/{{name}}", self._without_slash),
            Route(f"{root}/simple/{{name}}/", self._project, kind=_type),
            Route(f"{root}/files/{{algorithm}}/{{hex}}/{{name}}", self._file),
            Route(f"{root}/unverified/{{project}}/{{name}}", self._unverified),
        ]

    async def learn(self, name: str) -> None:
        """Read the upstream's page of a project."""
        await self._context.pages.get(self._request(normalized(name)))

    async def project(self, name: str) -> Project | StoredPage:
        """Return a published project, or else the upstream's page.

        Raises ClashError, NothingNamedError, PageMissingError, UnreachableError.
        """
        name = normalized(name)
        query = PublishedQuery(
            name,
            normalized,
            lambda package: bool(_files_of(name, package)),
            lambda: self._says(name),
        )
        package = await self._context.meant(query)
        if package is not None:
            return Project(name, _files_of(name, package), [package.version])
        return await self._context.pages.get(self._request(name, _ANY))

    async def metadata(self, digest: Digest, file: str) -> bytes:
        """Return the METADATA of the wheel with this digest; MissError.

        In time for the clients' patience; what has begun to come goes on for a while.
        """
        try:
            async with asyncio.timeout(limits.MISS_SECONDS_MAX):
                return await self._metadata(digest, file)
        except TimeoutError as error:
            sentence = f"the metadata of {file} did not come in time"
            raise MissError(sentence, SlowError(sentence)) from error

    async def _metadata(self, digest: Digest, file: str) -> bytes:
        """Return the METADATA of the wheel with this digest; MissError.

        It comes from the wheel, or, so that a large one need not come for it, from
        an index that has it apart with a digest of its own, or from the wheel's end.
        """
        context = self._context
        named = await self.named(digest, file)
        if await context.resolver.held(digest) is None:
            if (found := await self._metadata_apart(digest, named, file)) is not None:
                return found
            if (found := await self._metadata_in_end(named)) is not None:
                return found
        wheel = await context.resolver.resolve(digest, named)
        path = context.store.path(wheel)
        data = await context.pages.in_reader(lambda: read_metadata(path))
        if data is None:
            raise MissError("this wheel has no metadata")
        return data

    async def named(self, digest: Digest, file: str) -> list[NamedFile]:
        """Return where a file is, by its project's page if that names it.

        A page that is not known is read: this node may have answered with it and
        ended before it was written, or another node gave the address.
        """
        page = await self._page_of(file)
        named = [] if page is None else _found_in(page, digest)
        named = named or await self._context.pages.find(digest)
        if not named and page is None and await self._learn_of(file):
            page = await self._page_of(file)
            named = [] if page is None else _found_in(page, digest)
        return named

    async def origin_of(self, path: str) -> str:
        """Return the URL of the index, a project's page or a file at the upstream."""
        upstream = self._context.upstream(self._upstream)
        kind, _, rest = path.partition("/")
        if kind == "simple":
            return upstream.url + rest if rest else upstream.url.removesuffix("/")
        parts = rest.split("/")
        digest = blob_digest(*parts[:2]) if len(parts) == 3 else None
        if kind != "files" or digest is None:
            return ""
        name = unquote(parts[2])
        if (project := project_of(name)) is not None:
            await self.learn(project[0])
        named = await self.named(digest, name)
        return without_user(named[0].url) if named else ""

    # --- routes --------------------------------------------------------------------

    async def _without_slash(self, request: GatewayRequest) -> Answer:
        name = normalized(_project_name(request))
        return MovedAnswer(f"../simple/{name}/")

    async def _project(self, request: GatewayRequest) -> Answer:
        kind, form = _form(request.accept)
        name = _project_name(request)
        self._context.ahead.asked((self._upstream, normalized(name)))
        found = await self.project(name)
        if not isinstance(found, StoredPage):
            body = simple.write_json(found)
            return PageAnswer(
                simple.html_of(body) if form == simple.HTML else body, kind
            )
        if form not in found.forms:
            body = found.forms[simple.JSON]
            made = await self._context.pages.in_reader(lambda: simple.html_of(body))
            found.forms[form] = made
        return PageAnswer(found.forms[form], kind, found, form)

    async def _file(self, request: GatewayRequest) -> Answer:
        given = request.parameters
        digest = blob_digest(given["algorithm"], given["hex"])
        name = given["name"]
        if digest is None:
            return FileAnswer(None)
        if name.endswith(f".whl{METADATA}"):
            data = await self.metadata(digest, name.removesuffix(METADATA))
            return PageAnswer(data, "text/plain; charset=utf-8")
        if await self._context.resolver.held(digest) is not None:
            return FileAnswer(digest)
        answer = FileAnswer(digest, tuple(await self.named(digest, name)))
        if name.endswith(".whl") and request.method == "GET":
            part = await self._end_of(answer, request.headers)
            return answer if part is None else PartAnswer(answer, part)
        return answer

    async def _unverified(self, request: GatewayRequest) -> Answer:
        """Pass a file through that the index names without a digest."""
        upstream = self._context.upstream(self._upstream)
        page = await self._context.pages.get(
            self._request(normalized(request.parameters["project"]))
        )
        url = page.files.url_without_digest(request.parameters["name"])
        if not url:
            raise PageMissingError
        asked = RelayRequest(url, request.method, headers=conditions(request))
        return RelayAnswer(upstream, asked, is_file=True)

    # --- the upstream ----------------------------------------------------------------

    async def _says(self, name: str) -> UpstreamSays:
        if self._context.upstreams.get(self._upstream) is None:
            return "has it not"
        return await self._context.says(self._request(name))

    def _request(
        self,
        name: str,
        wanted: SpecifierSet | None = None,
        extras: frozenset[str] = frozenset(),
    ) -> PageRequest:
        """Return what asks for a project's page.

        `wanted` says of which versions the needs are read ahead; None for nothing.
        """

        def look_ahead(page: StoredPage) -> None:
            if wanted is not None:
                self._context.ahead.follow(
                    partial(self._look_ahead, page, wanted, extras)
                )

        upstream = self._context.upstream(self._upstream)
        return PageRequest(
            upstream,
            f"{name}/",
            simple.ACCEPT,
            lambda page: simple.read_page(upstream.name, name, page),
            on_asked=look_ahead,
        )

    async def _look_ahead(
        self, page: StoredPage, wanted: SpecifierSet, extras: frozenset[str]
    ) -> None:
        """Ask for the metadata of the wheel that a page leads to, and for its needs.

        Only where the index has metadata apart: it is small, and has a digest.
        """
        context = self._context
        wheel = await context.pages.in_reader(lambda: likely_wheel(page.files, wanted))
        if wheel is None:
            return
        # Never out of the wheel: nothing large is fetched on a guess.
        data = await self._metadata_apart(wheel.digest, [], wheel.file)
        if data is None:
            return
        for need in await context.pages.in_reader(lambda: needs_in(data, extras)):
            if not context.is_published(need.name, normalized):
                request = self._request(need.name, need.specifier, need.extras)
                place = (self._upstream, need.name)
                context.ahead.begin(place, partial(context.pages.get, request))

    async def _end_of(
        self, answer: FileAnswer, headers: Mapping[str, str]
    ) -> OriginPart | None:
        """Return the end of a wheel that is not held, if that is all that is wanted.

        There a client looks for the metadata, and need not wait for the wheel.
        """
        wanted = headers.get("Range", "")
        if "If-Range" in headers or not is_end(wanted, answer.named or ()):
            return None
        for one in answer.named or ():
            with contextlib.suppress(OriginError, TimeoutError):
                part = await self._part(one, wanted)
                return part if part.start else None
        return None

    async def _metadata_in_end(self, named: list[NamedFile]) -> bytes | None:
        for one in named:
            with contextlib.suppress(OriginError, TimeoutError):
                return await metadata_in_end(partial(self._part, one))
        return None

    async def _part(self, named: NamedFile, wanted: str) -> OriginPart:
        """Ask the origin for a part of a file; raises OriginError, TimeoutError."""
        upstream = self._context.upstreams.get(named.upstream)
        if upstream is None:
            raise OriginError("its upstream is no longer configured")
        async with asyncio.timeout(limits.PART_SECONDS_MAX):
            return await self._context.client.part(upstream, named.url, wanted)

    async def _page_of(self, file: str) -> StoredPage | None:
        """Return the kept page of the project that a file's name belongs to."""
        parsed = project_of(file)
        if parsed is None:
            return None
        return await self._context.pages.kept((self._upstream, f"{parsed[0]}/"))

    async def _learn_of(self, file: str) -> bool:
        """Read the page of the project that a file's name belongs to, if it may be."""
        parsed = project_of(file)
        if parsed is None or self._context.is_published(parsed[0], normalized):
            return False
        try:
            async with asyncio.timeout(limits.LEARN_SECONDS_MAX):
                await self.learn(parsed[0])
        except (PageMissingError, UnreachableError, TimeoutError):
            return False
        return True

    async def _metadata_apart(
        self, digest: Digest, named: list[NamedFile], file: str
    ) -> bytes | None:
        """Return the metadata that the index has apart of the wheel with this digest.

        None where it has none, or it cannot be had: the wheel has it too.
        """
        context = self._context
        page = await self._page_of(file)
        if page is None:
            return None
        names = [str(one) for source in named for one in source.digests]
        for name in (str(digest), *names):
            if (found := page.files.find_file(simple.metadata_name(name))) is not None:
                try:
                    return await context.resolver.read(found.strong, [found])
                except (MissError, TransferError):
                    return None
        return None


def _files_of(name: str, package: PublishedPackage) -> list[ProjectFile]:
    """Return the wheels and sdists of this project in a published package."""
    files = []
    for entry in package.artifacts:
        parsed = project_of(entry.file)
        if parsed is not None and parsed[0] == name:
            digests = tuple(map(str, parse_digests([entry.digest])))
            files.append(ProjectFile(entry.file, "", digests, entry.size))
    return files


def _found_in(page: StoredPage, digest: Digest) -> list[NamedFile]:
    """Return where a page says that a file is: one place, or none."""
    found = page.files.find(digest)
    return [] if found is None else [found]


def is_end(wanted: str, named: Sequence[NamedFile]) -> bool:
    """Tell whether a Range header names the short end of a long file, not all of it.

    A short file is brought as a whole, for it is wanted as a whole soon after.
    """
    match = _PART.fullmatch(wanted)
    size = next((one.size for one in named if one.size is not None), None)
    if match is None or (size is not None and size <= limits.PART_BYTES_MAX):
        return False
    first, last = match.groups()
    if not first:
        return bool(last) and 0 < int(last) <= limits.PART_BYTES_MAX
    if size is None or not last:
        return False
    return size - limits.PART_BYTES_MAX <= int(first) <= int(last) < size


def _project_name(request: GatewayRequest) -> str:
    name = request.parameters["name"]
    if not simple.NAME.fullmatch(name):
        raise PageMissingError
    return name


def _type(accept: str) -> str:
    return _form(accept)[0]


def _form(accept: str) -> tuple[str, str]:
    """Return (content type, form) in which a client wants a page (PEP 691)."""
    if (
        simple.JSON_TYPE in accept
        or "application/vnd.pypi.simple.latest+json" in accept
    ):
        return simple.JSON_TYPE, simple.JSON
    if simple.HTML_TYPE in accept:
        return simple.HTML_TYPE, simple.HTML
    return simple.PLAIN_HTML_TYPE, simple.HTML
