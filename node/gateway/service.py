"""The gateway as a whole: its parts made and joined, and what all routes share."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from node.background import Background
from node.content.router import ContentRouter
from node.gateway import limits
from node.gateway.cargo.index import CrateIndex
from node.gateway.debian.index import PackageArchive
from node.gateway.file_metadata import FileMetadata
from node.gateway.npm.index import PackageIndex
from node.gateway.opam.index import ArchiveIndex
from node.gateway.opam.published import PublishedRepository
from node.gateway.origin import OriginClient
from node.gateway.page_cache import NamedFile, PageCache
from node.gateway.pages import Pages
from node.gateway.published import Published
from node.gateway.python.index import PythonIndex
from node.gateway.python.pip_config import index_of_pip, used_before
from node.gateway.resolver import MissError, Resolver
from node.gateway.retention import Retention
from node.gateway.sources import Sources
from node.gateway.upstreams import DEFAULTS, Upstreams
from node.model.catalogue import Catalogue
from node.model.trust_store import TrustStore
from node.releases.newest import Releases
from node.settings import Settings
from node.wallclock import now
from transfer import Digest, Leecher, Store


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The parts of the node that the gateway stands on."""

    store: Store
    leecher: Leecher
    provide: ContentRouter
    catalogue: Catalogue
    beliefs: TrustStore
    releases: Releases
    background: Background
    database: sqlite3.Connection


class Gateway:
    """What package managers ask; the HTTP routes only translate."""

    def __init__(
        self,
        settings: Settings,
        around: Surroundings,
        upstreams: Upstreams,
        client: OriginClient,
    ) -> None:
        self._home = settings.home
        self._settled: asyncio.Future[None] | None = None
        self.upstreams = upstreams
        self.store = around.store
        self.provide = around.provide
        self.client = client
        self.ledger = PageCache(around.database)
        self.pages = Pages(client, self.ledger, now)
        self._catalogue = around.catalogue
        self.keeping = Retention(
            around.catalogue, around.provide, around.background, upstreams
        )
        self.sources = Sources(
            around.store,
            around.leecher,
            around.provide,
            client,
            upstreams,
            self.keeping.silence,
            weak_digests=settings.weak_digests,
        )
        self.resolver = Resolver(
            around.store,
            self.sources,
            stream=settings.gateway.stream,
            keep=self.keeping.keep,
        )
        self._add_indexes(around, settings)

    def _add_indexes(self, around: Surroundings, settings: Settings) -> None:
        """Make what answers each package manager."""
        upstreams = self.upstreams
        published = Published(around.beliefs, around.releases)
        derive = FileMetadata(self.resolver, around.store)
        names = settings.gateway.names
        self.pypi = PythonIndex(
            upstreams,
            self.pages,
            self.ledger,
            published,
            self.resolver,
            around.store,
            names,
        )
        self.cargo = CrateIndex(upstreams, self.pages, published, derive, names)
        self.npm = PackageIndex(
            upstreams, self.pages, self.ledger, published, derive, names
        )
        self.opam = ArchiveIndex(upstreams, self.pages)
        self.opam_published = PublishedRepository(self.opam, published, derive, names)
        self.debian = PackageArchive(upstreams, self.pages, self.ledger, around.store)

    async def ready(self) -> None:
        """Find out which indexes are used, where the settings do not say; once."""
        if self._settled is None:
            self._settled = asyncio.ensure_future(self._settle())
        if not self._settled.done():
            await asyncio.shield(self._settled)

    async def _settle(self) -> None:
        if self.upstreams.lacks("pypi"):
            url = await asyncio.to_thread(index_of_pip, self._home)
            self.upstreams.add_default("pypi", url)
        npm = used_before(self._home, "npm") if self.upstreams.lacks("npm") else ""
        for name, url in {**DEFAULTS, "npm": npm or DEFAULTS["npm"]}.items():
            self.upstreams.add_default(name, url)
        self.ledger.settle({one.name: one.url for one in self.upstreams.all()})

    async def close(self) -> None:
        """End everything that is under way."""
        if self._settled is not None:
            await asyncio.wait({self._settled})
        await self.pages.close()
        await self.resolver.close()

    def named(self, digest: Digest) -> list[NamedFile]:
        """Return what the upstreams of today name for a digest, public ones first."""
        found = [
            (upstream.share, one)
            for one in self.ledger.find(digest)
            if (upstream := self.upstreams.get(one.upstream)) is not None
        ]
        return [one for _, one in sorted(found, key=lambda pair: not pair[0])]

    def is_behind_credential(self, digest: Digest, named: Sequence[NamedFile]) -> bool:
        """Tell whether a file came, or would come, for a credential only.

        What is private here and named by no page any more counts as such a file.
        """
        held = self.resolver.held(digest)
        if held is not None and not self._catalogue.is_private(str(held.digest)):
            return False
        if not named:
            return held is not None
        return all(self.upstreams.needs_credential(one.upstream) for one in named)

    async def size(self, digest: Digest, named: Sequence[NamedFile]) -> int | None:
        """Return a file's length without downloading it; MissError if nobody has it.

        None where somebody offers it, and only its bytes would tell.
        """
        held = self.resolver.held(digest)
        if held is not None:
            return held.size
        for one in named:
            if one.size is not None:
                return one.size
        for one in named:
            size = await self.client.size(one.url, limits.MISS_SECONDS_MAX / 2)
            if size is not None:
                return size
        if not await self.sources.providers(digest, named):
            raise MissError(f"nobody offers {digest}")
        return None
