"""The catalogue file: one thread writes it, and no event loop waits for it.

The rules, for the store's index and for every other user of the file:

1. One connection writes, in a thread of its own. SQLite lets one writer in at a
   time; with one connection no thread of this process ever waits for its lock, and
   when another process holds it (a backup), the writer alone waits. A piece of work
   fails when it has waited for `BUSY_SECONDS`, and what came later goes on waiting.
2. Work runs in the order in which it was submitted. What is queued at one moment
   shares a transaction, each piece in a savepoint: a piece that fails is undone
   alone, and a hundred small pieces cost one sync of the disk.
3. A future is resolved after the commit: what has returned is on the disk.
4. Readers have connections of their own. With a write-ahead log they wait for no
   writer, and they see every piece of work whose future is resolved.
5. `write` and `read` block. An event loop declares its thread with
   `forbid_this_thread`; there they raise RuntimeError, and it awaits the futures of
   `submit` and `submit_read` instead.
6. Work neither begins nor ends a transaction, and waits for nothing: not for a
   lock, not for a loop, not for other work.
"""

from __future__ import annotations

import contextlib
import math
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from transfer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_SECONDS = 60.0
"""How long work waits for a lock that another process holds."""
_TRY_SECONDS = 1.0
_CLOSE_SECONDS = 10.0
_BATCH_MAX = 256
_READERS = 3
_LOG_BYTES_MAX = 4 * 1024 * 1024


class Database:
    """One SQLite file with a write-ahead log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        self._close_until = math.inf
        self._forbidden: int | None = None
        self._jobs: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._read_pool = ThreadPoolExecutor(1, "caravan-database-read")
        with self._errors():
            self._connection = self._connect()
            tries = int(1000 * _TRY_SECONDS)
            self._connection.execute(f"PRAGMA busy_timeout = {tries}")
            for _ in range(_READERS):
                self._readers.put(self._connect())
        self._thread = threading.Thread(
            target=self._run, name="caravan-database", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Finish the work that is queued and close; twice does no harm."""
        if self._closed:
            return
        self._closed = True
        self._close_until = time.monotonic() + _CLOSE_SECONDS
        self._jobs.put(None)
        self._thread.join()
        self._read_pool.shutdown()
        self._connection.close()
        for _ in range(_READERS):
            self._readers.get().close()

    def forbid_this_thread(self) -> None:
        """Raise RuntimeError for blocking calls in this thread from now on."""
        self._forbidden = threading.get_ident()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Queue work for the writer; the future is resolved after its commit.

        It raises StoreError if the file cannot be written.
        """
        job = _Job(work)
        if self._closed:
            job.future.set_exception(StoreError("The catalogue is closed."))
        else:
            self._jobs.put(job)
        return job.future

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work in the writer and wait for its commit; raise StoreError."""
        self._refuse_loop()
        return self.submit(work).result()

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """Return all rows of a query; raise StoreError."""
        self._refuse_loop()
        with self._errors(), self._reader() as connection:
            return connection.execute(query, values).fetchall()

    def submit_read(self, read: Callable[[], T]) -> Future[T]:
        """Call what reads in a thread that does nothing else.

        The future raises what `read` raises.
        """
        return self._read_pool.submit(read)

    def _refuse_loop(self) -> None:
        if threading.get_ident() == self._forbidden:
            raise RuntimeError("a database call would block the event loop")

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise sqlite3.ProgrammingError("it is closed")
        connection = self._readers.get()
        try:
            yield connection
        finally:
            self._readers.put(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # A log that once grew long gives its room back.
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES_MAX}")
            connection.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._described(error) from error

    def _described(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error):
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                return StoreError(
                    f"Another program has locked the catalogue {self.path} for a"
                    " minute: end it, or wait until it has ended, and try again."
                )
            return StoreError(f"The catalogue {self.path} failed: {error}.")
        return error

    # The writer's thread.

    def _run(self) -> None:
        over = False
        while not over and (job := self._jobs.get()) is not None:
            batch = [job]
            while len(batch) < _BATCH_MAX and not self._jobs.empty():
                another = self._jobs.get()
                if another is None:
                    over = True
                    break
                batch.append(another)
            self._commit(batch)

    def _commit(self, batch: list[_Job[Any]]) -> None:
        """Run a batch in one transaction, and resolve its futures after that."""
        connection = self._connection
        try:
            if not (batch := self._begin(batch)):
                return
            for job in batch:
                job.run(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 (each caller gets it)
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for job in batch:
                job.fail(error)
        for job in batch:
            job.resolve(self._described)

    def _begin(self, batch: list[_Job[Any]]) -> list[_Job[Any]]:
        """Begin a transaction; return the jobs that have not waited for it too long.

        Without any there is no transaction.
        """
        while batch:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                now = time.monotonic()
                late = [
                    job for job in batch if min(job.until, self._close_until) <= now
                ]
                for job in late:
                    job.fail(error)
                    job.resolve(self._described)
                batch = [job for job in batch if job not in late]
            else:
                return batch
        return []


class _Job(Generic[T]):
    """One piece of work, and its outcome once it ran."""

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.future: Future[T] = Future()
        self.until = time.monotonic() + BUSY_SECONDS
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        """Run in a savepoint; what fails is undone and does not fail the others.

        Raises only if SQLite has given up the whole transaction.
        """
        connection.execute("SAVEPOINT job")
        try:
            self._result = self._work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO job")
            self.fail(error)
        connection.execute("RELEASE job")

    def fail(self, error: BaseException) -> None:
        """Resolve with an error instead."""
        self._error = error

    def resolve(self, describe: Callable[[BaseException], BaseException]) -> None:
        """Resolve the future, unless its caller has given up."""
        if self.future.done() or not self.future.set_running_or_notify_cancel():
            return
        if self._error is None:
            self.future.set_result(cast("T", self._result))
        else:
            self.future.set_exception(describe(self._error))
