"""The index of artifacts: its totals are those of its rows, whatever happens."""

from __future__ import annotations

import pytest

from transfer import Digest, Manifest
from transfer.content.artifact import Artifact
from transfer.store.database import Database
from transfer.store.index import Index


def entry(data):
    manifest = Manifest.of(data)
    return Artifact(Digest.of(data), len(data), manifest.digest), manifest


def held(database):
    """Return count and bytes as the rows say."""
    rows = database.read("SELECT size FROM transfer_artifacts")
    return len(rows), sum(size for (size,) in rows)


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "catalogue.sqlite")
    yield database
    database.close()


def test_what_is_listed_already_is_not_counted_again(database):
    index = Index(database)
    index.insert([entry(b"a" * 10), entry(b"b" * 20)], 0.0)
    index.insert([entry(b"b" * 20), entry(b"c" * 40), entry(b"c" * 40)], 0.0)
    assert index.totals() == held(database) == (3, 70)


def test_what_is_deleted_is_counted_no_more(database):
    index = Index(database)
    index.insert([entry(b"a" * 10), entry(b"b" * 20)], 0.0)
    assert index.delete(Digest.of(b"a" * 10))
    assert not index.delete(Digest.of(b"a" * 10))
    assert index.totals() == held(database) == (1, 20)


def test_triggers_of_older_versions_do_not_count_as_well(database):
    """Their databases are taken over as they are."""
    Index(database).insert([entry(b"a" * 10)], 0.0)
    for name, event, sign, row in (
        ("added", "INSERT", "+", "new"),
        ("removed", "DELETE", "-", "old"),
    ):
        trigger = (
            f"CREATE TRIGGER transfer_{name} AFTER {event} ON transfer_artifacts"
            f" BEGIN UPDATE transfer_totals SET artifacts = artifacts {sign} 1,"
            f" bytes = bytes {sign} {row}.size; END"
        )
        database.write(lambda connection, text=trigger: connection.execute(text))
    index = Index(database)
    index.insert([entry(b"b" * 20)], 0.0)
    index.delete(Digest.of(b"a" * 10))
    assert index.totals() == held(database) == (1, 20)
