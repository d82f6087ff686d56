"""The mirror: tables in memory, repeated in the file behind the loop's back."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from node.model import mirror as mirrors
from node.model.mirror import Mirror
from transfer import StoreError
from transfer.store.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS pair (
  one TEXT PRIMARY KEY, -- a comment; with a semicolon
  other INTEGER) STRICT;
CREATE INDEX IF NOT EXISTS pair_by_other ON pair (other);
"""


@pytest.fixture
async def database(tmp_path):
    database = Database(tmp_path / "catalogue.sqlite")
    yield database
    database.close()


@pytest.fixture
async def mirror(database):
    mirror = Mirror(database)
    mirror.executescript(SCHEMA)
    yield mirror
    await mirror.close()


async def change_durably(mirror, sql):
    async with mirror.durable():
        mirror.execute(sql)


def on_disk(database):
    return database.read("SELECT one, other FROM pair ORDER BY one")


async def test_what_was_executed_is_on_the_disk_after_its_block(database, mirror):
    """Single statements, many at once, and transactions."""
    async with mirror.durable():
        mirror.execute("INSERT INTO pair VALUES (?, ?)", ("a", 1))
        mirror.executemany("INSERT INTO pair VALUES (?, ?)", [("b", 2), ("c", 3)])
        with mirror:
            mirror.execute("BEGIN IMMEDIATE")
            mirror.execute("UPDATE pair SET other = 9 WHERE one = ?", ("a",))
            mirror.execute("DELETE FROM pair WHERE one = ?", ("b",))
    expected = [("a", 9), ("c", 3)]
    assert on_disk(database) == expected
    assert mirror.execute("SELECT * FROM pair ORDER BY one").fetchall() == expected


async def test_a_transaction_that_fails_leaves_no_trace(database, mirror):
    """Neither in memory nor on the disk."""

    def insert_twice():
        with mirror:
            mirror.execute("BEGIN IMMEDIATE")
            mirror.execute("INSERT INTO pair VALUES ('a', 1)")
            mirror.execute("INSERT INTO pair VALUES ('a', 2)")

    with pytest.raises(sqlite3.IntegrityError):
        insert_twice()
    async with mirror.durable():
        mirror.execute("INSERT INTO pair VALUES ('b', 2)")
    assert on_disk(database) == [("b", 2)]
    assert mirror.execute("SELECT one FROM pair").fetchall() == [("b",)]


async def test_another_run_finds_what_was_kept(database, mirror):
    """Tables and indexes are copied; those of others are not."""
    mirror.execute("INSERT INTO pair VALUES ('a', 1)")
    await mirror.close()
    database.write(lambda c: c.execute("CREATE TABLE transfer_large (x)"))
    again = Mirror(database)
    assert again.execute("SELECT * FROM pair").fetchall() == [("a", 1)]
    names = {row[0] for row in again.execute("SELECT name FROM sqlite_master")}
    assert "pair_by_other" in names
    assert "transfer_large" not in names
    await again.close()


async def test_a_locked_file_holds_up_only_those_who_wait_for_it(database, mirror):
    """A block that changes nothing ends at once, as does every statement."""
    async with mirror.durable():
        mirror.execute("INSERT INTO pair VALUES ('a', 1)")
    backup = sqlite3.connect(database.path, isolation_level=None)
    backup.execute("BEGIN IMMEDIATE")

    async def change():
        async with mirror.durable():
            mirror.execute("INSERT INTO pair VALUES ('b', 2)")

    waiting = asyncio.create_task(change())
    async with asyncio.timeout(1):
        await asyncio.sleep(0.05)
        async with mirror.durable():
            assert len(mirror.execute("SELECT * FROM pair").fetchall()) == 2
    assert not waiting.done()
    backup.execute("COMMIT")
    backup.close()
    await waiting
    assert on_disk(database) == [("a", 1), ("b", 2)]


async def test_what_cannot_be_written_is_tried_again_in_order(
    database, mirror, monkeypatch
):
    """A full disk fails the command that waits, and forgets nothing."""
    monkeypatch.setattr(mirrors, "RETRY_SECONDS", 0.05)
    async with mirror.durable():
        mirror.execute("INSERT INTO pair VALUES ('a', 1)")
    submit, full = database.submit, [True]

    def fail(work):
        def refuse(connection):
            if full[0]:
                raise sqlite3.OperationalError("database or disk is full")
            return work(connection)

        return submit(refuse)

    monkeypatch.setattr(database, "submit", fail)
    with pytest.raises(StoreError, match="disk is full"):
        await change_durably(mirror, "UPDATE pair SET other = 2 WHERE one = 'a'")
    mirror.execute("UPDATE pair SET other = other + 5 WHERE one = 'a'")
    await asyncio.sleep(0.1)
    assert mirror.failure is not None
    full[0] = False
    async with asyncio.timeout(5):
        while mirror.failure is not None:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)
    monkeypatch.undo()
    async with mirror.durable():
        mirror.execute("INSERT INTO pair VALUES ('b', 1)")
    assert on_disk(database) == [("a", 7), ("b", 1)]
