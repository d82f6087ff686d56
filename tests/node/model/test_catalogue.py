"""Catalogue and trust store remember packages and releases, and never go back."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import ReleaseRecord
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
from node.model.trust_store import TrustStore

NOW = 1_800_000_000.0
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
KEY = PublisherKey(PRIVATE, PRIVATE.public_key().public_bytes_raw())
AB = "ab" * 32
OLD, NEW = "sha256:" + "0a" * 32, "sha256:" + "0b" * 32


@pytest.fixture
def database(tmp_path):
    opened = open_database(tmp_path / "catalogue.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def catalogue(database):
    return Catalogue(database)


@pytest.fixture
def trust_store(database):
    return TrustStore(database)


def package(sequence: int = 1, **changes) -> Package:
    fields = {
        "format": 1,
        "publisher": KEY.text,
        "name": "cffi",
        "version": f"1.{sequence}",
        "epoch": 0,
        "sequence": sequence,
        "issued": issued_now(NOW),
        "artifacts": [ArtifactEntry(f"cffi-{sequence}.whl", 3, digest(sequence), AB)],
    }
    return Package.sign(PackageBody(**{**fields, **changes}), KEY)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def record(sequence: int, package_byte: int = 7, epoch: int = 0) -> ReleaseRecord:
    return ReleaseRecord.sign(
        PRIVATE,
        publisher=KEY.publisher,
        name="cffi",
        version="1.0",
        epoch=epoch,
        sequence=sequence,
        package=bytes([package_byte]) * 32,
        urgency="routine",
        issued_at=NOW,
        expires_at=NOW + 1000,
    )


def test_packages_come_back_newest_first(catalogue):
    """The newest package of a name leads; files and dependencies keep their order."""
    catalogue.add_package(OLD, package(1), held=True)
    newer = package(
        2,
        replaces=[digest(1)],
        dependencies=[Dependency("package", OLD), Dependency("artifact", digest(9))],
    )
    catalogue.add_package(NEW, newer, held=False)
    rows = catalogue.packages_named(KEY.publisher, "cffi")
    assert [row.digest for row in rows] == [NEW, OLD]
    assert [row.digest for row in catalogue.packages()] == [OLD]
    assert catalogue.files_of(NEW) == [("cffi-2.whl", digest(2))]
    assert catalogue.replaced_by(NEW) == [digest(1)]
    assert catalogue.dependencies_of(NEW) == [("package", OLD), ("artifact", digest(9))]
    assert [row.digest for row, _ in catalogue.packages_with(digest(1))] == [OLD]


def test_held_and_own_are_only_raised(catalogue):
    """Meeting a package again does not make it less held."""
    catalogue.add_package(OLD, package(), held=True, own=True)
    catalogue.add_package(OLD, package(), held=False)
    row = catalogue.package(OLD)
    assert row is not None
    assert row.held
    assert row.own
    assert catalogue.holds(KEY.publisher, "cffi")
    assert not catalogue.holds(bytes(32), "cffi")


def test_the_newest_release_never_goes_back(trust_store):
    """An older record and other bytes of the same order change nothing."""
    second = record(2)
    assert trust_store.remember_release(second, 3, NOW)
    assert not trust_store.remember_release(record(1), 9, NOW)
    assert not trust_store.remember_release(record(2, package_byte=8), 9, NOW)
    row = trust_store.release(KEY.publisher, "cffi")
    assert row is not None
    assert (row.raw, row.confirmed) == (second.raw, 3)
    assert not trust_store.remember_release(second, 5, NOW + 1)
    again = trust_store.release(KEY.publisher, "cffi")
    assert again is not None
    assert (again.confirmed, again.confirmed_at) == (5, NOW + 1)
    assert trust_store.remember_release(record(1, epoch=1), 1, NOW)


def test_follows_nicknames_pins_and_contacts_survive(tmp_path):
    """What the user chose is there after a restart."""
    first = open_database(tmp_path / "catalogue.sqlite")
    TrustStore(first).follow(KEY.publisher, "cffi", "security")
    TrustStore(first).set_nickname("armin", KEY.publisher)
    Catalogue(first).pin(OLD)
    Catalogue(first).remember_contacts(["127.0.0.1:1", "[::1]:2"], NOW)
    first.close()
    again = open_database(tmp_path / "catalogue.sqlite")
    try:
        trust_store, catalogue = TrustStore(again), Catalogue(again)
        follow = trust_store.followed(KEY.publisher, "cffi")
        assert follow is not None
        assert follow.auto == "security"
        assert trust_store.publisher_of("armin") == KEY.publisher
        assert catalogue.pins() == [OLD]
        assert catalogue.contacts() == ["127.0.0.1:1", "[::1]:2"]
        assert trust_store.unfollow(KEY.publisher, "cffi")
        assert not trust_store.unfollow(KEY.publisher, "cffi")
        assert catalogue.unpin(OLD)
        assert not catalogue.unpin(OLD)
    finally:
        again.close()


def test_first_digits_are_found_without_reading_all_rows(database, catalogue):
    """Every command that takes a digest looks for it so, however much is held."""
    catalogue.add_directs(["sha256:ab", "sha256:abcd", "sha256:abff", "sha256:ac"])
    said: list[str] = []
    database.set_trace_callback(said.append)
    found = catalogue.digests_starting("sha256:AB")
    database.set_trace_callback(None)
    assert found == ["sha256:ab", "sha256:abcd", "sha256:abff"]
    plan = database.execute(f"EXPLAIN QUERY PLAN {said[0]}").fetchall()
    assert not [row for row in plan if row[3].startswith("SCAN")]
