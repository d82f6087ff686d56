"""Single flight: callers that want the same at the same time share one run.

1. The first caller for a key starts the work in a task; later ones join it. A caller
   that is cancelled takes only itself out.
2. The run is cancelled with the last of its callers, or `linger` seconds after that
   where its work is worth keeping a while.
3. Two runs for one key never overlap. A caller that comes while a cancelled run is
   still ending starts a new one, which begins once the old one has cleaned up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from transfer.errors import ClosedError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

Work = Callable[[], Coroutine[Any, Any, T]]


class Flight(Generic[T]):
    """One run, with the number of its callers. `SingleFlight` makes them."""

    def __init__(self, task: asyncio.Task[T], linger: float) -> None:
        self.task = task
        self.callers = 0
        self.linger = linger
        """Seconds that the run goes on without callers."""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self.task.done()

    def join(self) -> None:
        """Count one more caller; it calls `leave` once, however it ends."""
        self.callers += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def leave(self) -> None:
        """Count one caller less; the last one ends the run."""
        self.callers -= 1
        if self.callers or self.task.done():
            return
        if self.linger > 0:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.linger, self.task.cancel)
        else:
            self.task.cancel()

    async def leave_and_wait(self) -> None:
        """Leave, and return only when a run that this cancels has ended."""
        self.leave()
        if self.task.cancelling() and not self.task.done():
            await asyncio.wait([self.task])

    async def result(self) -> T:
        """Return what the run returns, or raise what it raises.

        Raises ClosedError where the run was cancelled and this caller was not.
        """
        if not self.task.done():
            await asyncio.wait([self.task])
        if self.task.cancelled():
            raise ClosedError
        return self.task.result()


class SingleFlight(Generic[K, T]):
    """All runs of one kind of work, by what tells two of them apart."""

    def __init__(self, *, linger: float = 0.0) -> None:
        self._linger = linger
        self._flights: dict[K, Flight[T]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: K) -> bool:
        return self.get(key) is not None

    def get(self, key: K) -> Flight[T] | None:
        """Return the run that a new caller would join, or None."""
        flight = self._flights.get(key)
        if flight is None or flight.done:
            return None
        # A task that was asked to end takes a while, and gives no result any more.
        return None if flight.task.cancelling() else flight

    async def run(self, key: K, work: Work[T]) -> T:
        """Return the result of the run for `key`, started with `work` if there is none.

        Raises what it raises, or ClosedError. A cancelled caller that was the last
        one returns only when the run has ended.
        """
        flight = self.join(key, work)
        try:
            return await flight.result()
        finally:
            await flight.leave_and_wait()

    def join(self, key: K, work: Work[T]) -> Flight[T]:
        """Return the run for `key` with the caller counted in; it must `leave`.

        Raises ClosedError after `close`.
        """
        if self._closed:
            raise ClosedError
        flight = self.get(key)
        if flight is None:
            flight = self._start(key, work)
        flight.join()
        return flight

    async def close(self) -> None:
        """Cancel every run, wait for their ends and start no more."""
        self._closed = True
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: K, work: Work[T]) -> Flight[T]:
        ending = self._flights.get(key)
        task = asyncio.get_running_loop().create_task(
            work() if ending is None else _after(ending.task, work)
        )
        flight = self._flights[key] = Flight(task, self._linger)
        task.add_done_callback(lambda _: self._ended(key, flight))
        return flight

    def _ended(self, key: K, flight: Flight[T]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.task.cancelled():
            flight.task.exception()  # seen, also where no caller is left to see it


async def _after(ending: asyncio.Task[T], work: Work[T]) -> T:
    await asyncio.wait([ending])
    return await work()
