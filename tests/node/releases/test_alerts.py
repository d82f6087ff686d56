"""Alerts at the node: who is believed, what is passed on, and how much is done."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from dht import Address, Contact, NotifyReport
from node.background import Background
from node.content.closure import NO_LIMITS, Closures
from node.content.withdrawal import Withdrawal
from node.model.packages import ArtifactEntry
from node.releases.alert_receiver import AlertReceiver
from node.releases.alerts import PASSING_ON, PUBLISHING, Audience
from node.releases.updates import UpdateTracker
from tests.node.publishers import (
    DAY,
    NOW,
    Believer,
    alerting,
    digest,
    digest_of,
    package,
    record,
    release_key,
    root_key,
)

ROOT = root_key()


def contact(number: int) -> Contact:
    return Contact(
        number.to_bytes(32, "big"),
        Address(f"45.{number // 250}.{number % 250}.9", 4747),
    )


class Crowd:
    """A network in which some answer, and a `ContentRouter` that finds them all."""

    def __init__(self, size: int = 0, silent: int = 0) -> None:
        self.contacts = [contact(number) for number in range(1, size + 1)]
        self.silent = set(self.contacts[:silent])
        self.sent: list[Contact] = []
        self.stored: list[Any] = []
        self.synced = 0

    async def notify(self, _record, to, hints=()):
        self.sent += to
        return NotifyReport(
            [one for one in to if one not in self.silent],
            [one for one in to if one in self.silent],
        )

    async def store_record(self, stored, *, keep=False):
        self.stored.append(stored)

    async def holders(self, digests, each):
        return set(self.contacts) if list(digests) else set()

    async def followers(self, publisher, name, most):
        return set(self.contacts)

    async def sync(self):
        self.synced += 1


class Node:
    """The parts of a node that alerts concern."""

    def __init__(self, size: int = 0, silent: int = 0) -> None:
        self.crowd = Crowd(size, silent)
        self.believer = Believer()
        self.background = Background()
        self.fetched: list[str] = []
        parts = self.believer
        crowd: Any = self.crowd
        fetcher: Any = parts.fetcher
        self.alerter, self.pipeline = alerting(parts, crowd)
        self.withdrawal = Withdrawal(parts.catalogue, parts.trust_store)
        self.updates = UpdateTracker(
            catalogue=parts.catalogue,
            trust_store=parts.trust_store,
            releases=parts.releases,
            pipeline=self.pipeline,
            closures=Closures(fetcher, parts.catalogue, NO_LIMITS),
            router=crowd,
            rng=random.Random(1),
            now=lambda: parts.time,
        )
        self.alerts = AlertReceiver(
            dht=crowd,
            catalogue=parts.catalogue,
            trust_store=parts.trust_store,
            releases=parts.releases,
            pipeline=self.pipeline,
            updates=self.updates,
            background=self.background,
        )

    def follow(self, auto: str = "never") -> None:
        self.believer.trust_store.follow(ROOT.publisher, "demo", auto)

    def release(self, number: int = 1, **changes: Any):
        """Publish a version; returns its record."""
        made = package(sequence=number, version=f"{number}.0", **changes)
        self.believer.fetcher.add(made)
        return record(
            package=digest_of(made),
            version=made.body.version,
            sequence=number,
            urgency=made.body.urgency,
        )

    async def settle(self) -> None:
        """Wait until everything that an alert set off has ended."""
        while self.background._tasks:
            await asyncio.wait(set(self.background._tasks))


async def told(size: int, silent: int, effort) -> tuple[Crowd, Any]:
    node = Node(size, silent)
    audience = Audience(frozenset(node.crowd.contacts), frozenset())
    return node.crowd, await node.alerter.alert(record(), audience, effort)


async def test_a_publisher_sends_less_than_a_hundred_datagrams():
    """However large its audience is, and however much of it is silent."""
    crowd, reach = await told(1000, 0, PUBLISHING)
    assert (reach.alerted, reach.unreachable) == (60, 0)
    crowd, _ = await told(1000, 1000, PUBLISHING)
    assert len(crowd.sent) <= 96
    crowd, reach = await told(5, 2, PUBLISHING)
    assert (reach.alerted, reach.unreachable) == (3, 2)
    assert len(crowd.sent) == 7  # the silent ones twice


@pytest.mark.parametrize("silent", [0, 300, 1000])
async def test_passing_on_costs_each_holder_few_datagrams(silent):
    crowd, reach = await told(1000, silent, PASSING_ON)
    assert len(crowd.sent) <= 15
    assert len(crowd.sent) + reach.alerted <= 19
    assert len(set(crowd.sent)) == len(crowd.sent)


async def test_an_alert_is_believed_about_what_is_followed_or_held():
    """All others mean nothing, and leave nothing behind."""
    node = Node(20)
    alert = node.release()
    before = node.believer.disk
    assert not node.alerts.on_release(alert)
    assert node.believer.disk == before
    stranger = root_key(7)
    node.follow()
    assert not node.alerts.on_release(record(stranger, sequence=9))
    assert not node.alerts.interested(stranger.publisher, "demo")
    assert node.alerts.on_release(alert)
    await node.settle()
    assert len(node.crowd.sent) == 9


async def test_holding_through_the_publishers_package_file_is_enough():
    """Content that came by its digest alone makes nobody believed."""
    node = Node(3)
    node.believer.catalogue.add_direct(digest(1), "demo.bin")
    assert not node.alerts.on_release(node.release())
    node.believer.catalogue.add_package(digest(50), package(), held=True)
    assert node.alerts.on_release(node.release(2))
    await node.settle()


async def test_a_record_that_was_seen_is_not_passed_on_again():
    """A hundred thousand replays cost no datagram."""
    node = Node(20)
    node.follow()
    alert = node.release()
    assert node.alerts.on_release(alert)
    await node.settle()
    sent, disk = len(node.crowd.sent), node.believer.disk
    assert not any(node.alerts.on_release(alert) for _ in range(100_000))
    await node.settle()
    assert len(node.crowd.sent) == sent
    assert node.believer.disk == disk


async def test_two_records_of_one_number_stop_automatic_fetching():
    """The proof is kept and passed on, and the user is told."""
    node = Node()
    node.follow("all")
    parts = node.believer
    assert node.alerts.on_release(node.release())
    await node.settle()
    evil = record(version="evil", package=bytes(32))
    assert not node.alerts.on_release(evil)
    await node.settle()
    assert [one.raw for one in node.crowd.stored] == [evil.raw]
    (doubt,) = node.updates.doubts()
    assert "two different releases" in doubt.why
    brought: list[Any] = []
    parts.releases.learn(node.release(2), confirmed=1)
    release = parts.releases.known(ROOT.publisher, "demo")
    assert release is not None
    node.updates._closures = brought  # would fail if it were used
    await node.updates.obey(release)


@pytest.mark.parametrize(
    ("auto", "urgency", "fetches"),
    [
        ("never", "security", False),
        ("security", "routine", False),
        ("security", "security", True),
        ("all", "routine", True),
    ],
)
@pytest.mark.parametrize("pinned", [False, True])
async def test_the_policy_decides_what_is_fetched(
    monkeypatch, auto, urgency, fetches, pinned
):
    node = Node()
    node.follow(auto)
    if pinned:
        node.believer.catalogue.add_package(digest(50), package(), held=True)
        node.believer.catalogue.pin(digest(50))
    brought = []

    async def bring(_self, _digests, packages):
        brought.extend(packages)

    monkeypatch.setattr("node.content.closure.Closure.bring", bring)
    alert = node.release(2, urgency=urgency)
    node.alerts.on_release(alert)
    await node.settle()
    assert bool(brought) == (fetches and not pinned)


async def test_a_security_release_silences_what_it_replaces_and_nothing_else():
    """Only what is held through that publisher and name, and is not pinned."""
    node = Node()
    catalogue = node.believer.catalogue
    artifacts = [
        ArtifactEntry(f"{n}.bin", 1, digest(n), "ab" * 32) for n in (1, 2, 3, 4)
    ]
    catalogue.add_package(digest(50), package(artifacts=artifacts), held=True)
    shared = package(root_key(7), name="other", artifacts=artifacts[1:2])
    catalogue.add_package(digest(51), shared, held=True)
    catalogue.add_direct(digest(3), "by its digest")
    catalogue.pin(digest(4))
    node.alerts.on_release(
        node.release(
            2,
            urgency="security",
            artifacts=[ArtifactEntry("5.bin", 1, digest(5), "ab" * 32)],
            replaces=[digest(n) for n in (1, 2, 3, 4)],
        )
    )
    await node.settle()
    assert set(node.withdrawal.withheld()) == {digest(1)}
    assert node.crowd.synced


async def test_the_user_is_told_what_not_to_trust():
    """A release that grows old, and one whose delegation has ended."""
    node = Node()
    node.follow()
    node.believer.releases.learn(record(release_key(end=NOW + 50 * DAY)), confirmed=1)
    assert node.updates.doubts() == []
    node.believer.time = NOW - 365 * DAY
    assert "clock is behind" in node.updates.doubts()[0].why
    node.believer.time = NOW + 31 * DAY
    assert "30 days" in node.updates.doubts()[0].why
    node.believer.time = NOW + 51 * DAY
    assert "expired" in node.updates.doubts()[0].why


async def test_waiting_ends_with_news():
    """A desktop or a CI job waits for what it has not seen yet."""
    node = Node()
    node.follow()
    waiting = asyncio.create_task(node.updates.wait([]))
    await asyncio.sleep(0)
    node.alerts.on_release(node.release())
    async with asyncio.timeout(10):
        (entry,) = await waiting
    assert (entry.newest, entry.held) == ("1.0", None)
    again = asyncio.create_task(node.updates.wait([entry.digest]))
    await node.settle()
    assert not again.done()
    node.alerts.on_release(record(version="evil", package=bytes(32)))
    async with asyncio.timeout(10):
        await again


async def test_what_could_not_be_had_with_the_news_is_had_later():
    """A package file that nobody offered yet is read, and obeyed, an hour later."""
    node = Node()
    catalogue = node.believer.catalogue
    catalogue.add_package(digest(50), package(), held=True)
    artifacts = [ArtifactEntry("5.bin", 1, digest(5), "ab" * 32)]
    alert = node.release(
        2, urgency="security", artifacts=artifacts, replaces=[digest(1)]
    )
    files, node.believer.fetcher.files = node.believer.fetcher.files, {}
    assert node.alerts.on_release(alert)
    await node.settle()
    assert node.withdrawal.withheld() == {}
    node.believer.fetcher.files = files
    node.believer.dht.keep(alert)
    await node.updates.catch_up(everything=True)
    assert set(node.withdrawal.withheld()) == {digest(1)}
