"""An index: what answers the tools of one ecosystem from one upstream.

Every index is made from one `IndexContext` and answers the routes that it names. Names
that followed publishers have published are decided here, the same way for all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from node.gateway.answers import Route
from node.gateway.file_metadata import FileMetadata
from node.gateway.origin import OriginClient
from node.gateway.pages import PageMissingError, PageRequest, Pages, UnreachableError
from node.gateway.published import (
    Published,
    PublishedPackage,
    UpstreamSays,
    resolve_name,
)
from node.gateway.read_ahead import ReadAhead
from node.gateway.resolver import Resolver
from node.gateway.upstream import Upstream
from node.gateway.upstreams import Upstreams
from node.settings import Winner
from transfer import Store


class PackageIndex(Protocol):
    """What answers the tools of one ecosystem."""

    def routes(self) -> list[Route]:
        """Return the routes that it answers."""

    async def learn(self, name: str) -> None:
        """Read what the upstream says of a package, so that its files have an origin.

        Raises PageMissingError or UnreachableError.
        """

    async def origin_of(self, path: str) -> str:
        """Return the upstream's own URL for a path below this index's routes, or "".

        For lockfiles into which a tool has written our address. Raises
        PageMissingError or UnreachableError.
        """


@dataclass(frozen=True, slots=True)
class PublishedQuery:
    """What an index looks for among the releases of followed publishers."""

    name: str
    spelling: Callable[[str], str]
    """Returns what all spellings of a name have in common."""
    has_files: Callable[[PublishedPackage], bool]
    """Tells whether a package has files for this index."""
    says: Callable[[], Awaitable[UpstreamSays]]
    """Asks the upstream whether it has the name; only called where that matters."""


@dataclass(frozen=True, slots=True)
class IndexContext:
    """What every index stands on."""

    upstreams: Upstreams
    client: OriginClient
    pages: Pages
    published: Published
    metadata: FileMetadata
    resolver: Resolver
    store: Store
    ahead: ReadAhead
    winners: Mapping[str, Winner]

    def upstream(self, name: str) -> Upstream:
        """Return an upstream; PageMissingError where it is switched off."""
        upstream = self.upstreams.get(name)
        if upstream is None:
            raise PageMissingError
        return upstream

    async def says(self, *requests: PageRequest) -> UpstreamSays:
        """Say whether the upstream has one of these pages."""
        for request in requests:
            try:
                await self.pages.get(request)
            except PageMissingError:
                continue
            except UnreachableError:
                return "nothing"
            return "has it"
        return "has it not"

    def is_published(self, name: str, spelling: Callable[[str], str]) -> bool:
        """Tell whether a name may mean what a publisher released in the network."""
        wanted = spelling(name)
        return any(
            spelling(one) == wanted for one in self.winners
        ) or self.published.is_followed(lambda one: spelling(one) == wanted)

    async def meant(self, query: PublishedQuery) -> PublishedPackage | None:
        """Return the published package that a name means, None for the upstream's.

        Raises ClashError or NothingNamedError.
        """
        wanted = query.spelling(query.name)
        packages = await self.published.packages(
            lambda followed: query.spelling(followed) == wanted, query.has_files
        )
        winner = next(
            (who for one, who in self.winners.items() if query.spelling(one) == wanted),
            None,
        )
        if not packages and winner != "network":
            return None
        return resolve_name(
            query.name, packages, says=await query.says(), winner=winner
        )
