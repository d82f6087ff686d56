"""Tasks that nobody waits for at once, each owned, logged and ended with the node."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
RETRY_SECONDS_MAX = 600.0


@dataclass(frozen=True, slots=True)
class Failing:
    """A loop whose last rounds failed."""

    name: str
    times: int
    """So many rounds in a row."""
    since: float
    """Seconds since the epoch (UTC)."""
    error: str


class Background:
    """An owner of tasks; `close` cancels what is still under way and awaits it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._failing: dict[str, Failing] = {}

    @property
    def failing(self) -> list[Failing]:
        """The loops whose last round failed, by name."""
        return [self._failing[name] for name in sorted(self._failing)]

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work`; a failure of it is logged, with `name`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if self._closed:
            task.cancel()
        return task

    def repeat(
        self, work: Callable[[], Awaitable[float]], name: str
    ) -> asyncio.Task[Any]:
        """Run `work` again and again; it returns for how many seconds to pause.

        A round that fails is logged and tried again, ever later while it goes on
        failing. It never ends the loop, and `failing` says so.
        """
        return self.start(self._rounds(work, name), name)

    def run_forever(
        self, work: Callable[[], Coroutine[Any, Any, None]], name: str
    ) -> asyncio.Task[Any]:
        """Run what goes on until it is cancelled; begin it anew where it fails.

        It counts as failing until it has run for longer than the pause before it.
        """
        return self.start(self._kept(work, name), name)

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _rounds(self, work: Callable[[], Awaitable[float]], name: str) -> None:
        retry = RETRY_SECONDS
        while True:
            try:
                pause = await work()
            except Exception as error:  # noqa: BLE001 - the next round may succeed
                self._record_failure(name, error)
                pause, retry = retry, min(2 * retry, RETRY_SECONDS_MAX)
            else:
                self._failing.pop(name, None)
                retry = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def _kept(
        self, work: Callable[[], Coroutine[Any, Any, None]], name: str
    ) -> None:
        loop, retry = asyncio.get_running_loop(), RETRY_SECONDS
        while True:
            well = loop.call_later(retry, self._failing.pop, name, None)
            began = loop.time()
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - it is begun anew
                self._record_failure(name, error)
            else:
                return
            finally:
                well.cancel()
            if loop.time() - began > retry:
                retry = RETRY_SECONDS
            await asyncio.sleep(retry)
            retry = min(2 * retry, RETRY_SECONDS_MAX)

    def _record_failure(self, name: str, error: Exception) -> None:
        before = self._failing.get(name)
        self._failing[name] = Failing(
            name,
            times=before.times + 1 if before else 1,
            since=before.since if before else time.time(),
            error=describe(error),
        )
        log.error("%s failed and is tried again", name, exc_info=error)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=error)


def describe(error: BaseException) -> str:
    """Return one line for an error: its message, or its type where it has none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = " ".join(str(error).split())
    return text or type(error).__name__
