"""Cleaning takes the oldest, whole packages at a time, and never what a pin covers."""

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.content.eviction import Plan
from node.model.catalogue import Catalogue
from node.model.database import open_database
from node.model.keys import PublisherKey
from node.model.packages import (
    ArtifactEntry,
    Dependency,
    Package,
    PackageBody,
    issued_now,
)

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
KEY = PublisherKey(PRIVATE, PRIVATE.public_key().public_bytes_raw())


@dataclass
class Held:
    """What the plan reads of an artifact."""

    size: int
    added_at: float


def digest(text: str) -> str:
    return "sha256:" + text.encode().hex().rjust(64, "0")


@pytest.fixture
def catalogue(tmp_path):
    database = open_database(tmp_path / "catalogue.sqlite")
    yield Catalogue(database)
    database.close()


def add(catalogue, held, name, *, at, needs=(), size=100, own=False):
    """Hold the package `name` with one file, which came at the time `at`."""
    body = PackageBody(
        format=1,
        publisher=KEY.text,
        name=name,
        version="1",
        epoch=0,
        sequence=1,
        issued=issued_now(1_800_000_000),
        artifacts=[ArtifactEntry("file", size, digest(f"{name} file"), "ab" * 32)],
        dependencies=[Dependency("package", digest(one)) for one in needs],
    )
    catalogue.add_package(digest(name), Package.sign(body, KEY), held=True, own=own)
    held[digest(name)] = Held(1, at)
    held[digest(f"{name} file")] = Held(size, at)


def test_the_oldest_goes_first_and_its_bytes_with_it(catalogue):
    """A package is as old as it is; what nothing needs is counted free."""
    held = {}
    add(catalogue, held, "old", at=1)
    add(catalogue, held, "new", at=2)
    plan = Plan(catalogue, held)
    assert plan.bytes_kept == 202
    assert plan.oldest() == digest("old")
    assert plan.drop(digest("old")) == [digest("old")]
    assert plan.bytes_kept == 101
    assert not plan.is_needed(digest("old file"))
    assert plan.is_needed(digest("new file"))
    assert plan.oldest() == digest("new")


def test_a_dependency_is_as_young_as_what_needs_it(catalogue):
    """An old dependency of a new package does not go before a middle-aged one."""
    held = {}
    add(catalogue, held, "dependency", at=1)
    add(catalogue, held, "other", at=2)
    add(catalogue, held, "user", at=3, needs=["dependency"])
    assert Plan(catalogue, held).oldest() == digest("other")


def test_what_needs_a_dropped_package_goes_too(catalogue):
    """Nothing is left that lacks a part, also in a circle."""
    held = {}
    add(catalogue, held, "a", at=1, needs=["b"])
    add(catalogue, held, "b", at=1, needs=["a"])
    plan = Plan(catalogue, held)
    assert plan.drop(digest("a")) == sorted([digest("a"), digest("b")])
    assert plan.bytes_kept == 0
    assert plan.oldest() is None


def test_a_pin_covers_all_that_it_needs(catalogue):
    """Neither a pinned package nor its dependencies are ever candidates."""
    held = {}
    add(catalogue, held, "dependency", at=1)
    add(catalogue, held, "pinned", at=1, needs=["dependency"])
    add(catalogue, held, "free", at=9)
    catalogue.pin(digest("pinned"))
    plan = Plan(catalogue, held)
    assert plan.oldest() == digest("free")
    plan.drop(digest("free"))
    assert plan.oldest() is None
    assert plan.is_needed(digest("dependency file"))


def test_own_packages_stay_as_if_they_were_pinned(catalogue):
    """What was published here may be held nowhere else."""
    held = {}
    add(catalogue, held, "dependency", at=1)
    add(catalogue, held, "own", at=1, needs=["dependency"], own=True)
    add(catalogue, held, "free", at=9)
    plan = Plan(catalogue, held)
    assert plan.oldest() == digest("free")
    plan.drop(digest("free"))
    assert plan.oldest() is None
    assert plan.is_needed(digest("own file"))
    assert plan.is_needed(digest("dependency file"))


def test_an_artifact_shared_by_two_packages_stays_with_the_second(catalogue):
    """Counts, not ownership: what one still needs is kept."""
    held = {}
    add(catalogue, held, "one", at=1)
    add(catalogue, held, "two", at=2)
    catalogue.add_direct(digest("one file"), "x")
    plan = Plan(catalogue, held)
    plan.drop(digest("one"))
    assert plan.is_needed(digest("one file"))
    plan.drop(digest("one file"))
    assert not plan.is_needed(digest("one file"))
