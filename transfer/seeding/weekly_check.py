"""The weekly check: what is served for long is hashed again, in the background."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from transfer.content.hashing import lower_priority
from transfer.errors import ClosedError

if TYPE_CHECKING:
    import threading

    from transfer.store.store import Store

log = logging.getLogger(__name__)


class WeeklyCheck:
    """Checks, one by one, the artifacts that were not checked for a week."""

    def __init__(self, store: Store, stop: threading.Event) -> None:
        self._store = store
        self._stop = stop
        self._pool = ThreadPoolExecutor(1, "caravan-check")

    async def run(self, seconds: float) -> None:
        """Look every so many seconds for what is due, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(seconds)
            # A check that has begun ends by `stop`: its thread cannot be cancelled.
            work = loop.run_in_executor(self._pool, self._check_due)
            try:
                await asyncio.shield(work)
            except Exception as error:  # noqa: BLE001 (the next look comes)
                log.warning("the weekly check failed: %s", error)

    def close(self) -> None:
        """Wait for its thread, after `stop` was set."""
        self._pool.shutdown()

    def _check_due(self) -> None:
        lower_priority()
        while (due := self._store.due_for_check()) is not None:
            self._store.check(due, self._heed_stop)

    def _heed_stop(self, done: int, total: int | None) -> None:
        del done, total
        if self._stop.is_set():
            raise ClosedError
