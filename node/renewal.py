"""Keeping own releases alive: stored again at start, signed anew before they look old.

A release that its publisher has not confirmed for 30 days is shown as doubtful. So
the node of the publisher signs the newest one anew every 20 days, as long as its key
can be used without a passphrase: the same package, one sequence number higher.
"""

from __future__ import annotations

import asyncio
import logging
import random

from dht import Dht, ReleaseRecord
from node.beliefs import Beliefs
from node.catalogue import Catalogue
from node.errors import NodeError
from node.keys import PublisherKey, PublisherKeys
from node.releases import Release, Releases
from node.wallclock import Now

log = logging.getLogger(__name__)

SIGN_ANEW_SECONDS = 20 * 86_400.0
VALID_SECONDS = 400 * 86_400.0
ROUND_SECONDS = 6 * 3600.0


class Renewal:
    """Renews what was published from here."""

    def __init__(
        self,
        dht: Dht,
        catalogue: Catalogue,
        beliefs: Beliefs,
        releases: Releases,
        keys: PublisherKeys,
        rng: random.Random,
        now: Now,
    ) -> None:
        self._dht = dht
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._releases = releases
        self._keys = keys
        self._rng = rng
        self._now = now

    async def renew_forever(self) -> None:
        """Renew now and every few hours, until cancelled."""
        while True:
            await self.renew()
            await asyncio.sleep(ROUND_SECONDS * self._rng.uniform(0.9, 1.1))

    async def renew(self) -> list[ReleaseRecord]:
        """Store own delegations and newest releases; returns what was signed anew."""
        try:
            await self._store_delegations()
        except NodeError as error:
            log.warning("%s", error)
        signed = []
        own = {
            (row.publisher, row.name) for row in self._catalogue.packages() if row.own
        }
        for publisher, name in sorted(own):
            await self._releases.refresh(publisher, name)
            release = self._releases.known(publisher, name)
            if release is None or not self._is_own(release):
                continue
            record = self._signed_anew(release)
            if record is not None:
                signed.append(record)
            elif not release.expired(self._now()):
                record = release.record
            if record is not None:
                await self._dht.store_record(record, keep=True)
        return signed

    async def _store_delegations(self) -> None:
        """Make the delegations of the release keys here known, the newest ones."""
        for delegation in self._keys.delegations():
            current = delegation.epoch >= self._beliefs.epoch_of(delegation.publisher)
            if current and delegation.not_after > self._now():
                self._releases.learn_delegation(delegation)
                await self._dht.store_record(delegation, keep=True)

    def _is_own(self, release: Release) -> bool:
        """Tell whether the newest release was published from here, and not since."""
        row = self._catalogue.package(str(release.package))
        return row is not None and row.own

    def _signed_anew(self, release: Release) -> ReleaseRecord | None:
        """Return the record of the same package, signed now, if it is due."""
        old, now = release.record, self._now()
        if now - old.issued_at < SIGN_ANEW_SECONDS:
            return None
        key = self._key_of(old)
        if key is None:
            log.warning(
                "the release of %s is %d days old, and no key of its publisher can be "
                "used here without a passphrase; publish or broadcast it again",
                old.name,
                (now - old.issued_at) // 86_400,
            )
            return None
        record = sign_anew(old, key, now)
        self._releases.learn(record, confirmed=0)
        log.info("signed the release of %s %s anew", record.name, record.version)
        return record

    def _key_of(self, record: ReleaseRecord) -> PublisherKey | None:
        """Return a key here that may sign the next record of a publisher's name."""
        epoch = max(record.epoch, self._beliefs.epoch_of(record.publisher))
        for name in self._keys.names():
            try:
                if self._keys.is_encrypted(name):
                    continue
                key = self._keys.load(name)
            except NodeError as error:
                log.warning("%s", error)
                continue
            if key.publisher == record.publisher and key.may_sign(epoch, self._now()):
                return key
        return None


def sign_anew(old: ReleaseRecord, key: PublisherKey, now: float) -> ReleaseRecord:
    """Return a record of the same package as `old`, one step newer."""
    epoch = old.epoch if key.delegation is None else key.delegation.epoch
    sequence = old.sequence + 1 if epoch == old.epoch else 1
    return ReleaseRecord.sign(
        key.private_key,
        publisher=old.publisher,
        name=old.name,
        version=old.version,
        epoch=epoch,
        sequence=sequence,
        package=old.package,
        urgency=old.urgency,
        issued_at=int(now),
        expires_at=int(now + VALID_SECONDS),
        delegation=key.delegation,
    )
