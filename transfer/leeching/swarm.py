"""Whom to talk to: the peers of one download, from the first dial to the last chunk.

1. Peers come one by one. Those that were found are dialled before those that are
   known from peer exchange alone (BEP 11), which another peer may have made up.
2. So many connections are half open at once as the limits say; one that is late gives
   its place to the next, so that silent peers do not hold up the others.
3. A peer that lies is banned for this artifact. One that fails after it was of use is
   tried again at once, a few times; one that has nothing yet, or is busy, later; any
   other is left alone and backs off.
4. A slow line gets fewer connections: with many of them each would seem slow, and
   none would end a chunk.
5. One peer alone gets a second connection where it is fast, so that two threads hash.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Protocol

from transfer.connection.peer_exchange import PexHints
from transfer.errors import (
    AbsentError,
    BadChunkError,
    FalseManifestError,
    FullError,
    PeerBusyError,
    PeerError,
    PeerRefusedError,
    PeerSlowError,
    WireError,
)
from transfer.leeching.peer_connection import Outcome, PeerConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable

    from transfer.connection.peer import Peer
    from transfer.content.manifest import Manifest
    from transfer.leeching.assembly import Assembly
    from transfer.leeching.bans import Banned
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.picker import PeerState
    from transfer.leeching.wanted import Wanted
    from transfer.limits import LeecherLimits

log = logging.getLogger(__name__)

_GRACE_SECONDS = 0.5
_RETRY_SECONDS = 0.2
_LATELY_SECONDS = 1.0
_SHARE_FACTOR = 4
_FAST_BYTES_PER_SECOND = 1e6


class Owner(Protocol):
    """What a swarm needs of its download."""

    async def admit(self, manifest: Manifest) -> None:
        """Work on a manifest from now on; raise FalseManifestError or StoreError."""

    async def take_whole(self, peer: Peer, data: bytes) -> None:
        """Commit a small artifact that was verified; raise StoreError."""

    def deserted(self) -> None:
        """Learn that nobody is left who could send anything."""

    def failed(self, error: BaseException) -> None:
        """Learn of an error that ends the download."""


class ConnectionCap:
    """How many connections the line can feed: pure, judged once in a window."""

    def __init__(self, limits: LeecherLimits, now: float) -> None:
        self.value = limits.connections_max
        self._limits = limits
        self._since = now
        self._bytes = 0

    def judge(self, now: float, received: int, active: int) -> None:
        """Look at `received`, the bytes of all time, and how many peers send."""
        if now - self._since < self._limits.pace_window_seconds:
            return
        rate = (received - self._bytes) / (now - self._since)
        self._since, self._bytes = now, received
        fed = rate / (_SHARE_FACTOR * self._limits.bytes_per_second_min)
        if rate and active > 1 and fed < active:
            self.value = max(1, min(active - 1, int(fed)))
        elif fed > self.value:
            self.value = min(2 * self.value, self._limits.connections_max)


class Swarm:
    """Runs one conversation with each peer until nobody is left."""

    def __init__(
        self,
        *,
        context: LeecherContext,
        wanted: Wanted,
        assembly: Assembly,
        banned: Banned,
        owner: Owner,
    ) -> None:
        self._context = context
        self._limits = context.limits
        self._wanted = wanted
        self._assembly = assembly
        self._banned = banned
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        own_key = context.connections.own_key
        self._hints_heard = PexHints(self._loop, own_key, self.hint)
        self._cap = ConnectionCap(context.limits, time.monotonic())
        self._known: set[Peer] = set()
        self._queue: deque[Peer] = deque()
        self._backing_off: deque[Peer] = deque()
        self._hints: deque[Peer] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._half_open: set[asyncio.Task[None]] = set()
        """Conversations that have no connection yet and are not late."""
        self._active: dict[PeerConnection, asyncio.Event] = {}
        self._task_of: dict[PeerConnection, asyncio.Task[Any]] = {}
        self._tries: Counter[Peer] = Counter()
        self._timers: set[asyncio.TimerHandle] = set()
        self._busy: set[Peer] = set()
        self._has_manifest = asyncio.Event()
        self._ended = self._asks_whole = self._helped = False
        self._gathering = self._conversing = self._hinted = 0
        self.waiting = 0
        """Conversations with leechers that wait for somebody to name a manifest."""
        self.met_at = time.monotonic()
        """When the last new peer came."""
        self.bytes_given: Counter[Peer] = Counter()
        self.too_large: FullError | None = None
        """What is said of a manifest that could never be held."""

    @property
    def gathering(self) -> bool:
        """Whether more peers may still come."""
        return self._gathering > 0

    @property
    def conversing(self) -> int:
        """How many conversations are under way."""
        return self._conversing

    @property
    def active(self) -> int:
        """How many peers are connected and have joined."""
        return len(self._active)

    @property
    def is_busy(self) -> bool:
        """Whether peers are expected that were busy."""
        return bool(self._busy)

    @property
    def is_deserted(self) -> bool:
        """Whether nobody is left and nobody will come."""
        return not (
            self._gathering or self._conversing or self._busy or self._has_queue
        )

    @property
    def _has_queue(self) -> bool:
        return bool(self._queue or self._backing_off or self._hints)

    # Who comes.

    def add(self, peers: Iterable[Peer] | AsyncIterator[Peer]) -> None:
        """Use these peers as well, as they come."""
        self._gathering += 1
        self.spawn(self._gather(peers))

    def hint(self, peers: Iterable[Peer]) -> None:
        """Use these as well, as far as there is room beside those that were found."""
        for peer in peers:
            if peer not in self._known and not self._ended:
                self._known.add(peer)
                self._hints.append(peer)
        self._start_more()

    def ban(self, peer: Peer, why: Exception) -> None:
        """Ask a peer no more for this artifact, and end its connections."""
        self._banned.add(peer, why)
        self.heed_bans()

    def heed_bans(self) -> None:
        """End the connections to all that are banned."""
        for one in self._active:
            if one.peer in self._banned:
                one.channel.abort()

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
            late = self._context.backoff.includes(peer)
            (self._backing_off if late else self._queue).append(peer)
            self._start_more()

    def _later(self, peer: Peer, seconds: float, *, busy: bool = False) -> None:
        """Talk to a peer once more after a while, if there is still a download.

        A busy one is waited for; without others, one that has nothing is not.
        """
        if self._ended:
            return
        if busy:
            self._busy.add(peer)
        timer = self._loop.call_later(seconds, self._return_to, peer)
        self._timers.add(timer)

    def _return_to(self, peer: Peer) -> None:
        if not self._ended and not self.is_deserted:
            self._busy.discard(peer)
            self._queue.append(peer)
            self._start_more()

    # Conversations.

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a task that ends with the download, and fails it when it fails."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def again(self, peer: Peer) -> None:
        """Open one more connection to a peer."""
        self._start(peer)

    def _start_more(self) -> None:
        while (
            len(self._half_open) < self._limits.openings_max
            and self._conversing < self._cap.value
        ):
            if self._queue:
                self._start(self._queue.popleft())
            elif self._backing_off:
                self._start(self._backing_off.popleft())
            elif self._hints and self._hinted < self._limits.pex_connections_max:
                self._start(self._hints.popleft(), hinted=True)
            else:
                return

    def _start(self, peer: Peer, *, hinted: bool = False) -> None:
        self._conversing += 1
        self._hinted += hinted
        task = self.spawn(self._run(peer, hinted=hinted))
        self._half_open.add(task)
        task.add_done_callback(self._half_open.discard)

    async def _run(self, peer: Peer, *, hinted: bool) -> None:
        try:
            await self._attempt(peer)
        finally:
            self._conversing -= 1
            self._hinted -= hinted
            self._is_open()
        self._start_more()
        self._check()

    async def _attempt(self, peer: Peer) -> None:
        """Converse with a peer, again while it fails but was of use."""
        for attempt in range(self._limits.attempts_max):
            before = self.bytes_given[peer]
            if peer in self._banned or await self._try(peer):
                return
            if self.bytes_given[peer] == before:
                self._context.backoff.start(peer)
                return
            await asyncio.sleep(_RETRY_SECONDS * 2**attempt)

    async def _try(self, peer: Peer) -> bool:
        """Converse once; False if that failed and may be tried again."""
        try:
            await self._converse(peer)
        except (BadChunkError, FalseManifestError, WireError) as error:
            self.ban(peer, error)
        except AbsentError:
            self._tries[peer] += 1
            tries = self._tries[peer]
            if tries <= self._limits.absent_tries_max:
                self._later(peer, self._limits.absent_seconds * 2 ** (tries - 1))
        except PeerBusyError as busy:
            self._tries[peer] += 1
            least = self._limits.absent_seconds * 2 ** min(self._tries[peer], 6)
            self._later(peer, max(busy.seconds, least), busy=True)
        except PeerSlowError as error:
            if self._conversing <= self._cap.value:
                log.info("%s is slow for %s: %s", peer, self._wanted.digest, error)
                return False
            # The line is slow, not the peer: it has its turn when others have ended.
            self._queue.append(peer)
        except FullError as error:
            # A size that this peer alone claims decides nothing for the others.
            self.too_large = error
        except (PeerError, OSError) as error:
            log.info("%s failed for %s: %s", peer, self._wanted.digest, error)
            return False
        return True

    async def _converse(self, peer: Peer) -> None:
        connections = self._context.connections
        connection = await self._open(peer)
        self._context.backoff.end(peer)
        conversation = PeerConnection(
            connection=connection,
            wanted=self._wanted,
            context=self._context,
            assembly=self._assembly,
            on_peer_exchange=self._hints_heard.hear,
            on_first_chunk=self._first_chunk_in_thread,
        )
        try:
            in_order = await self._talk(conversation)
        except BadChunkError as bad:
            connections.complain(connection, bad.number, bad.index)
            raise
        except (AbsentError, PeerBusyError):
            connections.keep(connection)
            raise
        except BaseException as error:
            connection.channel.close()
            if conversation.is_surplus and isinstance(error, PeerError | OSError):
                raise PeerSlowError from error
            raise
        if in_order:
            connections.keep(connection)
        else:
            connection.channel.close()

    async def _open(self, peer: Peer) -> Connection:
        """Open a connection; while it is in time, it counts as half open."""
        task = asyncio.current_task()

        def is_late() -> None:
            self._half_open.discard(task)
            self._start_more()

        late = self._loop.call_later(self._limits.opening_soft_seconds, is_late)
        try:
            return await self._context.connections.open(peer)
        finally:
            late.cancel()
            self._is_open()
            self._start_more()

    async def _talk(self, peer: PeerConnection) -> bool:
        """Say all that is to be said; whether the connection is left in order."""
        if (data := await self._ask_whole(peer)) is not None:
            await self._owner.take_whole(peer.peer, data)
            return True
        while not await peer.negotiate(self._assembly.manifest):
            self._assembly.meet_leechers()
            await self._wait_for_manifest()
        if peer.manifest is not None:
            await self._owner.admit(peer.manifest)
        return await self._exchange(peer)

    async def _ask_whole(self, peer: PeerConnection) -> bytes | None:
        """Ask one peer at a time for the whole, while it may be small."""
        if (
            self._asks_whole
            or not self._wanted.may_be_small
            or self._assembly.manifest is not None
        ):
            return None
        self._asks_whole = True
        try:
            return await peer.ask_whole()
        finally:
            self._asks_whole = False

    async def _wait_for_manifest(self) -> None:
        self.waiting += 1
        try:
            await self._has_manifest.wait()
        finally:
            self.waiting -= 1

    def note_manifest(self, manifest: Manifest | None) -> None:
        """Learn which manifest leads; leechers that wait for one are asked then."""
        if manifest is None:
            self._has_manifest.clear()
        else:
            self._has_manifest.set()
            self.wake_idle()

    async def _exchange(self, peer: PeerConnection) -> bool:
        """Receive chunks until nothing more is wanted."""
        if peer.peer in self._banned:
            raise PeerRefusedError("It lied about this.")
        state = peer.join()
        if not state.whole:
            self._assembly.meet_leechers()
        woken = self._active[peer] = asyncio.Event()
        if (task := asyncio.current_task()) is not None:
            self._task_of[peer] = task
        over = self._assembly.over
        try:
            while not over.is_set():
                outcome = await self._context.in_thread(peer.receive, over)
                if outcome is Outcome.OVER:
                    break
                woken.clear()
                if not over.is_set() and not self._assembly.with_work([state]):
                    await peer.pause(woken)
            in_order = not peer.owes
        finally:
            del self._active[peer]
            self._task_of.pop(peer, None)
            self._assembly.leave(state)
            self.bytes_given[peer.peer] += state.bytes_given
            self.wake_idle()
        if in_order:
            await peer.done()
        return in_order

    # Who is connected.

    def wake_idle(self) -> None:
        """Wake the conversations that have something to ask again."""
        events = {one.state: event for one, event in self._active.items()}
        for state in self._assembly.with_work(events):
            events[state].set()

    def abort(self, states: Iterable[PeerState]) -> set[Peer]:
        """End the connections that these belong to; return their peers."""
        closing = set(states)
        ended = [one for one in self._active if one.state in closing]
        for one in ended:
            one.channel.abort()
        return {one.peer for one in ended if one.state.whole}

    def tend(self, now: float, done: int) -> None:
        """Every tick: wake idle peers, help a lone one, heed the speed of the line."""
        self.wake_idle()
        lately = [
            one
            for one in self._active
            if now - one.state.last_arrival < _LATELY_SECONDS
        ]
        if len(lately) == 1 and done >= self._limits.second_connection_bytes_min:
            self._help(lately[0])
        sending = [one for one in self._active if one.owes]
        self._cap.judge(now, self._assembly.bytes_received, len(sending))
        surplus = len(sending) - self._cap.value
        if surplus > 0:
            sending.sort(key=lambda one: one.state.last_bytes)
            for one in sending[:surplus]:
                one.is_surplus = True
                one.channel.abort()

    def _first_chunk_in_thread(self, peer: PeerConnection) -> None:
        self._loop.call_soon_threadsafe(self._first_chunk, peer)

    def _first_chunk(self, peer: PeerConnection) -> None:
        """Use a lone peer over two connections, so that two threads hash."""
        manifest = peer.state.manifest
        if (
            len(self._active) < self._limits.connections_per_lone_peer
            and manifest.size >= self._limits.second_connection_bytes_min
            and not self._has_queue
            and self._conversing == len(self._active)
        ):
            self._help(peer)

    def _help(self, peer: PeerConnection) -> None:
        """Open a second connection to the only peer that sends, if it is fast."""
        state = peer.state
        if self._helped or self._ended or not state.whole or not state.chunk_seconds:
            return
        if state.manifest.chunk_size / state.chunk_seconds >= _FAST_BYTES_PER_SECOND:
            self._helped = True
            self.again(peer.peer)

    # The end.

    async def end(self, *, gently: bool) -> None:
        """Cancel everything and wait; gently, keep connections that owe nothing."""
        self._ended = True
        for timer in self._timers:
            timer.cancel()
        for queue in (self._queue, self._backing_off, self._hints):
            queue.clear()
        graceful = set()
        for one, event in self._active.items():
            if gently and not one.owes:
                graceful.add(self._task_of[one])
                event.set()
            else:
                one.channel.abort()
        tasks = list(self._tasks)
        for task in tasks:
            if task not in graceful:
                task.cancel()
        if graceful:
            await asyncio.wait(graceful, timeout=_GRACE_SECONDS)
        for task in graceful:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_open(self) -> None:
        """Learn that the running conversation is no longer half open."""
        if (task := asyncio.current_task()) is not None:
            self._half_open.discard(task)

    def _check(self) -> None:
        if self.is_deserted:
            self._owner.deserted()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._owner.failed(error)
