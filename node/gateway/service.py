"""The gateway as a whole: its parts made and joined, and what all routes share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.background import Background
from node.content.router import ContentRouter
from node.gateway import limits, urls
from node.gateway.answers import (
    Answer,
    FileAnswer,
    GatewayRequest,
    PageAnswer,
    Route,
)
from node.gateway.ecosystems import ecosystem_of
from node.gateway.file_metadata import FileMetadata
from node.gateway.index import IndexContext, PackageIndex
from node.gateway.leases import OriginLeases
from node.gateway.named_file import NamedFile
from node.gateway.netrc_file import authorization_for
from node.gateway.origin import (
    MissingError,
    OriginClient,
    OriginError,
    PageSource,
)
from node.gateway.origin_pace import OriginPace
from node.gateway.page_cache import PageCache
from node.gateway.pages import PageMissingError, Pages, UnreachableError
from node.gateway.published import Published
from node.gateway.read_ahead import ReadAhead
from node.gateway.resolver import MissError, Resolver, StreamedFile
from node.gateway.retention import Retention
from node.gateway.site_pages import SitePages
from node.gateway.sources import Sources
from node.gateway.traffic import SourceName, Traffic
from node.gateway.upstream import Upstream
from node.gateway.upstreams import Upstreams
from node.model.catalogue import Catalogue
from node.model.trust_store import TrustStore
from node.releases.newest import Releases
from node.settings import Settings
from node.wallclock import now
from transfer import Artifact, Digest, Leecher, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of the node that the gateway stands on."""

    store: Store
    pages: PageCache
    leecher: Leecher
    router: ContentRouter
    catalogue: Catalogue
    trust: TrustStore
    releases: Releases
    background: Background
    leases: OriginLeases | None = None
    """What decides who of a site asks an origin; None where this node is alone."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that can be sent, whole or while it comes, and its source."""

    content: Artifact | StreamedFile
    source: SourceName


class Gateway:
    """What package managers ask; the HTTP routes only translate."""

    def __init__(
        self,
        settings: Settings,
        around: Surroundings,
        *,
        upstreams: Upstreams,
        client: OriginClient,
    ) -> None:
        self._home = settings.home
        self._around = around
        self.upstreams = upstreams
        self.store = around.store
        self._client = client
        pace = OriginPace()
        self.pages = Pages(self._page_source(), around.pages, now=now, pace=pace)
        retention = Retention(
            catalogue=around.catalogue,
            router=around.router,
            background=around.background,
            upstreams=upstreams,
        )
        self.sources = Sources(
            store=around.store,
            leecher=around.leecher,
            router=around.router,
            client=client,
            upstreams=upstreams,
            silence=retention.silence,
            leases=around.leases,
            pace=pace,
            weak_digests=settings.weak_digests,
        )
        self.resolver = Resolver(
            around.store,
            self.sources,
            stream=settings.gateway.stream,
            keep=retention.keep,
        )
        self.indexes = self._new_indexes(settings)
        self.traffic = Traffic()
        self._ready: dict[str, asyncio.Task[None]] = {}

    def _page_source(self) -> PageSource:
        """Return where pages come from: an origin, or first a node of the site."""
        leases = self._around.leases
        if leases is None:
            return self._client
        return SitePages(self._client, leases, self.upstreams.is_private)

    def _new_indexes(self, settings: Settings) -> dict[str, PackageIndex]:
        """Return the index of each upstream, by its name."""
        around = self._around
        context = IndexContext(
            upstreams=self.upstreams,
            client=self._client,
            pages=self.pages,
            published=Published(around.trust, around.releases),
            metadata=FileMetadata(self.resolver, around.store),
            resolver=self.resolver,
            store=around.store,
            ahead=ReadAhead(around.background),
            winners=settings.gateway.names,
        )
        return {
            name: ecosystem_of(name).index(context, name)
            for name in self.upstreams.names
        }

    def begin(self) -> None:
        """Read what the tools' own configuration says, in the background."""
        for name in self.upstreams.names:
            self._ready[name] = self._around.background.start(
                self._configure(name), f"reading which {name} index is used"
            )

    async def ready(self, name: str | None = None) -> None:
        """Wait until an upstream, or each of them, is known; MissError never comes."""
        if not self._ready:
            self.begin()
        tasks = list(self._ready.values()) if name is None else [self._ready[name]]
        if not all(task.done() for task in tasks):
            await asyncio.wait(tasks)

    async def _configure(self, name: str) -> None:
        said = self.upstreams.setting(name)
        if said.url != "":
            found = await asyncio.to_thread(
                _configured, name, said.url or "", self._home
            )
            if found is not None:
                self.upstreams.configure(name, found)
        upstream = self.upstreams.get(name)
        url = "" if upstream is None else upstream.url
        public = await self.pages.forget_moved_upstream(name, url)
        if upstream is None:
            return
        if public is not None:
            self.upstreams.remember(name, public=public)
        self._around.background.start(
            self._prepare(name), f"preparing for the {name} upstream"
        )

    async def _prepare(self, name: str) -> None:
        """Find out whether an upstream is in a private network, and remember it."""
        upstream = self.upstreams.get(name)
        if upstream is None:
            return
        await self._client.prepare(upstream)
        is_public = self.upstreams.is_public(name)
        if is_public is not None:
            await self.pages.forget_moved_upstream(name, upstream.url, public=is_public)

    async def close(self) -> None:
        """End everything that is under way."""
        await self.resolver.close()
        await self.pages.close()

    # --- routes --------------------------------------------------------------------

    def routes(self) -> list[tuple[str | None, Route]]:
        """Return every route, each with the upstream that it waits for."""
        found: list[tuple[str | None, Route]] = [
            (None, Route("/blob/{algorithm}/{hex}", _blob)),
            (None, Route("/blob/{algorithm}/{hex}/{name}", _blob)),
            (None, Route("/.well-known/ni/{algorithm}/{text}", _ni)),
            (None, Route("/packages/{one}/{two}/{rest}/{name}", _pool)),
        ]
        for name, index in self.indexes.items():
            found += [(name, route) for route in index.routes()]
        return found

    async def open(self, answer: FileAnswer) -> OpenedFile:
        """Return the file that an answer names, or what has come of it; MissError."""
        if answer.digest is None:
            raise MissError("this is not a digest that can be asked for here")
        held = await self.resolver.held(answer.digest)
        if held is not None and not answer.named:
            return OpenedFile(held, "store")
        found = await self.resolver.open(answer.digest, await self._named(answer))
        if isinstance(found, StreamedFile):
            return OpenedFile(found, found.source)
        return OpenedFile(found, "store" if held else self.sources.source_of(found))

    async def size(self, answer: FileAnswer) -> int | None:
        """Return a file's length without downloading it; MissError if nobody has it.

        None where somebody offers it, and only its bytes would tell.
        """
        if answer.digest is None:
            raise MissError("this is not a digest that can be asked for here")
        held = await self.resolver.held(answer.digest)
        if held is not None:
            return held.size
        named = await self._named(answer)
        for one in named:
            if one.size is not None:
                return one.size
        cause: OriginError | None = None
        for one in named:
            upstream = self.upstreams.get(one.upstream)
            if upstream is not None:
                try:
                    return await self._client.size(
                        upstream, one.url, limits.MISS_SECONDS_MAX / 2
                    )
                except OriginError as error:
                    if cause is None or isinstance(cause, MissingError):
                        cause = error
        if not await self.sources.providers(answer.digest, named):
            raise MissError(f"nobody offers {answer.digest}", cause)
        return None

    async def origin_of(self, path: str) -> str:
        """Return the upstream's own URL for a path of the gateway, or ""."""
        name, _, rest = path.lstrip("/").partition("/")
        index = self.indexes.get(name)
        if index is None or self.upstreams.get(name) is None:
            return ""
        try:
            return await index.origin_of(rest)
        except (PageMissingError, UnreachableError):
            return ""

    async def named(self, digest: Digest) -> list[NamedFile]:
        """Return what the upstreams of today name for a digest, public ones first."""
        (found,) = await self.named_many([digest])
        return found

    async def named_many(self, digests: Sequence[Digest]) -> list[list[NamedFile]]:
        """Return the same for each of these digests."""
        return [
            sorted(
                (one for one in found if self.upstreams.get(one.upstream) is not None),
                key=lambda one: self.upstreams.is_private(one.upstream),
            )
            for found in await self.pages.find_many(digests)
        ]

    async def is_behind_credential(self, asked: str | FileAnswer) -> bool:
        """Tell whether an upstream, or a file, is to be had for a credential only.

        What is private here and named by no page any more counts as such a file.
        """
        if isinstance(asked, str):
            return self.upstreams.needs_credential(asked)
        answer = asked
        if answer.digest is None:
            return False
        held = await self.resolver.held(answer.digest)
        catalogue = self._around.catalogue
        if held is not None and not catalogue.is_private(str(held.digest)):
            return False
        named = await self._named(answer)
        if not named:
            return held is not None
        return all(self.upstreams.needs_credential(one.upstream) for one in named)

    def packed(self, answer: PageAnswer) -> bytes | None:
        """Return a page's body as gzip packs it, or None where it is not kept so."""
        if answer.page is None:
            return None
        return self.pages.packed(answer.page, answer.form)

    @property
    def client(self) -> OriginClient:
        """What asks the upstreams."""
        return self._client

    async def _named(self, answer: FileAnswer) -> Sequence[NamedFile]:
        if answer.named is not None or answer.digest is None:
            return answer.named or ()
        return await self.named(answer.digest)


def _configured(name: str, url: str, home: Path) -> Upstream | None:
    """Return an upstream with what the tools' configuration says of it. Blocks."""
    found = ecosystem_of(name).upstream(home, url)
    if found is None:
        return None
    secret = found.authorization or authorization_for(found.url)
    return replace(found, authorization=secret)


async def _blob(request: GatewayRequest) -> Answer:
    given = request.parameters
    return FileAnswer(urls.blob_digest(given["algorithm"], given["hex"]))


async def _ni(request: GatewayRequest) -> Answer:
    given = request.parameters
    return FileAnswer(urls.ni_digest(given["algorithm"], given["text"]))


async def _pool(request: GatewayRequest) -> Answer:
    given = request.parameters
    return FileAnswer(urls.pool_digest(given["one"], given["two"], given["rest"]))
