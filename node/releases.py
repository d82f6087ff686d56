"""The newest release of a name: from the DHT, from what is remembered, never back.

Whatever record arrives, and by whatever way, passes `Releases.learn`: a record that
is older than the newest one seen changes nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dht import Dht, Network, RecordError, ReleaseRecord, release_key
from node.beliefs import Beliefs
from node.catalogue import Catalogue, PackageRow
from node.commands import Progress
from node.errors import NobodyOffersError, RefusedError
from node.fetch import Fetch
from node.keys import publisher_text
from node.packages import Package
from node.wallclock import Now
from transfer import Digest

WALK_BACK_MAX = 1_000
REPAIR_SHARE = 0.6
"""A record that fewer than this share of the asked nodes hold is stored again."""


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


class Releases:
    """Knows the newest release record of each name."""

    def __init__(
        self,
        dht: Dht,
        network: Network,
        catalogue: Catalogue,
        beliefs: Beliefs,
        fetch: Fetch,
        now: Now,
    ) -> None:
        self._dht = dht
        self._network = network
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._fetch = fetch
        self._now = now

    def learn(self, record: ReleaseRecord, confirmed: int) -> bool:
        """Remember a verified record; True if it is newer than what was known."""
        return self._beliefs.remember_release(record, confirmed, self._now())

    def known(self, publisher: bytes, name: str) -> Release | None:
        """Return the newest release seen of a name that is still valid, or None."""
        row = self._beliefs.release(publisher, name)
        if row is None:
            return None
        try:
            record = ReleaseRecord.verify(row.raw, self._now())
        except RecordError:
            return None
        return Release(record, row.confirmed, row.confirmed_at)

    async def refresh(self, publisher: bytes, name: str) -> bool:
        """Ask the DHT for the newest record; True if it was news.

        Where the network has an older one than we do, or too few copies, ours is
        stored again: a record outlives its publisher's absence by its holders.
        """
        search = await self._dht.find_record(
            release_key(self._network, publisher, name)
        )
        found = search.newest
        news = False
        if isinstance(found, ReleaseRecord):
            if (found.publisher, found.name) != (publisher, name):
                return False
            news = self.learn(found, search.confirmed)
        known = self.known(publisher, name)
        if known is not None and search.asked:
            current = found is not None and found.raw == known.record.raw
            if not current or search.confirmed < REPAIR_SHARE * search.asked:
                await self._dht.store_record(known.record)
        return news

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
        package, _ = await self._fetch.package(release.package, progress)
        record, body = release.record, package.body
        if (package.publisher, body.name, body.version, package.order) != (
            record.publisher,
            record.name,
            record.version,
            record.order,
        ):
            raise RefusedError("the package file is not the one that was released")
        self._catalogue.add_package(str(release.package), package, held=False)
        return package

    async def find_version(
        self, publisher: bytes, name: str, version: str | None, progress: Progress
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
            older, _ = await self._fetch.package(digest, progress)
            _check_ancestor(older, package)
            self._catalogue.add_package(str(digest), older, held=False)
            if older.body.version == version:
                return digest
            package = older
        raise NobodyOffersError(f"{name} has no version {version}")

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


def _check_ancestor(older: Package, newer: Package) -> None:
    if (older.publisher, older.body.name) != (newer.publisher, newer.body.name) or (
        older.order >= newer.order
    ):
        raise RefusedError("the version before it belongs to something else")
