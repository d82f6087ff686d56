"""The catalogue file: one writer, readers that wait for nobody, errors kept apart."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import pytest

from tests.transfer.conftest import TIMEOUT_SECONDS
from transfer import StoreError
from transfer.store.database import Database


@pytest.fixture
def database(tmp_path):
    database = Database(tmp_path / "catalogue.sqlite")
    database.write(lambda c: c.execute("CREATE TABLE t (x INTEGER NOT NULL)"))
    yield database
    database.close()


def insert(number):
    return lambda connection: connection.execute("INSERT INTO t VALUES (?)", (number,))


def numbers(database):
    return [row[0] for row in database.read("SELECT x FROM t ORDER BY rowid")]


def test_work_runs_in_the_order_in_which_it_was_submitted(database):
    """Whatever shares a transaction with what."""
    futures = [database.submit(insert(number)) for number in range(600)]
    for future in futures:
        future.result(TIMEOUT_SECONDS)
    assert numbers(database) == list(range(600))


def test_work_that_fails_is_undone_alone(database):
    """Its neighbours in the transaction are committed."""
    held = threading.Event()
    blocked = database.submit(lambda _: held.wait(TIMEOUT_SECONDS))

    def half(connection):
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("INSERT INTO t VALUES (NULL)")

    failing = [database.submit(half), database.submit(lambda _: 1 // 0)]
    sound = [database.submit(insert(number)) for number in (7, 8)]
    held.set()
    assert blocked.result(TIMEOUT_SECONDS)
    for future in sound:
        future.result(TIMEOUT_SECONDS)
    with pytest.raises(StoreError, match="NOT NULL"):
        failing[0].result(TIMEOUT_SECONDS)
    with pytest.raises(ZeroDivisionError):
        failing[1].result(TIMEOUT_SECONDS)
    assert numbers(database) == [7, 8]


def test_what_has_returned_is_seen_by_others(database):
    """Also by another process's connection."""
    database.write(insert(5))
    with sqlite3.connect(database.path) as other:
        assert other.execute("SELECT x FROM t").fetchall() == [(5,)]
    other.close()


def test_a_lock_of_another_process_holds_up_the_writer_alone(database):
    """As a backup does: reads answer at once, and the work is done afterwards."""
    database.write(insert(1))
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = database.submit(insert(2))
    assert numbers(database) == [1]
    assert not waiting.done()
    other.execute("COMMIT")
    other.close()
    waiting.result(TIMEOUT_SECONDS)
    assert numbers(database) == [1, 2]


async def test_the_loops_thread_may_not_block(database):
    """It awaits instead; other threads may call as before."""
    database.forbid_this_thread()
    with pytest.raises(RuntimeError, match="event loop"):
        database.write(insert(1))
    with pytest.raises(RuntimeError, match="event loop"):
        database.read("SELECT x FROM t")
    await asyncio.wrap_future(database.submit(insert(1)))
    read = database.submit_read(lambda: numbers(database))
    assert await asyncio.wrap_future(read) == [1]
    assert await asyncio.to_thread(numbers, database) == [1]


def test_many_readers_at_once(database):
    """More threads than connections are kept."""
    database.write(insert(3))
    seen = []
    threads = [
        threading.Thread(target=lambda: seen.append(numbers(database)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    assert seen == [[3]] * 20


def test_after_closing_everything_is_refused(database):
    """With the store's own error, and closing twice does no harm."""
    last = database.submit(insert(1))
    database.close()
    database.close()
    last.result(TIMEOUT_SECONDS)
    with pytest.raises(StoreError):
        database.write(insert(2))
    with pytest.raises(StoreError):
        database.read("SELECT x FROM t")


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path):
    """One sentence of the family that callers expect."""
    (tmp_path / "catalogue.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Database(tmp_path / "catalogue.sqlite")


@pytest.fixture
def backup(database):
    """Another program's connection, which locks the file."""
    other = sqlite3.connect(
        database.path, isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_work_outlasts_the_lock_of_another_program(database, backup):
    waiting = [database.submit(insert(number)) for number in range(3)]
    threading.Timer(1.5, backup.execute, ["ROLLBACK"]).start()
    for future in waiting:
        future.result(TIMEOUT_SECONDS)
    assert numbers(database) == [0, 1, 2]


def test_work_that_has_waited_too_long_says_why_and_holds_up_nothing(
    database, backup, monkeypatch
):
    monkeypatch.setattr("transfer.store.database.BUSY_SECONDS", 0.5)
    late = database.submit(insert(1))
    monkeypatch.setattr("transfer.store.database.BUSY_SECONDS", TIMEOUT_SECONDS)
    sound = database.submit(insert(2))
    with pytest.raises(StoreError, match="Another program has locked"):
        late.result(TIMEOUT_SECONDS)
    backup.execute("ROLLBACK")
    sound.result(TIMEOUT_SECONDS)
    assert numbers(database) == [2]


def test_closing_does_not_wait_for_another_program(database, backup, monkeypatch):
    monkeypatch.setattr("transfer.store.database._CLOSE_SECONDS", 0.1)
    late = database.submit(insert(1))
    database.close()
    with pytest.raises(StoreError):
        late.result(0)
