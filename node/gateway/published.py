"""Packages published in the network, beside those of an upstream's index.

A followed publisher must not take over a name that the upstream has (dependency
confusion), and an upstream must not take over one that came from the network. So a
published name is served only where the upstream says that it has no such name, or
where the owner's settings say who wins; anything else is refused with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from node.beliefs import Beliefs
from node.errors import NodeError
from node.gateway import limits
from node.keys import publisher_text
from node.packages import ArtifactEntry, Package
from node.releases import Releases
from node.settings import Winner
from node.wallclock import now

log = logging.getLogger(__name__)

UpstreamSays = Literal["has it", "has it not", "nothing"]
Choice = Literal["upstream", "network", "neither", "clash", "unknown"]


class ClashError(NodeError):
    """A name means two things, so nothing is served for it."""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class PublishedPackage:
    """What a followed publisher released under a name."""

    publisher: bytes
    version: str
    artifacts: list[ArtifactEntry]


def choose(says: UpstreamSays, *, is_published: bool, winner: Winner | None) -> Choice:
    """Decide whose package a name means."""
    if winner == "network":
        return "network" if is_published else "neither"
    if winner == "upstream" or not is_published:
        return {"has it": "upstream", "has it not": "neither", "nothing": "unknown"}[
            says
        ]  # type: ignore[return-value]
    if says == "has it not":
        return "network"
    return "clash" if says == "has it" else "unknown"


def refusal(name: str, choice: Choice, publishers: list[bytes]) -> ClashError:
    """Return the error that says why a published name is not served."""
    who = publisher_text(publishers[0])[:12]
    if len(publishers) > 1:
        return ClashError(
            f"{len(publishers)} publishers that are followed here publish {name}; "
            "unfollow all but one"
        )
    if choice == "clash":
        why = f"{name} is in the upstream index and published by {who}..., too"
    else:
        why = (
            f"{name} is published by {who}..., but the upstream cannot be asked for it"
        )
    return ClashError(
        f'{why}; say who wins: [gateway.names] {name} = "network" or "upstream"'
    )


class Published:
    """Finds what followed publishers have released under a name."""

    def __init__(self, beliefs: Beliefs, releases: Releases) -> None:
        self._beliefs = beliefs
        self._releases = releases

    async def packages(self, names: set[str]) -> list[PublishedPackage]:
        """Return the newest release of each followed publisher under these names."""
        follows = [row for row in self._beliefs.follows() if row.name in names]
        found = await asyncio.gather(
            *(self._newest(row.publisher, row.name) for row in follows)
        )
        return [
            PublishedPackage(one.publisher, one.body.version, one.body.artifacts)
            for one in found
            if one is not None
        ]

    def followed_names(self) -> list[str]:
        """Return every name that is followed."""
        return [row.name for row in self._beliefs.follows()]

    async def _newest(self, publisher: bytes, name: str) -> Package | None:
        if self._beliefs.conflicts_of(publisher):
            log.warning("%s is not served: its publisher signed two things", name)
            return None
        release = self._releases.known(publisher, name)
        try:
            async with asyncio.timeout(limits.PUBLISHED_SECONDS_MAX):
                if release is None:
                    release = await self._releases.newest(publisher, name)
                if release.expired(now()):
                    log.warning("the release of %s has expired", name)
                    return None
                return await self._releases.package_of(release, lambda _event: None)
        except (NodeError, TimeoutError) as error:
            log.warning("the release of %s cannot be had: %s", name, error)
            return None
