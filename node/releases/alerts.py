"""Alerts: whom to believe, and telling others who hold what a release replaces.

An alert is believed only about a name that the user follows, or that is held through
that publisher's package file of it. A believed and newer one is acted on and passed on
to a few others, once; the rest is counted by the DHT and forgotten.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass

from dht import Contact, Dht, ReleaseRecord
from node.background import Background
from node.content.router import ContentRouter
from node.errors import NodeError
from node.model.catalogue import Catalogue
from node.model.trust_store import TrustStore
from node.releases.newest import Learned, Releases
from node.releases.updates import Updates
from transfer import Digest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much one node does for an alert: whom it looks for, tells, and tries."""

    found_each: int
    """A search ends when it has found so many."""
    enough: int
    """With so many followers found, no more holders are looked for."""
    digests: int
    """Of so many replaced artifacts, drawn by chance, the holders are looked for."""
    told: int
    sent: int
    """So many are sent at most; who does not answer is tried a second time, last."""
    crossing: int
    """With so many datagrams, answers among them, it has done its part."""


PUBLISHING = Effort(
    found_each=256, enough=2**31, digests=256, told=60, sent=96, crossing=2**31
)
PASSING_ON = Effort(found_each=32, enough=16, digests=8, told=9, sent=15, crossing=18)
"""With nine random others each, all but e^-9 of the audience are expected to know.

That holds where all are as likely to be drawn. So they are drawn from one key, that of
the name's followers, under which whoever offers a package of that name is found too.
"""


@dataclass(frozen=True, slots=True)
class Audience:
    """Who should hear of a release: those who hold what it ends, those who asked."""

    holders: frozenset[Contact]
    followers: frozenset[Contact]

    @property
    def everybody(self) -> list[Contact]:
        """All of them once, in an order that chance alone may change."""
        return sorted(self.holders | self.followers, key=lambda one: one.node_id)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an alert got by this node's own hand."""

    told: int
    unreachable: int


class Alerting:
    """Receives alerts, and sends them."""

    def __init__(
        self,
        dht: Dht,
        catalogue: Catalogue,
        beliefs: TrustStore,
        releases: Releases,
        provide: ContentRouter,
        background: Background,
        rng: random.Random,
        updates: Updates,
    ) -> None:
        self._dht = dht
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._releases = releases
        self._provide = provide
        self._background = background
        self._rng = rng
        self._updates = updates

    def interested(self, publisher: bytes, name: str) -> bool:
        """Tell whether an alert of `publisher` about `name` is believed here."""
        followed = self._beliefs.followed(publisher, name) is not None
        return followed or self._catalogue.holds(publisher, name)

    def on_release(self, record: ReleaseRecord) -> bool:
        """Take a verified alert; True if it is news, and so worth passing on."""
        if not self.interested(record.publisher, record.name):
            return False
        learned = self._releases.learn(record, confirmed=0)
        if learned is Learned.NEWS:
            self._background.start(self._react(record), "an alert")
        elif learned is Learned.CONFLICT:
            self._updates.wake()
            # Its keepers hold the first record; they keep the second as proof.
            self._background.start(
                self._dht.store_record(record), "passing on a proof of equivocation"
            )
        return learned is Learned.NEWS

    async def audience(
        self, record: ReleaseRecord, effort: Effort = PUBLISHING
    ) -> Audience:
        """Find who should hear of a release: everybody, or enough to pass it on."""
        followers = await self._provide.followers(
            record.publisher, record.name, effort.found_each
        )
        if len(followers) >= effort.enough:
            return Audience(frozenset(), frozenset(followers))
        replaced = self._catalogue.replaced_by(f"sha256:{record.package.hex()}")
        if len(replaced) > effort.digests:
            replaced = self._rng.sample(replaced, effort.digests)
        holders = await self._provide.holders(
            map(Digest.parse, replaced), effort.found_each
        )
        return Audience(frozenset(holders), frozenset(followers))

    async def alert(
        self, record: ReleaseRecord, audience: Audience, effort: Effort = PUBLISHING
    ) -> Reach:
        """Tell an audience, or as many of it as one node should tell."""
        queue = audience.everybody
        self._rng.shuffle(queue)
        silent: set[Contact] = set()
        told = sent = 0
        while queue and sent + told < effort.crossing:
            # What is left of all three, where each datagram may get an answer.
            left = -(-(effort.crossing - sent - told) // 2)
            most = min(left, effort.told - told, effort.sent - sent)
            if most <= 0:
                break
            chosen, queue = queue[:most], queue[most:]
            report = await self._dht.notify(record, chosen)
            sent += len(chosen)
            told += len(report.told)
            queue += [one for one in report.unreachable if one not in silent]
            silent = silent.union(report.unreachable).difference(report.told)
        return Reach(told, len(silent))

    async def _react(self, record: ReleaseRecord) -> None:
        """Act on an alert: what it says comes first, then others, then our copy."""
        try:
            release = await self._updates.take(record)
            if release is None:
                return
            audience = await self.audience(record, PASSING_ON)
            await self.alert(record, audience, PASSING_ON)
            await self._updates.obey(release)
        except NodeError as error:
            log.warning("the alert about %s: %s", record.name, error)
