"""The Python index: an upstream's pages, and wheels published in the network."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from node.errors import NodeError
from node.gateway import simple
from node.gateway.ledger import Ledger, NamedFile, StoredPage
from node.gateway.pages import PageMissingError, Pages, UnreachableError
from node.gateway.published import (
    Published,
    PublishedPackage,
    UpstreamSays,
    choose,
    refusal,
)
from node.gateway.resolver import MissError, Resolver
from node.gateway.simple import Project, ProjectFile, normalized
from node.gateway.upstreams import Upstreams
from node.gateway.wheels import project_of, read_metadata
from node.settings import Winner
from transfer import Digest, Store, TransferError


class NoProjectError(NodeError):
    """There is no such project."""

    exit_code = 4


class PythonIndex:
    """Answers what pip and uv ask an index."""

    def __init__(
        self,
        upstreams: Upstreams,
        pages: Pages,
        ledger: Ledger,
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
        """Return a project's page; NoProjectError, ClashError."""
        name = normalized(name)
        packages = [
            one
            for one in await self._published.packages(self._spellings(name))
            if _files_of(name, one)
        ]
        says, page = await self._upstream(name)
        winner = self._winners.get(name)
        choice = choose(says, is_published=bool(packages), winner=winner)
        publishers = [one.publisher for one in packages]
        if choice == "network":
            if len(packages) > 1:
                raise refusal(name, choice, publishers)
            return Project(name, _files_of(name, packages[0]), [packages[0].version])
        if choice == "upstream" and page is not None:
            return page
        if choice == "clash" or (choice == "unknown" and packages and not winner):
            raise refusal(name, choice, publishers)
        if choice == "unknown":
            raise NoProjectError(
                f"the upstream index cannot be asked for {name} now, and no page of it "
                "is remembered here"
            )
        raise NoProjectError(f"there is no project {name}")

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

    def _spellings(self, name: str) -> set[str]:
        """Return the followed names that mean this project."""
        return {
            one for one in self._published.followed_names() if normalized(one) == name
        }

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
