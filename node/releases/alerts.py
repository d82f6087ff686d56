"""Sending alerts: find who should hear of a release, and notify them.

A publisher's alert and a passed-on one differ only in their `Effort`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dht import Contact, Dht, ReleaseRecord
from node.model.catalogue import Catalogue
from transfer import Digest


@dataclass(frozen=True, slots=True)
class Effort:
    """How much one node does for an alert: whom it looks for, tells, and tries."""

    found_each: int
    """A search ends when it has found so many."""
    enough: int
    """With so many followers found, no more holders are looked for."""
    digests: int
    """Of so many replaced artifacts, drawn by chance, the holders are looked for."""
    alerted: int
    """So many answers end the work."""
    sent: int
    """So many are sent at most; an unanswered one is sent a second time, last."""
    crossing: int
    """With so many datagrams, answers among them, this node has done its part."""


PUBLISHING = Effort(
    found_each=256, enough=2**31, digests=256, alerted=60, sent=96, crossing=2**31
)
PASSING_ON = Effort(
    found_each=32, enough=16, digests=8, alerted=9, sent=15, crossing=18
)
"""With nine random others each, all but e^-9 of the audience are expected to hear.

That holds where all are as likely to be drawn. So they are drawn from one key, that of
the name's followers, under which providers of a package of that name are found too.
"""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who should hear of a release: holders of what it ends, and followers."""

    holders: frozenset[Contact]
    followers: frozenset[Contact]

    @property
    def everybody(self) -> list[Contact]:
        """All of them once, in an order that chance alone may change."""
        return sorted(self.holders | self.followers, key=lambda one: one.node_id)


@dataclass(frozen=True, slots=True)
class AlertReport:
    """How far an alert got by this node's own hand."""

    alerted: int
    unreachable: int


class AudienceFinder(Protocol):
    """What alerts need of the content router."""

    async def holders(self, digests: Iterable[Digest], each: int) -> set[Contact]:
        """Return others who offer one of `digests`, of each at most about `each`."""

    async def followers(self, publisher: bytes, name: str, most: int) -> set[Contact]:
        """Return others who follow or offer a name, at most about `most`."""


class Alerter:
    """Sends alerts."""

    def __init__(
        self,
        *,
        dht: Dht,
        catalogue: Catalogue,
        router: AudienceFinder,
        rng: random.Random,
    ) -> None:
        self._dht = dht
        self._catalogue = catalogue
        self._router = router
        self._rng = rng

    async def audience(
        self, record: ReleaseRecord, effort: Effort = PUBLISHING
    ) -> Audience:
        """Find who should hear of a release: everybody, or enough to pass it on."""
        followers = await self._router.followers(
            record.publisher, record.name, effort.found_each
        )
        if len(followers) >= effort.enough:
            return Audience(frozenset(), frozenset(followers))
        replaced = self._catalogue.replaced_by(f"sha256:{record.package.hex()}")
        if len(replaced) > effort.digests:
            replaced = self._rng.sample(replaced, effort.digests)
        holders = await self._router.holders(
            map(Digest.parse, replaced), effort.found_each
        )
        return Audience(frozenset(holders), frozenset(followers))

    async def alert(
        self, record: ReleaseRecord, audience: Audience, effort: Effort = PUBLISHING
    ) -> AlertReport:
        """Notify an audience, or as many of it as one node should."""
        queue = audience.everybody
        self._rng.shuffle(queue)
        silent: set[Contact] = set()
        alerted = sent = 0
        while queue and sent + alerted < effort.crossing:
            # What is left of all three, where each datagram may get an answer.
            left = -(-(effort.crossing - sent - alerted) // 2)
            most = min(left, effort.alerted - alerted, effort.sent - sent)
            if most <= 0:
                break
            chosen, queue = queue[:most], queue[most:]
            report = await self._dht.notify(record, chosen)
            sent += len(chosen)
            alerted += len(report.told)
            queue += [one for one in report.unreachable if one not in silent]
            silent = silent.union(report.unreachable).difference(report.told)
        return AlertReport(alerted, len(silent))
