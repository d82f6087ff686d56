"""Alerts: whom to believe, what is new, and telling others who hold the old version.

An alert is believed only about a name that the user follows, or that is held through
that publisher's package file. A believed and newer one is remembered, passed on to a
few others once, and fetched where the user's policy says so.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from dht import Contact, Dht, ReleaseRecord
from node.background import Background
from node.beliefs import Beliefs
from node.catalogue import Catalogue, PackageRow
from node.commands import Progress
from node.errors import NodeError
from node.fetch import Closure, Fetch
from node.keys import publisher_text
from node.provide import Provide
from node.releases import Release, Releases
from node.withdrawal import Withdrawal
from transfer import Digest

log = logging.getLogger(__name__)

CATCH_UP_SECONDS = 3600.0
CONFIRMATION_FRESH_SECONDS = 300.0
NOTE_PATIENCE_SECONDS = 5.0
PASS_ON_MAX = 8
READS_AT_ONCE = 8


class Updates:
    """What is new among the names that are held or followed."""

    def __init__(
        self,
        dht: Dht,
        catalogue: Catalogue,
        beliefs: Beliefs,
        releases: Releases,
        fetch: Fetch,
        provide: Provide,
        withdrawal: Withdrawal,
        background: Background,
        rng: random.Random,
        *,
        withdraw: bool,
    ) -> None:
        self._dht = dht
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._releases = releases
        self._fetch = fetch
        self._provide = provide
        self._withdrawal = withdrawal
        self._withdraw_wished = withdraw
        self._background = background
        self._rng = rng
        self._asked_at: dict[tuple[bytes, str], float] = {}

    def interested(self, publisher: bytes, name: str) -> bool:
        """Tell whether an alert of `publisher` about `name` is believed here."""
        return self._beliefs.followed(
            publisher, name
        ) is not None or self._catalogue.holds(publisher, name)

    def on_release(self, record: ReleaseRecord) -> bool:
        """Take a verified alert; True if it is news, and so worth passing on."""
        if not self.interested(record.publisher, record.name):
            return False
        news = self._releases.learn(record, confirmed=0)
        if news:
            self._background.start(self._act_on(record, pass_on=True), "an alert")
        return news

    async def catch_up_forever(self) -> None:
        """Read the releases of all names now and every hour, until cancelled."""
        while True:
            await self.catch_up(stale_only=False)
            await asyncio.sleep(CATCH_UP_SECONDS * self._rng.uniform(0.9, 1.1))

    async def catch_up(self, *, stale_only: bool) -> None:
        """Ask the network for the newest release of every name held or followed."""
        slots = asyncio.Semaphore(READS_AT_ONCE)
        clock = asyncio.get_running_loop().time

        async def read(publisher: bytes, name: str) -> None:
            async with slots:
                if await self._releases.refresh(publisher, name):
                    known = self._releases.known(publisher, name)
                    if known is not None:
                        await self._act_on(known.record, pass_on=False)
            self._asked_at[publisher, name] = clock()

        async with asyncio.TaskGroup() as tasks:
            for publisher, name in self.names():
                asked_at = self._asked_at.get((publisher, name))
                fresh = (
                    asked_at is not None
                    and clock() - asked_at < CONFIRMATION_FRESH_SECONDS
                )
                if not (stale_only and fresh):
                    tasks.create_task(read(publisher, name))

    def names(self) -> list[tuple[bytes, str]]:
        """Return (publisher, name) of everything held or followed."""
        names = set(self._catalogue.held_names())
        names |= {(row.publisher, row.name) for row in self._beliefs.follows()}
        return sorted(names)

    async def report(self) -> list[dict[str, Any]]:
        """Return one document for each name with a newer release than is held."""
        await self.catch_up(stale_only=True)
        entries = []
        for publisher, name in self.names():
            release = self._releases.known(publisher, name)
            held = [
                row
                for row in self._catalogue.packages_named(publisher, name)
                if row.held
            ]
            if release is None or (held and _is_current(held[0], release)):
                continue
            entries.append(
                await self._entry(release, held[0].version if held else None)
            )
        return entries

    async def apply(self, progress: Progress) -> list[dict[str, Any]]:
        """Fetch every update; returns what `report` said before."""
        entries = await self.report()
        packages = [Digest.parse(entry["digest"]) for entry in entries]
        closure = Closure(self._fetch, progress, dependencies=True)
        await closure.bring([], packages)
        await self._provide.sync()
        return entries

    async def alert(self, record: ReleaseRecord, contacts: set[Contact]) -> int:
        """Push a record to `contacts`; returns how many were told."""
        chosen = sorted(contacts, key=lambda contact: contact.node_id)
        self._rng.shuffle(chosen)
        report = await self._dht.notify(record, chosen)
        return len(report.told)

    async def audience(
        self, record: ReleaseRecord
    ) -> tuple[set[Contact], set[Contact]]:
        """Return (holders of what the release replaces, followers of its name)."""
        replaced = self._catalogue.replaced_by(f"sha256:{record.package.hex()}")
        holders = await self._provide.holders(Digest.parse(one) for one in replaced)
        followers = await self._provide.followers(record.publisher, record.name)
        return holders, followers

    async def _entry(self, release: Release, held: str | None) -> dict[str, Any]:
        record = release.record
        row = await self._releases.row_of(release, NOTE_PATIENCE_SECONDS)
        return {
            "publisher": publisher_text(record.publisher),
            "name": record.name,
            "held": held,
            "newest": record.version,
            "urgency": record.urgency,
            "note": row.note if row else "",
            "digest": str(release.package),
            "confirmed": release.confirmed,
            "confirmed_at": round(release.confirmed_at),
        }

    async def _act_on(self, record: ReleaseRecord, *, pass_on: bool) -> None:
        """Read what the release is, tell a few others, fetch it if so wished."""
        release = self._releases.known(record.publisher, record.name)
        if release is None or release.record.raw != record.raw:
            return
        try:
            await self._releases.row_of(release, NOTE_PATIENCE_SECONDS)
            if pass_on:
                await self._pass_on(record)
            await self.withdraw(release)
            await self._apply_policy(release)
        except NodeError as error:
            log.warning("the alert about %s: %s", record.name, error)

    async def _pass_on(self, record: ReleaseRecord) -> None:
        holders, followers = await self.audience(record)
        others = sorted(holders | followers, key=lambda contact: contact.node_id)
        if others:
            chosen = self._rng.sample(others, min(PASS_ON_MAX, len(others)))
            await self._dht.notify(record, chosen)

    async def withdraw(self, release: Release) -> None:
        """Stop offering what a security release ends, before anybody asks for it."""
        if self._withdraw_wished and self._withdrawal.apply(str(release.package)):
            await self._provide.sync()

    async def _apply_policy(self, release: Release) -> None:
        row = self._beliefs.followed(release.record.publisher, release.record.name)
        policy = row.auto if row else "never"
        if self._beliefs.conflicts_of(release.record.publisher):
            return  # a key that signed two things is not obeyed
        if policy == "all" or policy == release.record.urgency == "security":
            closure = Closure(self._fetch, lambda _event: None, dependencies=True)
            await closure.bring([], [release.package])
            await self._provide.sync()
            log.info("fetched %s %s", release.record.name, release.record.version)


def _is_current(held: PackageRow, release: Release) -> bool:
    """Tell whether the package held is the one released, or a later one."""
    return held.digest == str(release.package) or held.order >= release.record.order
