"""The peers of one download: they come one by one, and some are slow to open.

So many connections are opened at once as the limits say; one that is late
gives its place to the next, so that silent peers do not hold up the others.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable

    from transfer.connection.peer import Peer
    from transfer.limits import LeecherLimits

_GRACE_SECONDS = 0.5


class PeerQueue:
    """Runs one conversation per peer until nobody is left."""

    def __init__(
        self,
        limits: LeecherLimits,
        attend: Callable[[Peer], Awaitable[None]],
        deserted: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._limits = limits
        self._attend = attend
        self._deserted = deserted
        self._failed = failed
        self._known: set[Peer] = set()
        self._queue: deque[Peer] = deque()
        self._hints: deque[Peer] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[None]] = set()
        """Conversations that are about to open a connection."""
        self._tries: dict[Peer, int] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._ended = False
        self._gathering = self._attending = self._openings = self._hinted = 0
        self.met_at = time.monotonic()
        """When the last new peer came."""

    @property
    def gathering(self) -> bool:
        """Whether more peers may still come."""
        return self._gathering > 0

    @property
    def attending(self) -> int:
        """How many conversations are under way."""
        return self._attending

    @property
    def has_queue(self) -> bool:
        """Whether peers wait for their turn."""
        return bool(self._queue or self._hints)

    @property
    def is_deserted(self) -> bool:
        """Whether nobody is left and nobody will come."""
        return not (self._gathering or self._attending or self.has_queue)

    def add(self, peers: Iterable[Peer] | AsyncIterator[Peer]) -> None:
        """Use these peers as well, as they come."""
        self._gathering += 1
        self.spawn(self._gather(peers))

    def hint(self, peers: Iterable[Peer]) -> None:
        """Use these as well, as far as there is room beside those that were found.

        They are known from another peer's word alone, which may have made them up.
        """
        for peer in peers:
            if peer not in self._known and not self._ended:
                self._known.add(peer)
                self._hints.append(peer)
        self._attend_more()

    def again(self, peer: Peer) -> None:
        """Open one more connection to a peer that is attended already."""
        self._start(peer)

    def later(self, peer: Peer) -> None:
        """Attend to a peer once more after a while, if there is still a download.

        It did not have this, and may be about to download it as well. Nobody
        waits for it: without others the download ends.
        """
        tries = self._tries[peer] = self._tries.get(peer, 0) + 1
        if tries <= self._limits.absent_tries_max and not self._ended:
            delay = self._limits.absent_seconds * 2 ** (tries - 1)
            timer = asyncio.get_running_loop().call_later(delay, self._return_to, peer)
            self._timers.add(timer)

    def _return_to(self, peer: Peer) -> None:
        if not self._ended and not self.is_deserted:
            self._queue.append(peer)
            self._attend_more()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task that ends with the download, and fails it when it fails."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    async def end(self, graceful: Iterable[asyncio.Task[Any]]) -> None:
        """Cancel everything, the graceful tasks a moment later, and wait."""
        self._ended = True
        for timer in self._timers:
            timer.cancel()
        self._queue.clear()
        self._hints.clear()
        spared = set(graceful)
        tasks = list(self._tasks)
        for task in tasks:
            if task not in spared:
                task.cancel()
        if spared:
            await asyncio.wait(spared, timeout=_GRACE_SECONDS)
        for task in spared:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def opening(self, opened: Awaitable[Any]) -> Any:
        """Await an opening; while it is in time, it counts against the limit."""
        holds_place = True
        self._openings += 1
        self._has_started()

        def give_place() -> None:
            nonlocal holds_place
            if holds_place:
                holds_place = False
                self._openings -= 1
                self._attend_more()

        late = asyncio.get_running_loop().call_later(
            self._limits.opening_soft_seconds, give_place
        )
        try:
            return await opened
        finally:
            late.cancel()
            give_place()

    async def _gather(self, peers: Iterable[Peer] | AsyncIterator[Peer]) -> None:
        try:
            if hasattr(peers, "__aiter__"):
                async for peer in peers:
                    self._meet(peer)
            else:
                for peer in peers:
                    self._meet(peer)
        finally:
            self._gathering -= 1
        self._check()

    def _meet(self, peer: Peer) -> None:
        if peer not in self._known:
            self._known.add(peer)
            self.met_at = time.monotonic()
            self._queue.append(peer)
            self._attend_more()

    def _attend_more(self) -> None:
        while (
            self._openings + len(self._starting) < self._limits.openings_max
            and self._attending < self._limits.connections_max
        ):
            if self._queue:
                self._start(self._queue.popleft())
            elif self._hints and self._hinted < self._limits.pex_connections_max:
                self._start(self._hints.popleft(), hinted=True)
            else:
                return

    def _start(self, peer: Peer, *, hinted: bool = False) -> None:
        self._attending += 1
        self._hinted += hinted
        self._starting.add(self.spawn(self._run(peer, hinted=hinted)))

    async def _run(self, peer: Peer, *, hinted: bool) -> None:
        try:
            await self._attend(peer)
        finally:
            self._attending -= 1
            self._hinted -= hinted
            self._has_started()
        self._attend_more()
        self._check()

    def _has_started(self) -> None:
        """Learn that the running conversation is no longer about to open."""
        if (task := asyncio.current_task()) is not None:
            self._starting.discard(task)

    def _check(self) -> None:
        if self.is_deserted:
            self._deserted()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
