"""Packages published in the network, beside those of an upstream's index.

A followed publisher must not take over a name that the upstream has (dependency
confusion), and an upstream must not take over one that came from the network. So a
published name is served only where the upstream says that it has no such name, or
where the owner's settings say who wins; anything else is refused with a sentence. The
rule is the same for every index: `resolve_name`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from node.errors import NodeError
from node.gateway import limits
from node.model.keys import publisher_text
from node.model.packages import ArtifactEntry
from node.model.trust_store import TrustStore
from node.releases.newest import Releases
from node.settings import Winner
from node.wallclock import now

log = logging.getLogger(__name__)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # of TOML, without quotes
UpstreamSays = Literal["has it", "has it not", "nothing"]
Choice = Literal["upstream", "network", "neither", "clash", "unknown"]


class ClashError(NodeError):
    """A name means two things, so nothing is served for it."""

    exit_code = 6


class NothingNamedError(NodeError):
    """No index has anything of this name."""

    exit_code = 4


@dataclass(frozen=True, slots=True)
class PublishedPackage:
    """What a followed publisher released under a name."""

    publisher: bytes
    name: str
    version: str
    artifacts: list[ArtifactEntry]
    why_not: str = ""
    """Why its files are not known, although there is a release; "" where they are."""


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
    key = name if _BARE_KEY.fullmatch(name) else f'"{name}"'
    return ClashError(
        f'{why}; say who wins: [gateway.names] {key} = "network" or "upstream"'
    )


def resolve_name(
    name: str,
    packages: Sequence[PublishedPackage],
    *,
    says: UpstreamSays,
    winner: Winner | None,
) -> PublishedPackage | None:
    """Decide whose package a name means, so that no dependency confusion is possible.

    Returns the published package, or None for the upstream's. Raises ClashError where
    the name is refused, NothingNamedError where nothing has it.
    """
    if winner != "upstream" and (lost := [one for one in packages if one.why_not]):
        raise ClashError(
            f"{name} is published by {publisher_text(lost[0].publisher)[:12]}..., but "
            f"{lost[0].why_not}"
        )
    choice = choose(says, is_published=bool(packages), winner=winner)
    publishers = [one.publisher for one in packages]
    if choice == "network" and len(packages) == 1:
        return packages[0]
    if choice in ("network", "clash"):
        raise refusal(name, choice, publishers)
    if choice == "upstream":
        return None
    if choice == "unknown":
        if packages and not winner:
            raise refusal(name, choice, publishers)
        raise NothingNamedError(
            f"the upstream index is unreachable and no cached page for {name} exists"
        )
    raise NothingNamedError(f"nothing is called {name} here or in the upstream index")


class Published:
    """Finds what followed publishers have released under a name."""

    def __init__(self, trust: TrustStore, releases: Releases) -> None:
        self._trust = trust
        self._releases = releases

    def is_followed(self, is_meant: Callable[[str], bool]) -> bool:
        """Tell whether a name of a followed publisher is meant."""
        return any(is_meant(row.name) for row in self._trust.follows())

    async def packages(
        self,
        is_meant: Callable[[str], bool],
        has_files: Callable[[PublishedPackage], bool],
    ) -> list[PublishedPackage]:
        """Return the newest release of each follow whose name is meant.

        Of those whose files are known, only the ones that have some for this index.
        """
        follows = [row for row in self._trust.follows() if is_meant(row.name)]
        found = await asyncio.gather(
            *(self._newest(row.publisher, row.name) for row in follows)
        )
        return [
            one for one in found if one is not None and (one.why_not or has_files(one))
        ]

    async def _newest(self, publisher: bytes, name: str) -> PublishedPackage | None:
        def lost(why: str) -> PublishedPackage:
            log.warning("%s is not served: %s", name, why)
            return PublishedPackage(publisher, name, "", [], why)

        if self._trust.conflicts_of(publisher):
            return lost("its publisher has signed two releases under one number")
        release = self._releases.known(publisher, name)
        try:
            async with asyncio.timeout(limits.PUBLISHED_SECONDS_MAX):
                if release is None:
                    release = await self._releases.newest(publisher, name)
                if release.expired(now()):
                    log.warning("the release of %s has expired", name)
                    return None
                package = await self._releases.package_of(release, lambda _event: None)
        except (NodeError, TimeoutError) as error:
            if release is not None:
                return lost("its package file cannot be had now")
            log.warning("no release of %s can be found: %s", name, error)
            return None
        body = package.body
        return PublishedPackage(publisher, body.name, body.version, body.artifacts)
