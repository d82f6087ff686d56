"""The schema version of `catalogue.sqlite`: migrated, refused when newer, set aside."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import sqlite3
from pathlib import Path

import pytest

from dht import Network
from node.errors import NodeError
from node.gateway.page_cache import PageCache
from node.model.catalogue import Catalogue
from node.model.database import MIGRATIONS, migrate, open_database, version_of
from node.model.keys import publisher_text
from node.model.trust_store import TrustStore
from node.service import Node
from node.settings import Settings
from transfer import Store
from transfer.store.database import Database

OLD = Path(__file__).with_name("catalogue-0.1.sqlite.gz")
"""Written by two nodes of version 0.1: the home of a follower and holder."""


@pytest.fixture
def old(tmp_path):
    """Lay the database of version 0.1 into a home."""
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(gzip.decompress(OLD.read_bytes()))
    return path


def tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return {name for (name,) in rows}


def columns(database: sqlite3.Connection) -> dict[str, list[str]]:
    return {
        table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        for table in tables(database)
    }


def test_a_database_of_0_1_keeps_all_that_it_holds(old, tmp_path):
    """Packages, pins, follows, nicknames, releases, contacts, pages and artifacts."""
    database = open_database(old)
    catalogue, trust_store = Catalogue(database), TrustStore(database)
    assert version_of(database) == len(MIGRATIONS)
    held = {(row.name, row.version, row.own) for row in catalogue.packages()}
    assert held == {
        ("app", "1", False),
        ("lib", "1", False),
        ("mine", "1", True),
        ("tool", "1", False),
    } | ({("tool", "2", False)} & held)
    (pin,) = catalogue.pins()
    assert catalogue.package(pin).name == "app"
    assert catalogue.contacts() == ["127.0.0.1:4747"]
    assert len(catalogue.privates()) == len(catalogue.damaged()) == 1
    assert [row.name for row in trust_store.follows()] == ["app", "lib", "tool"]
    maker = trust_store.publisher_of("maker")
    assert maker is not None
    newest = trust_store.release(maker, "tool")
    assert newest is not None
    record = newest.record(Network())
    assert (record.version, newest.urgency) == ("2", "security")
    assert newest.package == f"sha256:{record.package.hex()}"
    assert newest.issued_at == record.issued_at
    assert catalogue.package(newest.package).note == "closes a hole"
    with contextlib.closing(Database(old)) as opened:
        PageCache(opened)  # pages of 0.1 are read again
    assert database.execute("SELECT count(*) FROM transfer_artifacts").fetchone() == (
        11,
    )
    database.close()


def test_an_old_database_ends_with_the_tables_of_a_new_one(old, tmp_path):
    """Whatever the way, the columns are the same."""
    ways = []
    for path in (old, tmp_path / "new" / "catalogue.sqlite"):
        path.parent.mkdir(exist_ok=True)
        database = open_database(path)
        Catalogue(database), TrustStore(database)
        with contextlib.closing(Database(path)) as opened:
            PageCache(opened)
        Store(path.parent).close()
        ways.append(columns(database))
        database.close()
    assert ways[0] == ways[1]


def test_migrating_twice_changes_nothing(old):
    open_database(old).close()
    before = list(sqlite3.connect(old).iterdump())
    open_database(old).close()
    assert list(sqlite3.connect(old).iterdump()) == before


def test_a_failed_migration_leaves_the_version_before(tmp_path):
    database = sqlite3.connect(tmp_path / "some.sqlite", isolation_level=None)

    def first(opened):
        opened.execute("CREATE TABLE one (x)")

    def second(opened):
        opened.execute("CREATE TABLE two (x)")
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError):
        migrate(database, [first, second])
    assert version_of(database) == 1
    assert tables(database) == {"one"}
    migrate(database, [first, lambda opened: None])
    assert version_of(database) == 2


def test_a_newer_database_is_refused_and_untouched(old):
    database = sqlite3.connect(old)
    database.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    database.close()
    before = old.read_bytes(), sorted(old.parent.iterdir())
    with pytest.raises(NodeError, match="newer Caravan") as refused:
        open_database(old)
    assert "\n" not in str(refused.value)
    assert (old.read_bytes(), sorted(old.parent.iterdir())) == before


@pytest.mark.parametrize("damage", ["no database", "a broken page"])
async def test_what_is_no_database_is_set_aside_and_the_store_indexed_again(
    tmp_path, caplog, damage
):
    """The sentence says under which name it was kept, and the files are still held."""
    home = tmp_path / "home"
    settings = Settings(home, listen=("127.0.0.1:0",), web="127.0.0.1:0")
    home.mkdir()
    store = Store(home)
    artifact = store.add_bytes(b"kept in the store")
    store.close()
    path = home / "catalogue.sqlite"
    if damage == "no database":
        path.write_bytes(b"this is not a database " * 100)
    else:
        content = bytearray(path.read_bytes())
        content[100:4096] = b"\xff" * 3996
        path.write_bytes(content)
    broken = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        node = await Node.start(settings)
    try:
        found = await node.layers.storage.store.find_soon(artifact.digest)
        assert found is not None
        data = await asyncio.to_thread(node.layers.storage.store.read, found)
        assert data == b"kept in the store"
    finally:
        await node.stop()
    (kept,) = home.glob("catalogue.sqlite.damaged-*")
    assert kept.read_bytes() == broken
    assert f"it was kept as {kept.name}" in caplog.text
    assert "indexed again" in caplog.text


def test_the_fixture_is_of_version_0_1():
    """It has no version, and the tables that were there then."""
    database = sqlite3.connect(":memory:")
    database.deserialize(gzip.decompress(OLD.read_bytes()))
    assert version_of(database) == 0
    assert "withdrawn" in tables(database)
    assert len(publisher_text(bytes(32))) == 52


def test_what_was_shared_is_kept_in_one_tree(tmp_path):
    """Two trees of the same digests were most of the memory of a large store."""
    path = tmp_path / "catalogue.sqlite"
    database = open_database(path)
    database.execute("CREATE TABLE direct (artifact TEXT PRIMARY KEY, file TEXT)")
    rows = [("sha256:b", "two"), ("sha256:a", "one")]
    database.executemany("INSERT INTO direct VALUES (?,?)", rows)
    database.execute("PRAGMA user_version = 3")
    database.close()
    database = open_database(path)
    assert Catalogue(database).directs() == {"sha256:a", "sha256:b"}
    assert Catalogue(database).direct_file("sha256:b") == "two"
    trees = "SELECT count(*) FROM sqlite_master WHERE tbl_name = 'direct'"
    assert "direct" in tables(database)
    # The index that a primary key of text adds is not there.
    (without,) = database.execute(trees + " AND sql LIKE '%WITHOUT ROWID%'").fetchone()
    assert without == 1
    database.close()
