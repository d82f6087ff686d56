"""The lines of one download: connections over which it receives chunks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transfer.assembly import Assembly
    from transfer.lane import Lane
    from transfer.peers import Peer
    from transfer.receive import Line


class Lines:
    """Wakes and ends the conversations that have a lane in the schedule."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._events: dict[Line, asyncio.Event] = {}
        self._tasks: dict[Line, asyncio.Task[Any]] = {}

    def __len__(self) -> int:
        return len(self._events)

    def add(self, line: Line) -> asyncio.Event:
        """Take in the line of the running task; the event wakes it when it rests."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A conversation runs in a task.")
        self._events[line], self._tasks[line] = asyncio.Event(), task
        return self._events[line]

    def remove(self, line: Line) -> None:
        """Forget a line that has ended."""
        del self._events[line], self._tasks[line]

    def wake_idle(self) -> None:
        """Wake whoever has something to ask again."""
        now = time.monotonic()
        with self._assembly.lock:
            for line, event in self._events.items():
                if self._assembly.schedule.has_work(line.lane, now):
                    event.set()

    def peers(self, lanes: Iterable[Lane]) -> set[Peer]:
        """Return the peers at the other ends of these lanes."""
        wanted = set(lanes)
        return {line.connection.peer for line in self._events if line.lane in wanted}

    def abort(self, lanes: Iterable[Lane]) -> None:
        """End the connections of these lanes."""
        closing = set(lanes)
        for line in self._events:
            if line.lane in closing:
                line.connection.channel.abort()

    def end(self, *, gently: bool) -> set[asyncio.Task[Any]]:
        """End all lines; return the tasks that will leave theirs in order.

        Gently, a line on which nothing is owed is not aborted but kept for later.
        """
        graceful = set()
        for line, event in self._events.items():
            if gently and not line.lane.asked:
                graceful.add(self._tasks[line])
                event.set()
            else:
                line.connection.channel.abort()
        return graceful
