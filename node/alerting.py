"""Alerts: whom to believe, and telling others who hold what a release replaces.

An alert is believed only about a name that the user follows, or that is held through
that publisher's package file of it. A believed and newer one is acted on and passed on
to a few others, once; the rest is counted by the DHT and forgotten.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dht import Contact, Dht, ReleaseRecord
from node.background import Background
from node.beliefs import Beliefs
from node.catalogue import Catalogue
from node.errors import NodeError
from node.provide import Provide
from node.releases import Learned, Releases
from transfer import Digest

log = logging.getLogger(__name__)

PASS_ON_MAX = 8
"""With eight random others each, all but e^-8 of those reached are expected to know."""
DIRECT_MAX = 48
"""Whom a publisher tells itself; they tell the others."""


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
        beliefs: Beliefs,
        releases: Releases,
        provide: Provide,
        background: Background,
        rng: random.Random,
        act_on: Callable[[ReleaseRecord], Awaitable[None]],
    ) -> None:
        self._dht = dht
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._releases = releases
        self._provide = provide
        self._background = background
        self._rng = rng
        self._act_on = act_on

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
            # Its keepers hold the first record; they keep the second as proof.
            self._background.start(
                self._dht.store_record(record), "passing on a proof of equivocation"
            )
        return learned is Learned.NEWS

    async def audience(self, record: ReleaseRecord) -> Audience:
        """Find everybody who should hear of a release."""
        replaced = self._catalogue.replaced_by(f"sha256:{record.package.hex()}")
        holders = await self._provide.holders(Digest.parse(one) for one in replaced)
        followers = await self._provide.followers(record.publisher, record.name)
        return Audience(frozenset(holders), frozenset(followers))

    async def alert(self, record: ReleaseRecord, audience: Audience) -> Reach:
        """Tell a publisher's audience, or as many of it as one node should tell."""
        return await self._tell(record, audience, DIRECT_MAX)

    async def _react(self, record: ReleaseRecord) -> None:
        try:
            # What the release replaces stands in its package file: that comes first.
            await self._act_on(record)
            await self._tell(record, await self.audience(record), PASS_ON_MAX)
        except NodeError as error:
            log.warning("the alert about %s: %s", record.name, error)

    async def _tell(
        self, record: ReleaseRecord, audience: Audience, most: int
    ) -> Reach:
        everybody = audience.everybody
        chosen = self._rng.sample(everybody, min(most, len(everybody)))
        if not chosen:
            return Reach(0, 0)
        report = await self._dht.notify(record, chosen)
        return Reach(len(report.told), len(chosen) - len(report.told))
