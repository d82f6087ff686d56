"""Keeping own releases alive: stored again at start, signed anew before they look old.

A release that its publisher has not confirmed for 30 days is shown as doubtful. So
the node of the publisher signs the newest one anew every 20 days, as long as its key
can be used without a passphrase: the same package, one sequence number higher.
"""

from __future__ import annotations

import logging
import random

from dht import Dht, ReleaseRecord
from node.errors import NodeError
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import PublisherKey, PublisherKeys
from node.model.trust_store import TrustStore
from node.releases.newest import Release, Releases
from node.releases.pipeline import ReleasePipeline
from node.wallclock import Now

log = logging.getLogger(__name__)

SIGN_ANEW_SECONDS = 20 * 86_400.0
VALID_SECONDS = 400 * 86_400.0
ROUND_SECONDS = 6 * 3600.0


class Renewal:
    """Renews what was published from here."""

    def __init__(
        self,
        *,
        dht: Dht,
        catalogue: Catalogue,
        trust_store: TrustStore,
        releases: Releases,
        pipeline: ReleasePipeline,
        keys: PublisherKeys,
        rng: random.Random,
        now: Now,
    ) -> None:
        self._dht = dht
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._releases = releases
        self._pipeline = pipeline
        self._keys = keys
        self._rng = rng
        self._now = now

    async def round(self) -> float:
        """Renew everything; returns after how many seconds to do it again."""
        await self.renew()
        return ROUND_SECONDS * self._rng.uniform(0.9, 1.1)

    async def renew(self) -> list[ReleaseRecord]:
        """Store own delegations and newest releases; returns what was signed anew."""
        await self._store_delegations()
        signed: list[ReleaseRecord] = []
        own: dict[tuple[bytes, str], PackageRow] = {}
        for row in self._catalogue.packages():  # oldest first
            if row.own:
                own[row.publisher, row.name] = row
        for row in own.values():
            try:
                signed += await self._renew(row)
            except Exception:  # one name must not end the renewal of the others
                log.exception("the release of %s could not be renewed", row.name)
        return signed

    async def _renew(self, row: PackageRow) -> list[ReleaseRecord]:
        await self._releases.refresh(row.publisher, row.name)
        release = self._releases.known(row.publisher, row.name)
        record = self._signed_anew(row, release)
        if record is not None:
            released = await self._pipeline.release(record)
            return [] if released is None else [record]
        if release is not None and not release.expired(self._now()):
            await self._pipeline.release(release.record)
        return []

    async def _store_delegations(self) -> None:
        """Make the delegations of the release keys here known, the newest ones."""
        for name in self._keys.names():
            try:
                delegation = self._keys.delegation(name)
            except NodeError as error:
                log.warning("%s", error)
                continue
            if delegation is None or delegation.not_after <= self._now():
                continue
            if delegation.epoch >= self._trust_store.epoch_of(delegation.publisher):
                self._releases.learn_delegation(delegation)
                await self._dht.store_record(delegation, keep=True)

    def _signed_anew(
        self, row: PackageRow, release: Release | None
    ) -> ReleaseRecord | None:
        """Return the record of an own package, signed now, if that is due.

        It is due where the last one grows old; where it is dated ahead of the clock, so
        that nobody takes it; and where its epoch has ended: then the newest package
        that was published from here takes the place of whatever was signed with the key
        that was revoked. What was published elsewhere since is left to its own node, so
        that no number is used twice.
        """
        now, last = self._now(), self._trust_store.release(row.publisher, row.name)
        if last is None or (release is not None and str(release.package) != row.digest):
            return None
        if release is not None and release.is_fresh(now, SIGN_ANEW_SECONDS):
            return None
        key = self._key_of(row.publisher, last.order[0])
        if key is None:
            log.warning(
                "the release of %s should be signed anew, and no key of its publisher "
                "can be used here without a passphrase: publish its next version",
                row.name,
            )
            return None
        current = self._trust_store.epoch_of(row.publisher)
        epoch = key.delegation.epoch if key.delegation else max(current, last.order[0])
        sequence = last.order[1] + 1 if epoch == last.order[0] else 1
        log.info("signing the release of %s %s anew", row.name, row.version)
        return ReleaseRecord.sign(
            key.private_key,
            publisher=row.publisher,
            name=row.name,
            version=row.version,
            epoch=epoch,
            sequence=sequence,
            package=bytes.fromhex(row.digest.removeprefix("sha256:")),
            urgency="security" if row.urgency == "security" else "routine",
            issued_at=int(now),
            expires_at=int(now + VALID_SECONDS),
            delegation=key.delegation,
            network=self._releases.network,
        )

    def _key_of(self, publisher: bytes, epoch: int) -> PublisherKey | None:
        """Return a key here that may sign the next record of a publisher's name."""
        epoch = max(epoch, self._trust_store.epoch_of(publisher))
        for name in self._keys.names():
            try:
                if self._keys.is_encrypted(name):
                    continue
                key = self._keys.load(name)
            except NodeError as error:
                log.warning("%s", error)
                continue
            if key.publisher == publisher and key.may_sign(epoch, self._now()):
                return key
        return None
