"""What a new release follows: never what a thief released with a revoked key."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from node.model.keys import PublisherKey
from node.model.packages import Package
from node.releases.package_builder import PackageBuilder
from tests.node.publishers import Believer, digest, package, release_key, root_key

ROOT = root_key()
STOLEN, FRESH = release_key(2, epoch=1), release_key(3, epoch=2)


def builder_of(node: Believer) -> PackageBuilder:
    nobody: Any = None
    fetcher: Any = node.fetcher
    return PackageBuilder(
        store=nobody,
        catalogue=node.catalogue,
        trust_store=node.trust_store,
        sharer=nobody,
        fetcher=fetcher,
        closures=nobody,
        releases=node.releases,
        folder=Path(),
        now=lambda: node.time,
    )


def version(number: int, key: PublisherKey, **changes: Any) -> Package:
    raw = key.delegation.raw if key.delegation else b""
    return package(
        key,
        version=f"{number}",
        sequence=number,
        epoch=key.delegation.epoch if key.delegation else 0,
        delegation=base64.b64encode(raw).decode(),
        **changes,
    )


async def previous(node: Believer) -> str | None:
    row = await builder_of(node)._previous(ROOT.publisher, "demo", lambda _event: None)
    return row.version if row else None


def revoke(node: Believer) -> None:
    assert FRESH.delegation is not None
    node.releases.learn_delegation(FRESH.delegation)


async def test_a_release_follows_the_newest_that_counts():
    node = Believer()
    assert await previous(node) is None
    node.release(version(1, STOLEN), STOLEN)
    node.release(version(2, STOLEN, replaces=[digest(1)]), STOLEN)
    assert await previous(node) == "2"


async def test_after_a_revocation_it_follows_the_newest_own_one():
    """The thief's release is known here, and neither replaced nor followed."""
    node = Believer()
    mine = version(1, STOLEN)
    node.catalogue.add_package(node.fetcher.add(mine), mine, held=True, own=True)
    node.release(mine, STOLEN)
    node.release(version(2, STOLEN, replaces=[digest(1)]), STOLEN)
    revoke(node)
    assert await previous(node) == "1"


async def test_what_the_root_key_signed_is_followed_on_any_machine():
    node = Believer()
    node.release(version(1, ROOT), ROOT)
    node.release(version(2, STOLEN), STOLEN)
    revoke(node)
    assert await previous(node) == "1"


async def test_without_either_a_release_is_the_first():
    node = Believer()
    node.release(version(2, STOLEN), STOLEN)
    revoke(node)
    assert await previous(node) is None
