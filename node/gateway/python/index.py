"""The Python index: an upstream's pages, and wheels published in the network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from node.gateway.page_cache import NamedFile, PageCache, StoredPage
from node.gateway.pages import PageMissingError, Pages, UnreachableError
from node.gateway.published import (
    AbsentError,
    Published,
    PublishedPackage,
    UpstreamSays,
    settle,
)
from node.gateway.python import simple
from node.gateway.python.simple import Project, ProjectFile, normalized
from node.gateway.python.wheels import project_of, read_metadata
from node.gateway.resolver import MissError, Resolver
from node.gateway.upstreams import Upstreams
from node.settings import Winner
from transfer import Digest, Store, TransferError


class PythonIndex:
    """Answers what pip and uv ask an index."""

    def __init__(
        self,
        upstreams: Upstreams,
        pages: Pages,
        ledger: PageCache,
        published: Published,
        resolver: Resolver,
        store: Store,
        winners: Mapping[str, Winner],
    ) -> None:
        self._upstreams = upstreams
        self._pages = pages
        self._ledger = ledger
        self._published = published
        self._resolver = resolver
        self._store = store
        self._winners = {normalized(name): who for name, who in winners.items()}

    async def project(self, name: str) -> Project:
        """Return a project's page; AbsentError, ClashError."""
        name = normalized(name)
        packages, (says, page) = await asyncio.gather(
            self._published.packages(
                lambda followed: normalized(followed) == name,
                lambda package: bool(_files_of(name, package)),
            ),
            self._upstream(name),
        )
        package = settle(name, says, packages, self._winners.get(name))
        if package is not None:
            return Project(name, _files_of(name, package), [package.version])
        if page is None:
            raise AbsentError(f"there is no project {name}")
        return page

    async def learn(self, name: str) -> None:
        """Read the upstream's page of a project, so that its files have an origin."""
        await self._upstream(normalized(name))

    async def metadata(
        self, digest: Digest, file: str, named: Sequence[NamedFile]
    ) -> bytes:
        """Return the METADATA of a wheel called `file`; MissError.

        It comes from the wheel, or, so that a large one need not come for it, from
        an index that has it apart with a digest of its own.
        """
        if self._resolver.held(digest) is None:
            apart = self._metadata_apart(file)
            if apart is not None:
                try:
                    small = await self._resolver.resolve(apart.strong, [apart])
                    return await asyncio.to_thread(self._store.read, small)
                except (MissError, TransferError):
                    pass  # the wheel has it too
        wheel = await self._resolver.resolve(digest, named)
        data = await asyncio.to_thread(read_metadata, self._store.path(wheel))
        if data is None:
            raise MissError("this wheel has no metadata")
        return data

    def _metadata_apart(self, file: str) -> NamedFile | None:
        parsed = project_of(file)
        if parsed is None:
            return None
        return self._ledger.find_file(
            simple.UPSTREAM, parsed[0], file + simple.METADATA
        )

    async def _upstream(self, name: str) -> tuple[UpstreamSays, Project | None]:
        upstream = self._upstreams.get(simple.UPSTREAM)
        if upstream is None:
            return "has it not", None

        def read(page: StoredPage) -> list[NamedFile]:
            return simple.named_files(simple.read_project(name, page))

        try:
            page = await self._pages.get(
                upstream, f"{name}/", accept=simple.ACCEPT, read=read
            )
        except PageMissingError:
            return "has it not", None
        except UnreachableError:
            return "nothing", None
        return "has it", await asyncio.to_thread(simple.read_project, name, page)


def _files_of(name: str, package: PublishedPackage) -> list[ProjectFile]:
    """Return the wheels and sdists of this project in a published package."""
    files = []
    for entry in package.artifacts:
        parsed = project_of(entry.file)
        if parsed is not None and parsed[0] == name:
            digest = Digest.parse(entry.digest)
            files.append(ProjectFile(entry.file, "", (digest,), entry.size))
    return files
