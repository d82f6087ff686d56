"""Committing small artifacts in groups: files synced, then one transaction for all.

While one group is on its way to the disk the next one gathers, so a lone artifact
waits for nobody and a thousand of them need few transactions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from transfer.errors import ClosedError, StoreError
from transfer.limits import GROUP_ARTIFACTS_MAX

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from transfer.content.artifact import Artifact
    from transfer.content.hashing import Contents
    from transfer.store.store import Store

Entry = tuple[bytes, "Contents"]


class GroupCommitter:
    """Brings verified bytes into a store, many at once."""

    def __init__(self, store: Store, pool: Executor) -> None:
        self._store = store
        self._pool = pool
        self._queue: list[tuple[Entry, asyncio.Future[Artifact]]] = []
        self._task: asyncio.Task[None] | None = None

    async def add(self, data: bytes, contents: Contents) -> Artifact:
        """Return once these bytes are an artifact; raises StoreError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Artifact] = loop.create_future()
        self._queue.append(((data, contents), future))
        if self._task is None:
            self._task = loop.create_task(self._commit_all())
        return await future

    async def close(self) -> None:
        """Let the group under way end; who still waits gets ClosedError."""
        left, self._queue = self._queue, []
        for _, future in left:
            if not future.done():
                future.set_exception(ClosedError())
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                group = self._queue[:GROUP_ARTIFACTS_MAX]
                del self._queue[: len(group)]
                entries = [entry for entry, _ in group]
                results = await loop.run_in_executor(self._pool, self._commit, entries)
                for (_, future), result in zip(group, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, StoreError):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None

    def _commit(self, entries: list[Entry]) -> list[Artifact | StoreError]:
        try:
            return list(self._store.add_group(entries))
        except StoreError as error:
            # A disk may have room for some of them; and each gets its own error.
            return [error] if len(entries) == 1 else self._one_by_one(entries)

    def _one_by_one(self, entries: list[Entry]) -> list[Artifact | StoreError]:
        return [result for one in entries for result in self._commit([one])]
