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
from dataclasses import dataclass, field
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
from transfer.limits import KEPT_BYTES_MIN

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
_BROKEN_MAX = 5  # tries in a row, 12 s in all
_LATELY_SECONDS = 1.0
_SHARE_FACTOR = 4
_FAST_BYTES_PER_SECOND = 1e6


class Owner(Protocol):
    """What a swarm needs of its download."""

    async def admit(self, manifest: Manifest) -> None:
        """Work on a manifest from now on; raise FalseManifestError or StoreError."""

    async def commit_whole(self, peer: Peer, data: bytes) -> None:
        """Commit a small artifact that was verified; raise StoreError."""

    def deserted(self) -> None:
        """Learn that nobody is left who could send anything."""

    def failed(self, error: BaseException) -> None:
        """Learn of an error that ends the download."""


@dataclass(slots=True, eq=False)
class ActivePeer:
    """A peer that takes part in the assembly."""

    connection: Connection
    state: PeerState
    task: asyncio.Task[Any] | None
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    is_surplus: bool = False
    """Whether it was ended because the line cannot feed so many."""

    @property
    def peer(self) -> Peer:
        """Where it is."""
        return self.connection.peer


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
        self._active: set[ActivePeer] = set()
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
        self._bytes_of_use: Counter[Peer] = Counter()
        self._broken: Counter[Peer] = Counter()
        """Tries in a row that were of no use."""
        """Bytes that peers gave, and those of chunks that broke off and are kept."""
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
                one.connection.channel.abort()

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
        # A busy peer still counts as expected here, so there is a download for it also
        # if nobody else is left; for one that had nothing there may be none.
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
        # In this order: nobody is left only if nobody takes the place of this one.
        self._start_more()
        self._check()

    def given_so_far(self) -> Counter[Peer]:
        """Return what each peer gave, those that still send included, in bytes."""
        given = Counter(self.bytes_given)
        for one in self._active:
            given[one.peer] += one.state.bytes_given
        return given

    async def _attempt(self, peer: Peer) -> None:
        """Converse with a peer, again for as long as it is of use before it fails."""
        while peer not in self._banned:
            before = self._bytes_of_use[peer]
            if await self._try(peer):
                return
            if self._bytes_of_use[peer] < before + KEPT_BYTES_MIN:
                self._broke_off(peer)
                return
            self._broken.pop(peer, None)
            await asyncio.sleep(_RETRY_SECONDS)

    def _broke_off(self, peer: Peer) -> None:
        """Leave a peer alone that was of no use; one that was before has some tries.

        A line that breaks may do so in the middle of a handshake, or be down for some
        seconds, and its peer may be the only one.
        """
        self._broken[peer] += 1
        broken = self._broken[peer]
        if self._bytes_of_use[peer] < KEPT_BYTES_MIN or broken > _BROKEN_MAX:
            self._context.backoff.start(peer)
        else:
            self._later(peer, _RETRY_SECONDS * 2**broken, busy=True)

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
            in_order = await self._talk(connection, conversation)
        except BadChunkError as bad:
            connections.complain(connection, bad.number, bad.index)
            raise
        except (AbsentError, PeerBusyError):
            connections.release(connection)
            raise
        except BaseException:
            connection.channel.close()
            raise
        if in_order:
            connections.release(connection)
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

    async def _talk(self, connection: Connection, peer: PeerConnection) -> bool:
        """Say all that is to be said; whether the connection is left in order."""
        if (data := await self._ask_whole(peer)) is not None:
            await self._owner.commit_whole(connection.peer, data)
            return True
        while (manifest := await peer.negotiate(self._assembly.manifest)) is None:
            self._assembly.meet_leechers()
            await self._wait_for_manifest()
        await self._owner.admit(manifest)
        # Others may have found out meanwhile what it is; it was not active then, so
        # nobody ended its connection.
        if connection.peer in self._banned:
            raise PeerRefusedError("It lied about this.")
        one = ActivePeer(connection, peer.join(), asyncio.current_task())
        if not one.state.whole:
            self._assembly.meet_leechers()
        self._active.add(one)
        try:
            await self._exchange(one, peer)
            in_order = not one.state.asked
        except (PeerError, OSError) as error:
            if one.is_surplus:
                raise PeerSlowError from error
            raise
        finally:
            # It leaves before others are woken: what it owed is theirs to ask for.
            self._active.discard(one)
            self._assembly.leave(one.state)
            self.bytes_given[one.peer] += one.state.bytes_given
            used = one.state.bytes_given + one.state.bytes_kept
            self._bytes_of_use[one.peer] += used
            self.wake_idle()
        if in_order:
            await peer.done()
        return in_order

    async def _exchange(self, one: ActivePeer, peer: PeerConnection) -> None:
        """Receive chunks until nothing more is wanted."""
        over = self._assembly.over
        while not over.is_set():
            outcome = await self._context.in_thread(peer.receive, over)
            if outcome is Outcome.OVER:
                return
            # Cleared before the look: who wakes us after it is heard by `pause`.
            one.woken.clear()
            if not over.is_set() and not self._assembly.with_work([one.state]):
                await peer.pause(one.woken)

    async def _ask_whole(self, peer: PeerConnection) -> bytes | None:
        """Ask one peer at a time for the whole, while it may be small."""
        if (
            self._asks_whole
            or not self._wanted.may_be_small
            or self._assembly.manifest is not None
        ):
            return None
        # One at a time: were it small, the others' copies would be for nothing. They
        # ask for chunks instead, in case it is not.
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

    def lead_changed(self, manifest: Manifest | None) -> None:
        """Learn which manifest leads; leechers that wait for one are asked then."""
        if manifest is None:
            self._has_manifest.clear()
        else:
            self._has_manifest.set()
            self.wake_idle()

    # Who is connected.

    def wake_idle(self) -> None:
        """Wake the conversations that have something to ask again."""
        woken = {one.state: one.woken for one in self._active}
        for state in self._assembly.with_work(woken):
            woken[state].set()

    def abort(self, states: Iterable[PeerState]) -> None:
        """End the connections that these belong to."""
        closing = set(states)
        for one in self._active:
            if one.state in closing:
                one.connection.channel.abort()

    def tend(self, now: float, done: int) -> None:
        """Every tick: wake idle peers, help a lone one, heed the speed of the line."""
        self.wake_idle()
        lately = [
            one
            for one in self._active
            if now - one.state.last_arrival < _LATELY_SECONDS
        ]
        if len(lately) == 1 and done >= self._limits.second_connection_bytes_min:
            self._help(lately[0].state)
        sending = [one for one in self._active if one.state.asked]
        self._cap.judge(now, self._assembly.bytes_received, len(sending))
        surplus = len(sending) - self._cap.value
        if surplus > 0:
            sending.sort(key=lambda one: one.state.last_bytes)
            for one in sending[:surplus]:
                # Before the abort: the thread that fails by it looks at this.
                one.is_surplus = True
                one.connection.channel.abort()
        self._start_more()  # a line that got faster feeds more

    def _first_chunk_in_thread(self, state: PeerState) -> None:
        self._loop.call_soon_threadsafe(self._first_chunk, state)

    def _first_chunk(self, state: PeerState) -> None:
        """Use a lone peer over two connections, so that two threads hash."""
        if (
            len(self._active) < self._limits.connections_per_lone_peer
            and state.manifest.size >= self._limits.second_connection_bytes_min
            and not self._has_queue
            and self._conversing == len(self._active)
        ):
            self._help(state)

    def _help(self, state: PeerState) -> None:
        """Open a second connection to the only peer that sends, if it is fast."""
        if self._helped or self._ended or not state.whole or not state.chunk_seconds:
            return
        if state.manifest.chunk_size / state.chunk_seconds >= _FAST_BYTES_PER_SECOND:
            self._helped = True
            for one in self._active:
                if one.state is state:
                    self._start(one.peer)
                    break

    # The end.

    async def end(self, *, gently: bool) -> None:
        """Cancel everything and wait; gently, keep connections that owe nothing."""
        # First of all: tasks that end from here on must not start others.
        self._ended = True
        for timer in self._timers:
            timer.cancel()
        for queue in (self._queue, self._backing_off, self._hints):
            queue.clear()
        graceful: set[asyncio.Task[Any]] = set()
        for one in self._active:
            # One that owes nothing says `done` and is kept for the next download. A
            # thread that waits for bytes is woken by nothing but the abort.
            if gently and one.task is not None and not one.state.asked:
                graceful.add(one.task)
                one.woken.set()
            else:
                one.connection.channel.abort()
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
