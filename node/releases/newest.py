"""The newest release of a name: from the DHT, from what is remembered, never back.

Whatever record arrives, and by whatever way, passes `Releases.learn`: a record that
is older than the newest one seen changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import random
from dataclasses import dataclass

from dht import Delegation, Dht, Network, RecordError, RecordSearch, ReleaseRecord
from dht import delegation_key as delegation_key_of
from dht import release_key as release_key_of
from dht.limits import CLOCK_SKEW_SECONDS, K
from node.commands import Progress
from node.content.fetcher import ContentFetcher
from node.errors import NobodyOffersError, RefusedError
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import publisher_text
from node.model.packages import Package
from node.model.trust_store import ReleaseRow, TrustStore, same_statement
from node.wallclock import Now
from transfer import Digest

log = logging.getLogger(__name__)

WALK_BACK_MAX = 1_000
LINE_MAX = 64
"""So many package files are read back at once, where releases were missed."""
SEQUENCE_JUMP_MAX = 10_000
"""A stolen key must not use up the sequence numbers of an epoch in one step.

So many are allowed at once, and as many more for each day since the last release that
was seen: a node that was away for long catches up, and 2^63 numbers last for ever.
"""
DAY_SECONDS = 86_400.0
FRESH_SECONDS = 30 * DAY_SECONDS
REPAIR_SHARE = 0.6
"""A record that fewer than this share of its keepers hold is stored again."""
RENEW_SECONDS = 12 * 3600.0
"""Keepers drop a record after 24 hours, so each holder renews it twice as often."""
DELEGATION_FRESH_SECONDS = 300.0
"""Many names of one publisher share one reading of its delegation."""


class Learned(enum.Enum):
    """What a record meant to what was known."""

    NEWS = enum.auto()
    CONFLICT = enum.auto()
    NOTHING = enum.auto()


@dataclass(frozen=True, slots=True)
class Reading:
    """What asking the network for a name has brought."""

    is_news: bool
    answers: int
    """How many nodes answered; 0 means that the network was not reached."""


@dataclass(frozen=True, slots=True)
class Release:
    """A verified release record and how many nodes confirmed it, and when."""

    record: ReleaseRecord
    confirmed: int
    confirmed_at: float

    @property
    def package(self) -> Digest:
        """The digest of the package file that it points to."""
        return Digest("sha256", self.record.package)

    def expired(self, now: float) -> bool:
        """Tell whether the record has ended: newer ones may be kept from us."""
        return now >= self.record.ends_at

    def is_ahead_of(self, now: float) -> bool:
        """Tell whether it was signed later than this machine's clock says it is."""
        return self.record.issued_at > now + CLOCK_SKEW_SECONDS

    def is_fresh(self, now: float, seconds: float) -> bool:
        """Tell whether it was signed in the last `seconds`, and not in the future."""
        return not self.is_ahead_of(now) and now - self.record.issued_at < seconds

    def stale(self, now: float) -> bool:
        """Tell whether the publisher has not signed anew for too long."""
        return now - self.record.issued_at > FRESH_SECONDS


class Releases:
    """Knows the newest release record of each name."""

    def __init__(
        self,
        *,
        dht: Dht,
        network: Network,
        catalogue: Catalogue,
        trust_store: TrustStore,
        fetcher: ContentFetcher,
        rng: random.Random,
        now: Now,
    ) -> None:
        self._dht = dht
        self.network = network
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._fetcher = fetcher
        self._rng = rng
        self._now = now
        self._renewed_at: dict[bytes, float] = {}
        self._delegation_read_at: dict[bytes, float] = {}

    def learn(self, record: ReleaseRecord, confirmed: int) -> Learned:
        """Remember a verified record if it is newer than what was known.

        Refused, and nothing changed: an older record, one of a revoked epoch, a jump
        that would leave the publisher no room. Another statement of the same order is
        kept as proof that the publisher's key signed two things.
        """
        row, is_mended = self._trust_store.release(record.publisher, record.name), False
        if why := self._why_not(record, row):
            log.warning("a release record of %s was refused: %s", record.name, why)
            return Learned.NOTHING
        if row is not None and row.order == record.order and row.raw != record.raw:
            held = self._record_of(row)
            if held is not None:
                return self._learn_conflict(held, record)
            is_mended = True
        if record.delegation is not None:
            self._trust_store.remember_delegation(record.delegation)
        if self._trust_store.remember_release(
            record, confirmed, self._now(), is_mended=is_mended
        ):
            return Learned.NEWS
        return Learned.NOTHING

    def learn_delegation(self, delegation: Delegation) -> bool:
        """Remember a verified delegation; True if it revokes those before it."""
        if not self._trust_store.remember_delegation(delegation):
            return False
        log.warning(
            "%s has delegated a new release key (epoch %d); older ones are revoked",
            publisher_text(delegation.publisher),
            delegation.epoch,
        )
        return True

    def _learn_conflict(self, one: ReleaseRecord, other: ReleaseRecord) -> Learned:
        """Keep two statements of one order: their publisher is no longer obeyed.

        One statement in two encodings is no evidence: anybody can re-encode a record.
        """
        if one.order != other.order or same_statement(one, other):
            return Learned.NOTHING
        if other.epoch < self._trust_store.epoch_of(other.publisher):
            return Learned.NOTHING
        if not self._trust_store.remember_conflict(one.raw, other):
            return Learned.NOTHING
        log.warning(
            "%s was released twice as number %d of epoch %d: its publisher's key may "
            "be stolen",
            other.name,
            other.sequence,
            other.epoch,
        )
        return Learned.CONFLICT

    def known(self, publisher: bytes, name: str) -> Release | None:
        """Return the newest release seen of a name, or None.

        One of a revoked epoch is no longer known; one that has expired still is,
        and says so.
        """
        row = self._trust_store.release(publisher, name)
        if row is None or row.order[0] < self._trust_store.epoch_of(publisher):
            return None
        record = self._record_of(row)
        if record is None:
            return None
        return Release(record, row.confirmed, row.confirmed_at)

    def _record_of(self, row: ReleaseRow) -> ReleaseRecord | None:
        """Return the record of a row, None where it is not valid any more.

        In a private network that is one signed before records were bound to their
        network: its order is remembered, and its publisher signs it anew.
        """
        try:
            return row.record(self.network)
        except RecordError as error:
            log.warning("the release of %s kept here is refused: %s", row.name, error)
            return None

    async def refresh(self, publisher: bytes, name: str) -> Reading:
        """Ask the DHT for the newest record of a name.

        Where the network has an older one than we do, or too few copies, ours is
        stored again: a record outlives its publisher's absence by its holders.
        """
        search, _ = await asyncio.gather(
            self._dht.find_record(release_key_of(self.network, publisher, name)),
            self.read_delegation(publisher),
        )
        found, is_news = search.newest, False
        if isinstance(found, ReleaseRecord):
            is_news = self.learn(found, search.confirmed) is Learned.NEWS
            for other in search.conflicts:
                if isinstance(other, ReleaseRecord):
                    self._learn_conflict(found, other)
        known = self.known(publisher, name)
        if known is not None and not known.expired(self._now()):
            await self._repair(known.record, search)
        return Reading(is_news, search.asked)

    async def read_delegation(self, publisher: bytes, *, fresh: bool = False) -> None:
        """Ask for a publisher's newest delegation, unless that was done just now.

        With `fresh`, ask in any case.
        """
        now = asyncio.get_running_loop().time()
        read_at = self._delegation_read_at.get(publisher)
        if (
            not fresh
            and read_at is not None
            and now - read_at < DELEGATION_FRESH_SECONDS
        ):
            return
        self._delegation_read_at[publisher] = now
        search = await self._dht.find_record(delegation_key_of(self.network, publisher))
        if not search.asked:
            self._delegation_read_at.pop(publisher, None)
        found = search.newest
        if isinstance(found, Delegation) and found.publisher == publisher:
            self.learn_delegation(found)
        known = self._trust_store.delegation(publisher, self._now())
        if known is not None:
            await self._repair(known, search)

    async def _repair(
        self, record: ReleaseRecord | Delegation, search: RecordSearch
    ) -> None:
        """Store a record again where it is missing, or is due to be renewed."""
        if not search.asked:
            return
        now = asyncio.get_running_loop().time()
        key = record.key(self.network)
        # The first time is left to chance, so that holders take turns.
        since = self._renewed_at.setdefault(
            key, now - self._rng.uniform(0, RENEW_SECONDS)
        )
        current = search.newest is not None and search.newest.raw == record.raw
        scarce = search.confirmed < REPAIR_SHARE * min(search.asked, K)
        if not current or scarce or now - since > RENEW_SECONDS:
            self._renewed_at[key] = now
            await self._dht.store_record(record)

    def _why_not(self, record: ReleaseRecord, row: ReleaseRow | None) -> str:
        """Return why a record is not believed, or ""."""
        if record.epoch < self._trust_store.epoch_of(record.publisher):
            return "the key that signed it was revoked"
        if row is not None and record.epoch == row.order[0]:
            jump = record.sequence - row.order[1]
            away = max(record.issued_at - row.issued_at, self._now() - row.confirmed_at)
            if jump > SEQUENCE_JUMP_MAX * (1 + max(0.0, away) / DAY_SECONDS):
                return f"its sequence jumps by {jump}"
        return ""

    async def newest(self, publisher: bytes, name: str) -> Release:
        """Return the newest release, asking the network first; NobodyOffersError."""
        await self.refresh(publisher, name)
        known = self.known(publisher, name)
        if known is None:
            raise NobodyOffersError(
                f"nobody knows a release of {name!r} by {publisher_text(publisher)}"
            )
        return known

    async def package_of(self, release: Release, progress: Progress) -> Package:
        """Return the package file of a release; RefusedError if it is another's."""
        package, _ = await self._fetcher.package(release.package, progress)
        record, body = release.record, package.body
        same = (package.publisher, body.name, body.version, body.urgency) == (
            record.publisher,
            record.name,
            record.version,
            record.urgency,
        )
        # A record may be signed anew for the same package, so it may be the later one.
        if not same or package.order > record.order:
            raise RefusedError("the package file is not the one that was released")
        self._catalogue.add_package(str(release.package), package, held=False)
        return package

    async def find_version(
        self,
        publisher: bytes,
        name: str,
        *,
        version: str | None,
        progress: Progress,
    ) -> Digest:
        """Return the package file's digest of a version, walking back if need be."""
        release = await self.newest(publisher, name)
        digest = release.package
        if version is None or release.record.version == version:
            await self.package_of(release, progress)
            return digest
        package = await self.package_of(release, progress)
        for _ in range(WALK_BACK_MAX):
            if not package.body.previous:
                break
            digest = Digest.parse(package.body.previous)
            older, _ = await self._fetcher.package(digest, progress)
            _check_ancestor(older, package)
            self._catalogue.add_package(str(digest), older, held=False)
            if older.body.version == version:
                return digest
            package = older
        raise NobodyOffersError(f"{name} has no version {version}")

    async def read_line(self, release: Release, seconds: float) -> None:
        """Read a release's package file, and those before it back to one held here.

        What a security release replaced is known only from its own package file, also
        where a later one is the first that this node hears of.
        """
        row = await self.row_of(release, seconds)
        with contextlib.suppress(TimeoutError, NobodyOffersError):
            async with asyncio.timeout(seconds):
                for _ in range(LINE_MAX):
                    if row is None or row.held or not row.previous:
                        return
                    row = await self._row_before(row)

    async def _row_before(self, row: PackageRow) -> PackageRow | None:
        known = self._catalogue.package(row.previous)
        if known is None and self._catalogue.holds(row.publisher, row.name):
            digest = Digest.parse(row.previous)
            older, _ = await self._fetcher.package(digest, lambda _event: None)
            _check_ancestor(older, row)
            self._catalogue.add_package(row.previous, older, held=False)
            known = self._catalogue.package(row.previous)
        return known

    async def row_of(self, release: Release, seconds: float) -> PackageRow | None:
        """Return what a release's package file says, fetching it for `seconds`."""
        digest = str(release.package)
        row = self._catalogue.package(digest)
        if row is None:
            try:
                async with asyncio.timeout(seconds):
                    await self.package_of(release, lambda _event: None)
            except (TimeoutError, NobodyOffersError):
                return None
            row = self._catalogue.package(digest)
        return row


def _check_ancestor(older: Package, newer: Package | PackageRow) -> None:
    name = newer.name if isinstance(newer, PackageRow) else newer.body.name
    if (older.publisher, older.body.name) != (newer.publisher, name) or (
        older.order >= newer.order
    ):
        raise RefusedError("the version before it belongs to something else")
