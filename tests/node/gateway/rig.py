"""A gateway without a network: a real store and ledger, peers and origins made up."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from node.background import Background
from node.gateway.leases import OriginLeases
from node.gateway.named_file import NamedFile
from node.gateway.named_files import NamedFiles
from node.gateway.origin import (
    DownError,
    MissingError,
    OriginError,
    OriginPage,
    OriginPart,
    Reach,
    RelayRequest,
    check_url,
)
from node.gateway.page_cache import PageCache, StoredPage, packed_page
from node.gateway.service import Gateway, Surroundings
from node.gateway.upstream import Upstream, place_of
from node.gateway.upstreams import Upstreams
from node.model.catalogue import Catalogue
from node.model.database import open_database
from node.model.trust_store import TrustStore
from node.settings import Settings, UpstreamSettings
from node.web.gateway.ranges import parse_range
from transfer import Digest, Downloaded, NoPeerError, Store

INDEX = "https://index.test/simple"
ARCHIVE = "https://deb.test/debian"


@dataclass
class MadeUpPeers:
    """What peers offer, by digest, and how long they take; both leecher and search."""

    offered: dict[Digest, bytes] = field(default_factory=dict)
    seconds: float = 0.0
    asked: list[Digest] = field(default_factory=list)
    silenced: list[str] = field(default_factory=list)
    store: Store | None = None
    hang: bool = False

    async def download(self, digest: Digest, peers: Any, **_: Any) -> Downloaded:
        self.asked.append(digest)
        await asyncio.sleep(self.seconds)
        if self.hang:
            await asyncio.Event().wait()
        if digest not in self.offered or self.store is None:
            raise NoPeerError
        artifact = self.store.add_bytes(self.offered[digest])
        return Downloaded(artifact, 0.0, [])

    async def peers(self, digest: Digest, on_holder: Any = None) -> AsyncIterator[str]:
        if digest in self.offered:
            yield "a peer"

    async def sync(self) -> None:
        """Announce nothing: there is no network."""

    def silence(self, digest: str) -> None:
        self.silenced.append(digest)


@dataclass
class MadeUpFile:
    body: bytes
    size: int | None
    pause: asyncio.Event | None = None
    start: int = 0

    async def parts(self) -> AsyncIterator[bytes]:
        half = len(self.body) // 2
        yield self.body[:half]
        if self.pause is not None:
            await self.pause.wait()
        yield self.body[half:]


@dataclass
class MadeUpReply:
    body: bytes
    status: int = 200
    headers: list[tuple[str, str]] = field(
        default_factory=lambda: [("Content-Type", "application/json")]
    )

    async def parts(self) -> AsyncIterator[bytes]:
        yield self.body


@dataclass
class MadeUpOrigin:
    """Pages and files by URL."""

    pages: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    relayed: list[RelayRequest] = field(default_factory=list)
    kind: str = "application/json"
    relay_kind: str = "application/json"
    relay_statuses: list[int] = field(default_factory=list)
    sends_parts: bool = False
    parts: list[tuple[int, int]] = field(default_factory=list)
    dead: bool = False
    error: OriginError = field(default_factory=lambda: DownError("no connection"))
    pause: asyncio.Event | None = None
    upstreams: Upstreams | None = None
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def page(
        self, upstream: Upstream, url: str, *, accept: str, known: OriginPage | None
    ) -> OriginPage:
        body = self._answer(url, self.pages)
        return OriginPage(body, self.kind, "", url)

    @contextlib.asynccontextmanager
    async def file(
        self, upstream: Upstream, url: str, start: int = 0
    ) -> AsyncIterator[MadeUpFile]:
        body = self._answer(url, self.files)
        yield MadeUpFile(body, len(body), self.pause)

    async def part(self, upstream: Upstream, url: str, wanted: str) -> OriginPart:
        body = self._answer(url, self.files)
        found = parse_range(wanted, len(body)) if self.sends_parts else None
        if found is None:
            raise OriginError("it sends no parts of files")
        start, end = found
        self.parts.append((start, end))
        return OriginPart(start, body[start:end], len(body))

    async def size(self, upstream: Upstream, url: str, seconds: float) -> int | None:
        return len(self._answer(url, self.files))

    @contextlib.asynccontextmanager
    async def relay(
        self, upstream: Upstream, request: RelayRequest
    ) -> AsyncIterator[MadeUpReply]:
        self.relayed.append(request)
        headers = [("Content-Type", self.relay_kind)]
        status = self.relay_statuses.pop(0) if self.relay_statuses else 200
        body = self._answer(request.url, self.files)
        yield MadeUpReply(body, status, headers)

    async def prepare(self, upstream: Upstream) -> None:
        self.upstreams.found_at(upstream.place, ["1.1.1.1"])

    def _answer(self, url: str, known: dict[str, bytes]) -> bytes:
        self.asked.append(url)
        self.was_asked.set()
        if self.upstreams is not None:
            upstream = self.upstreams.all()[0]
            check_url(url, upstream)
            with contextlib.suppress(ValueError):  # a name: nothing resolves it here
                address = str(ip_address(place_of(url)[0]))
                Reach(upstream, self.upstreams).allowed(place_of(url), [address])
        if self.dead:
            raise self.error
        if url not in known:
            raise MissingError("the origin has no such thing")
        return known[url]


class Rig:
    """A gateway on a folder, with everything around it in reach."""

    def __init__(
        self,
        folder: Path,
        *,
        share: bool | None = True,
        stream: bool = True,
        leases: OriginLeases | None = None,
    ) -> None:
        from node.settings import GatewaySettings

        settings = Settings(
            folder,
            upstreams={
                "pypi": UpstreamSettings(INDEX, share),
                "debian": UpstreamSettings(ARCHIVE, share),
            },
            gateway=GatewaySettings(stream=stream),
        )
        self.database: sqlite3.Connection = open_database(folder / "catalogue.sqlite")
        self.catalogue = Catalogue(self.database)
        self.store = Store(folder)
        self.peers = MadeUpPeers(store=self.store)
        # As the node does, but a database of one thread cannot be asked from another.
        silenced = self.peers.silenced
        self.store.committer.is_private = lambda digest: str(digest) in silenced
        self.origin = MadeUpOrigin()
        self.background = Background()
        upstreams = Upstreams(settings.upstreams)
        self.origin.upstreams = upstreams
        nobody: Any = None
        fake: Any = self.peers
        around = Surroundings(
            store=self.store,
            pages=PageCache(self.store.database),
            leecher=fake,
            router=fake,
            catalogue=self.catalogue,
            trust=TrustStore(self.database),
            releases=nobody,
            background=self.background,
            leases=leases,
        )
        self.gateway = Gateway(
            settings, around, upstreams=upstreams, client=self.origin
        )
        self._named = 0

    def name(
        self, data: bytes, url: str = "https://files.test/toy.whl", **changes: Any
    ) -> tuple[Digest, list[NamedFile]]:
        """Let the upstream's page name a file, which its origin has."""
        digest = Digest.of(data)
        self.origin.files[url] = data
        named = NamedFile("pypi", "toy", "toy.whl", url, (digest,), len(data))
        self._named += 1
        page = StoredPage(NamedFiles.of("pypi", [named]), asked_at=time.time())
        pages, path = self.gateway.pages, f"toy-{self._named}/"
        pages._cache.store("pypi", path, packed_page(page)).result()
        return digest, [named]

    async def close(self) -> None:
        await self.gateway.close()
        await self.background.close()
        self.store.close()
        self.database.close()


@contextlib.asynccontextmanager
async def rig_in(folder: Path, **options: Any) -> AsyncIterator[Rig]:
    """Give a `Rig` that is closed, whatever happens."""
    rig = Rig(folder, **options)
    try:
        await rig.gateway.ready()
        yield rig
    finally:
        await rig.close()
