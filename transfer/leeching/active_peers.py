"""The lines of one download: connections over which it receives chunks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transfer.connection.peer import Peer
    from transfer.leeching.assembly import Assembly
    from transfer.leeching.chunk_receiver import PeerRequest
    from transfer.leeching.peer_state import PeerState

_LATELY_SECONDS = 1.0


class ActivePeers:
    """Wakes and ends the conversations that have a lane in the schedule."""

    def __init__(self, assembly: Assembly) -> None:
        self._assembly = assembly
        self._events: dict[PeerRequest, asyncio.Event] = {}
        self._tasks: dict[PeerRequest, asyncio.Task[Any]] = {}

    def __len__(self) -> int:
        return len(self._events)

    def add(self, line: PeerRequest) -> None:
        """Take in the line of the running task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A conversation runs in a task.")
        self._events[line], self._tasks[line] = asyncio.Event(), task

    async def pause(self, line: PeerRequest) -> None:
        """Wait until the peer says something or there is something to ask."""
        event, channel = self._events[line], line.connection.channel
        event.clear()
        if self._assembly.over.is_set():
            return  # its end may have set the event while the thread worked
        with self._assembly.lock:
            if self._assembly.schedule.has_work(line.lane, time.monotonic()):
                return
        readable = asyncio.create_task(channel.wait_readable())
        woken = asyncio.create_task(event.wait())
        try:
            await asyncio.wait((readable, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            readable.cancel()
            woken.cancel()
            await asyncio.gather(readable, woken, return_exceptions=True)
        if readable.done() and not line.lane.asked and not event.is_set():
            await self._assembly.reception().hear(line)

    def remove(self, line: PeerRequest) -> None:
        """Forget a line that has ended."""
        del self._events[line], self._tasks[line]

    def wake_idle(self) -> None:
        """Wake whoever has something to ask again."""
        now = time.monotonic()
        with self._assembly.lock:
            for line, event in self._events.items():
                if self._assembly.schedule.has_work(line.lane, now):
                    event.set()

    def lone_giver(self, now: float) -> PeerRequest | None:
        """Return the line over which alone chunks come, though others are there."""
        giving = [
            line
            for line in self._events
            if now - line.lane.last_arrival < _LATELY_SECONDS
        ]
        return giving[0] if len(giving) == 1 else None

    def peers(self, lanes: Iterable[PeerState]) -> set[Peer]:
        """Return the peers at the other ends of these lanes."""
        wanted = set(lanes)
        return {line.connection.peer for line in self._events if line.lane in wanted}

    def abort(self, lanes: Iterable[PeerState]) -> None:
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
