"""Incoming alerts: which are believed, and what becomes of them.

An alert is believed only about a name that the user follows, or that is held through
that publisher's package file of it. A believed and newer one is acted on and passed on
to a few others, once; the rest is counted by the DHT and forgotten.
"""

from __future__ import annotations

import logging

from dht import Dht, ReleaseRecord
from node.background import Background
from node.errors import NodeError
from node.model.catalogue import Catalogue
from node.model.trust_store import TrustStore
from node.releases.alerts import PASSING_ON
from node.releases.newest import Learned, Releases
from node.releases.pipeline import ReleasePipeline
from node.releases.updates import UpdateTracker

log = logging.getLogger(__name__)


class AlertReceiver:
    """Decides which alerts count, and acts on them."""

    def __init__(
        self,
        *,
        dht: Dht,
        catalogue: Catalogue,
        trust_store: TrustStore,
        releases: Releases,
        pipeline: ReleasePipeline,
        updates: UpdateTracker,
        background: Background,
    ) -> None:
        self._dht = dht
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._releases = releases
        self._pipeline = pipeline
        self._updates = updates
        self._background = background

    def interested(self, publisher: bytes, name: str) -> bool:
        """Tell whether an alert of `publisher` about `name` is believed here."""
        followed = self._trust_store.followed(publisher, name) is not None
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

    async def _react(self, record: ReleaseRecord) -> None:
        """Act on an alert: show it, withdraw, pass it on, then fetch our copy."""
        try:
            release = self._updates.show(record)
            if release is None:
                return
            await self._pipeline.release(record, own=False, effort=PASSING_ON)
            await self._updates.obey(release)
        except NodeError as error:
            log.warning("the alert about %s: %s", record.name, error)
