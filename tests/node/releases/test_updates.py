"""One bad name never ends the look at the others, and shows a doubt of its own."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from dht import RecordError
from node.content.closure import NO_LIMITS, Closures
from node.errors import NobodyOffersError, NodeError, RefusedError, VerificationError
from node.releases.updates import UpdateTracker
from tests.node.publishers import (
    DAY,
    Believer,
    Nobody,
    digest_of,
    package,
    record,
    root_key,
)

GOOD, BAD = root_key(1), root_key(7)


class Follower:
    """A node that follows `demo` of a good and of a bad publisher."""

    def __init__(self) -> None:
        self.parts = parts = Believer()
        self.fetcher: Any = parts.fetcher
        self.router: Any = Nobody()
        self.updates = UpdateTracker(
            catalogue=parts.catalogue,
            trust_store=parts.trust_store,
            releases=parts.releases,
            pipeline=parts.pipeline,
            closures=Closures(self.fetcher, parts.catalogue, NO_LIMITS),
            router=self.router,
            rng=random.Random(1),
            now=lambda: parts.time,
        )
        for key in (GOOD, BAD):
            parts.trust_store.follow(key.publisher, "demo", "never")
        self.publish(GOOD)

    def publish(self, key, *, file: bool = True) -> None:
        """Let the network hold a release of `key`, and perhaps its package file."""
        made = package(key)
        if file:
            self.parts.fetcher.add(made)
        self.parts.dht.keep(record(key, package=digest_of(made)))

    async def look(self) -> tuple[list[str], list[str]]:
        """Return the publishers of the updates shown, and those in doubt."""
        shown = await self.updates.report()
        doubts = self.updates.doubts()
        return (
            sorted(one.publisher for one in shown),
            [one.publisher for one in doubts],
        )


@pytest.fixture
def follower():
    return Follower()


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("it is not a package file"),
        VerificationError("it is too large"),
        RecordError("The release record has expired."),
        ValueError("string argument should contain only ASCII characters"),
        sqlite3.OperationalError("database is locked"),
        RecursionError("too deep"),
        KeyError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("where", ["the package file", "the record"])
async def test_whatever_is_wrong_with_one_name_the_others_are_shown(
    follower, monkeypatch, error, where
):
    follower.publish(BAD)
    bad = bytes.fromhex(digest_of(package(BAD)).hex())
    fetch, find = follower.parts.fetcher.package, follower.parts.dht.find_record

    async def package_of(wanted, progress):
        if where == "the package file" and wanted.raw == bad:
            raise error
        return await fetch(wanted, progress)

    async def find_record(key):
        found = await find(key)
        if where == "the record" and found.newest and found.newest.package == bad:
            raise error
        return found

    monkeypatch.setattr(follower.parts.fetcher, "package", package_of)
    monkeypatch.setattr(follower.parts.dht, "find_record", find_record)
    assert await follower.look() == ([GOOD.text], [BAD.text])
    assert await follower.updates.round() > 0
    (doubt,) = follower.updates.doubts()
    assert "\n" not in doubt.why
    monkeypatch.undo()
    await follower.updates.round()
    assert await follower.look() == (sorted([GOOD.text, BAD.text]), [])


async def test_a_package_file_that_nobody_offers_yet_is_no_doubt(follower):
    """It is an update whose note is not known."""
    follower.publish(BAD, file=False)
    shown, doubts = await follower.look()
    assert (shown, doubts) == (sorted([GOOD.text, BAD.text]), [])


async def test_a_record_on_disk_that_is_refused_now_harms_only_its_name(follower):
    """Whatever an earlier version has let in."""
    parts = follower.parts
    await follower.look()
    broken = replace(record(BAD, package=hashlib.sha256(b"x").digest()), raw=b"\x93")
    parts.trust_store.remember_release(broken, 1, parts.time)
    assert await follower.look() == ([GOOD.text], [])
    true = record(BAD, package=hashlib.sha256(b"x").digest())
    assert parts.releases.learn(true, 1).name == "NEWS"
    assert parts.newest(BAD) == "1.0"
    assert parts.trust_store.conflicts_of(BAD.publisher) == []


async def test_one_update_that_cannot_be_had_does_not_keep_back_the_others(
    follower, monkeypatch
):
    """`updates --apply` fetches what it can, and fails where that is nothing."""
    follower.publish(BAD)
    brought = []

    async def bring(packages, _progress):
        (one,) = packages
        if one.raw == digest_of(package(BAD)):
            raise NobodyOffersError("nobody offers demo.bin now")
        brought.append(one)

    monkeypatch.setattr(follower.updates, "_bring", bring)
    applied = await follower.updates.apply(lambda _event: None)
    assert len(applied) == 2
    assert [one.raw for one in brought] == [digest_of(package(GOOD))]
    assert [one.publisher for one in follower.updates.doubts()] == [BAD.text]

    async def nothing(_packages, _progress):
        raise NodeError("the disk is full")

    monkeypatch.setattr(follower.updates, "_bring", nothing)
    with pytest.raises(NodeError, match="disk is full"):
        await follower.updates.apply(lambda _event: None)


async def test_a_follower_who_was_away_for_long_catches_up(follower):
    """A number far ahead is no theft where weeks of releases lie between."""
    parts = follower.parts
    await follower.look()
    later = record(GOOD, sequence=50_000, version="9", issued_at=parts.time)
    assert parts.releases.learn(later, 1).name == "NOTHING"
    parts.time += 5 * DAY
    assert parts.releases.learn(later, 1).name == "NEWS"
    assert parts.newest(GOOD) == "9"
