"""What is new among the names that are held or followed, and acting on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator

from dht import ReleaseRecord
from node.background import describe
from node.commands import Progress
from node.content.closure import Closures
from node.content.routing import Routing
from node.errors import NobodyOffersError, NodeError
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import parse_publisher, publisher_text
from node.model.trust_store import TrustStore
from node.releases.newest import Release, Releases
from node.releases.pipeline import NOTE_PATIENCE_SECONDS, ReleasePipeline
from node.results import DoubtEntry, UpdateEntry
from node.wallclock import Now
from transfer import Digest

log = logging.getLogger(__name__)

CATCH_UP_SECONDS = 3600.0
ALONE_SECONDS = 20.0
"""How soon it is tried again where nobody answered."""
CONFIRMATION_FRESH_SECONDS = 300.0
READS_AT_ONCE = 8


class UpdateTracker:
    """Reads releases, tells the user what is newer, and obeys the user's policy."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        trust_store: TrustStore,
        releases: Releases,
        pipeline: ReleasePipeline,
        closures: Closures,
        router: Routing,
        rng: random.Random,
        now: Now,
    ) -> None:
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._releases = releases
        self._closures = closures
        self._router = router
        self._pipeline = pipeline
        self._rng = rng
        self._now = now
        self._asked_at: dict[tuple[bytes, str], float] = {}
        self._trouble: dict[tuple[bytes, str], str] = {}
        """What went wrong with the newest release of a name, when last looked at."""
        self._news = asyncio.Event()

    async def round(self) -> float:
        """Read the releases of all names; returns after how long to do it again."""
        await self.catch_up(everything=True)
        reached = any(self._asked_lately(*name) for name in self.names())
        pause = CATCH_UP_SECONDS if reached else ALONE_SECONDS
        return pause * self._rng.uniform(0.9, 1.1)

    async def catch_up(self, *, everything: bool) -> None:
        """Ask for the newest release of every name, or of those not asked lately."""
        slots = asyncio.Semaphore(READS_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for publisher, name in self.names():
                if everything or not self._asked_lately(publisher, name):
                    tasks.create_task(self._read(publisher, name, slots))

    def names(self) -> list[tuple[bytes, str]]:
        """Return (publisher, name) of everything held or followed."""
        names = set(self._catalogue.held_names())
        names |= {(row.publisher, row.name) for row in self._trust_store.follows()}
        return sorted(names)

    def show(self, record: ReleaseRecord) -> Release | None:
        """Let those who wait see a new release; None if it is outdated by now."""
        release = self._releases.known(record.publisher, record.name)
        if release is None or release.record.raw != record.raw:
            return None
        self._asked_at.pop((record.publisher, record.name), None)
        self.wake()
        return release

    def wake(self) -> None:
        """Let those who wait for news look again."""
        self._news.set()

    async def obey(self, release: Release) -> None:
        """Fetch a new release if that is the user's policy and nothing speaks against.

        What is pinned is not replaced, and a publisher whose key signed two different
        releases as one is not obeyed. Nothing that is fetched is ever run.
        """
        publisher, name = release.record.publisher, release.record.name
        row = self._trust_store.followed(publisher, name)
        policy = row.auto if row else "never"
        if not (policy == "all" or policy == release.record.urgency == "security"):
            return
        if self._trust_store.conflicts_of(publisher) or self._is_pinned(
            publisher, name
        ):
            return
        held = self._held(publisher, name)
        if held is not None and _is_current(held, release):
            return
        await self._bring([release.package], lambda _event: None)
        await self._router.sync()
        log.info("fetched %s %s", name, release.record.version)

    async def report(self) -> list[UpdateEntry]:
        """Return one entry for each name with a newer release than is held."""
        await self.catch_up(everything=False)
        entries: dict[tuple[bytes, str], UpdateEntry] = {}
        slots = asyncio.Semaphore(READS_AT_ONCE)

        async def look(publisher: bytes, name: str) -> None:
            release = self._releases.known(publisher, name)
            held = self._held(publisher, name)
            if release is None or (held and _is_current(held, release)):
                return
            async with slots, self._alone(publisher, name):
                entries[publisher, name] = await self._entry(release, held)

        async with asyncio.TaskGroup() as tasks:
            for publisher, name in self.names():
                tasks.create_task(look(publisher, name))
        return [entries[key] for key in sorted(entries)]

    async def wait(self, seen: list[str]) -> list[UpdateEntry]:
        """Return the report once it, or a doubt, has an id that is not in `seen`."""
        while True:
            self._news.clear()
            entries = await self.report()
            ids = [entry.digest for entry in entries]
            ids += [doubt.id for doubt in self.doubts()]
            if not set(ids) <= set(seen):
                return entries
            await self._news.wait()

    async def apply(self, progress: Progress) -> list[UpdateEntry]:
        """Fetch every update; returns what `report` said before.

        One that cannot be had becomes a doubt about its name. Raise NodeError where
        none could be had.
        """
        entries = await self.report()
        errors: list[NodeError] = []
        for entry in entries:
            try:
                await self._bring([Digest.parse(entry.digest)], progress)
            except NodeError as error:
                errors.append(error)
                self._doubt(parse_publisher(entry.publisher), entry.name, str(error))
        await self._router.sync()
        if errors and len(errors) == len(entries):
            raise errors[0]
        return entries

    def doubts(self) -> list[DoubtEntry]:
        """Return the names whose newest release should not be trusted to be newest."""
        found = []
        for publisher, name in self.names():
            release = self._releases.known(publisher, name)
            why = ""
            if trouble := self._trouble.get((publisher, name)):
                why = f"its newest release cannot be used: {trouble}"
            if self._trust_store.conflicts_of(publisher):
                why = "its publisher's key signed two different releases as one"
            elif release is not None and release.expired(self._now()):
                why = "its newest release has expired: newer ones may be kept from here"
            elif release is not None and release.is_ahead_of(self._now()):
                why = "this machine's clock is behind it: newer ones may be refused"
            elif release is not None and release.stale(self._now()):
                why = "its publisher has not confirmed it for over 30 days"
            if why:
                text = publisher_text(publisher)
                found.append(
                    DoubtEntry(
                        publisher=text,
                        nickname=self._trust_store.nickname_of(publisher),
                        name=name,
                        why=why,
                        id=f"{text}/{name}: {why}",
                    )
                )
        return found

    async def _read(
        self, publisher: bytes, name: str, slots: asyncio.Semaphore
    ) -> None:
        async with slots, self._alone(publisher, name):
            reading = await self._releases.refresh(publisher, name)
            if reading.answers:
                now = asyncio.get_running_loop().time()
                self._asked_at[publisher, name] = now
            await self._pursue(publisher, name, is_news=reading.is_news)

    async def pursue(self, publisher: bytes, name: str) -> None:
        """Act on the newest release of a name, news or not."""
        async with self._alone(publisher, name):
            await self._pursue(publisher, name, is_news=True)

    async def _pursue(self, publisher: bytes, name: str, *, is_news: bool) -> None:
        """Act on the newest release of a name, as far as that is still to be done.

        What could not be had when it was news may be there by now.
        """
        known = self._releases.known(publisher, name)
        if known is not None and is_news:
            self.show(known.record)
        await self._pipeline.withdraw(publisher, name)
        if known is not None:
            await self.obey(known)
        self._trouble.pop((publisher, name), None)

    @contextlib.asynccontextmanager
    async def _alone(self, publisher: bytes, name: str) -> AsyncIterator[None]:
        """Let whatever goes wrong with a name end nothing for the other names.

        It becomes a doubt about this one, until a later look goes well.
        """
        try:
            yield
        except NobodyOffersError as error:
            log.info("the release of %s: %s", name, error)
        except NodeError as error:
            log.warning("the release of %s: %s", name, error)
            self._doubt(publisher, name, str(error))
        except Exception as error:
            log.exception("the release of %s could not be looked at", name)
            self._doubt(publisher, name, f"it could not be read: {describe(error)}")

    def _doubt(self, publisher: bytes, name: str, why: str) -> None:
        if self._trouble.get((publisher, name)) != why:
            self._trouble[publisher, name] = why
            self.wake()

    async def _bring(self, packages: list[Digest], progress: Progress) -> None:
        await self._closures.new(progress).bring([], packages)

    def _asked_lately(self, publisher: bytes, name: str) -> bool:
        asked_at = self._asked_at.get((publisher, name))
        now = asyncio.get_running_loop().time()
        return asked_at is not None and now - asked_at < CONFIRMATION_FRESH_SECONDS

    def _held(self, publisher: bytes, name: str) -> PackageRow | None:
        rows = self._catalogue.packages_named(publisher, name)
        return next((row for row in rows if row.held), None)

    async def _entry(self, release: Release, held: PackageRow | None) -> UpdateEntry:
        record = release.record
        row = await self._releases.row_of(release, NOTE_PATIENCE_SECONDS)
        return UpdateEntry(
            publisher=publisher_text(record.publisher),
            nickname=self._trust_store.nickname_of(record.publisher),
            name=record.name,
            held=held.version if held else None,
            newest=record.version,
            urgency=record.urgency,
            note=row.note if row else "",
            digest=str(release.package),
            confirmed=release.confirmed,
            confirmed_at=round(release.confirmed_at),
        )

    def _is_pinned(self, publisher: bytes, name: str) -> bool:
        """Tell whether a held version is pinned, itself or by what needs it."""
        return any(
            any(map(self._catalogue.is_pinned, [row.digest, *self._files(row)]))
            for row in self._catalogue.packages_named(publisher, name)
            if row.held
        )

    def _files(self, row: PackageRow) -> list[str]:
        return [artifact for _, artifact in self._catalogue.files_of(row.digest)]


def _is_current(held: PackageRow, release: Release) -> bool:
    """Tell whether the package held is the one released, or a later one."""
    return held.digest == str(release.package) or held.order >= release.record.order
