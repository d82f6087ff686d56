"""The node's tables in memory, written to the catalogue behind the event loop's back.

What the node knows (packages, follows, pins) is small and is asked for at every step,
while the file may be busy for seconds: a disk that syncs, a backup that holds the lock.
So the event loop works on a copy. The rules:

1. A statement runs at once, on tables in memory. Nothing that it does waits.
2. A transaction that changed something is queued, and the catalogue's writer thread
   repeats its statements in the same order. They must mean the same there: no
   statement depends on chance, the time or a row id.
3. `durable` ends when all that was queued within its block is on the disk. A command
   runs in one, so what it did survives a power cut; one that changes nothing waits
   for nothing.
4. What could not be written (a full disk) stays queued, in order, and is tried again.
5. Nobody else writes these tables while a mirror is open.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from transfer import StoreError
from transfer.store.database import Database

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
NOT_MIRRORED = ("transfer_", "gateway_", "sqlite_")
"""Prefixes of the tables that others own."""

Statement = tuple[str, str, Any]
"""The name of the method, the text, and the values."""


class Tables(Protocol):
    """What the owners of tables need of a connection."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement for each set of values."""

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        """Run several statements."""

    def __enter__(self) -> Any:
        """Begin a block that is committed as one transaction."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> Any:
        """Commit, or roll back after an error."""


@dataclass(slots=True)
class _Block:
    """A block whose statements are to be durable."""

    last: int = 0
    """The number of its last transaction."""


_block: ContextVar[_Block | None] = ContextVar("block", default=None)


@contextlib.contextmanager
def not_awaited() -> Iterator[None]:
    """Let what is written within this block be no part of what `durable` waits for.

    It is good to know and can be lost: a full disk fails no command for it.
    """
    token = _block.set(None)
    try:
        yield
    finally:
        _block.reset(token)


class Mirror:
    """Tables in memory, in place of a connection; used on one event loop."""

    def __init__(self, database: Database) -> None:
        """Copy the tables; this blocks and belongs before the loop serves anybody."""
        self._database = database
        self._memory = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False
        )
        self._memory.execute("PRAGMA foreign_keys = OFF")
        _copy(database.path, self._memory)
        self._memory.execute("PRAGMA foreign_keys = ON")
        self._pending: list[Statement] = []
        self._queue: deque[list[Statement]] = deque()
        self._queued = self._written = 0
        """How many transactions were queued, and are on the disk, since the start."""
        self._writing: asyncio.Future[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self.failure: StoreError | None = None
        """Why the catalogue cannot be written now, or None."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement in memory, and queue it if it changes something."""
        cursor = self._memory.execute(sql, parameters)
        self._record(("execute", sql, parameters))
        return cursor

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> sqlite3.Cursor:
        """Run one statement for each set of values."""
        values = list(parameters)
        cursor = self._memory.executemany(sql, values)
        self._record(("executemany", sql, values))
        return cursor

    def executescript(self, script: str, /) -> sqlite3.Cursor:
        """Run several statements; none of them may begin a transaction."""
        cursor = self._memory.executescript(script)
        for sql in _statements(script):
            self._record(("execute", sql, ()))
        return cursor

    def __enter__(self) -> Self:
        """Begin a block that is committed as one transaction."""
        self._memory.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """Commit in memory and queue the transaction, or roll back after an error."""
        self._memory.__exit__(kind, error, trace)
        if kind is not None:
            self._pending.clear()
        self._queue_pending()

    @contextlib.asynccontextmanager
    async def durable(self) -> AsyncIterator[None]:
        """Wait, after the block, for what was executed within it; raise StoreError."""
        block = _Block()
        token = _block.set(block)
        try:
            yield
        finally:
            _block.reset(token)
        await self._flush(block.last)

    async def _flush(self, last: int) -> None:
        while self._written < last:
            self._write_soon()
            if self._writing is not None:
                await asyncio.wait([self._writing])
            await asyncio.sleep(0)  # for its callback
            if self.failure is not None:
                raise self.failure

    async def close(self) -> None:
        """Write what is queued, as far as the disk allows."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        try:
            self.failure = None
            await self._flush(self._queued)
        except StoreError as error:
            log.warning("what was learned last could not be kept: %s", error)
        self._memory.close()

    def _record(self, statement: Statement) -> None:
        word = statement[1].split(None, 1)[0].upper()
        if word in ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER"):
            self._pending.append(statement)
        elif word == "ROLLBACK":
            self._pending.clear()
        if not self._memory.in_transaction:
            self._queue_pending()

    def _queue_pending(self) -> None:
        if self._pending:
            self._queue.append(self._pending)
            self._pending = []
            self._queued += 1
            if (block := _block.get()) is not None:
                block.last = self._queued
            self._write_soon()

    def _write_soon(self) -> None:
        """Have the writer repeat the queue, unless it is doing that."""
        if self._writing is not None or not self._queue:
            return
        batch = list(self._queue)
        work = functools.partial(_repeat, batch)
        self._writing = asyncio.wrap_future(self._database.submit(work))
        self._writing.add_done_callback(functools.partial(self._repeated, len(batch)))

    def _repeated(self, count: int, future: asyncio.Future[None]) -> None:
        self._writing = None
        error = None if future.cancelled() else future.exception()
        if error is None:
            for _ in range(count):
                self._queue.popleft()
            self._written += count
            if self.failure is not None:
                log.warning("the catalogue can be written again")
            self.failure = None
            self._write_soon()
            return
        if self.failure is None:
            log.error("the catalogue cannot be written: %s", error)
        self.failure = (
            error if isinstance(error, StoreError) else StoreError(str(error))
        )
        if self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._write_soon()


def _repeat(batch: Sequence[list[Statement]], connection: sqlite3.Connection) -> None:
    for transaction in batch:
        for method, sql, values in transaction:
            getattr(connection, method)(sql, values)


def _copy(path: Path, memory: sqlite3.Connection) -> None:
    """Copy all tables and indexes of a file that are the node's own."""
    memory.execute("ATTACH DATABASE ? AS disk", (str(path),))
    rows = memory.execute(
        "SELECT type, name, tbl_name, sql FROM disk.sqlite_master"
        " WHERE sql IS NOT NULL ORDER BY type DESC"  # tables before indexes
    ).fetchall()
    own = [row for row in rows if not row[2].startswith(NOT_MIRRORED)]
    for kind, name, _, sql in own:
        if kind == "table":
            memory.execute(sql)
            memory.execute(f'INSERT INTO main."{name}" SELECT * FROM disk."{name}"')  # noqa: S608
    for kind, _, _, sql in own:
        if kind != "table":
            memory.execute(sql)
    memory.execute("DETACH DATABASE disk")


def _statements(script: str) -> list[str]:
    """Split a script where SQLite would."""
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current.strip())
            current = ""
    return [one for one in found if one]
