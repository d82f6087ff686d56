"""One download: peers come and go until the artifact is whole.

Runs on the event loop; chunks are received in worker threads (receive.py), who
is asked for what is decided by schedule.py. A manifest is a hint until the
whole file has the digest that was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from transfer import wire
from transfer.asking import Asking
from transfer.assembly import Assembly
from transfer.digest import NAME_ALGORITHM, Digest
from transfer.errors import (
    BadChunkError,
    FalseManifestError,
    NoPeerError,
    PeerError,
    StoreError,
    WireError,
    WrongBytesError,
)
from transfer.hashing import Contents
from transfer.peers import Downloaded, Peer, Source
from transfer.receive import Line, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from transfer.asking import Offered
    from transfer.assembly import Whole
    from transfer.connect import Connection
    from transfer.index import Artifact
    from transfer.manifest import Manifest
    from transfer.prefix import PrefixHasher
    from transfer.schedule import Lane
    from transfer.workshop import Workshop

    Progress = Callable[[int, int | None], None]

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1
_RETRY_SECONDS = 0.2


class Download:
    """One artifact on its way here."""

    def __init__(
        self,
        workshop: Workshop,
        digest: Digest,
        *,
        size: int | None,
        manifest_digest: bytes | None,
    ) -> None:
        self.digest = digest
        self.progress: list[Progress] = []
        self._loop = asyncio.get_running_loop()
        self._workshop = workshop
        self._limits = workshop.limits
        self._asking = Asking(digest, size, manifest_digest, workshop.limits)
        self._assembly = Assembly(
            workshop.store,
            digest,
            workshop.limits,
            workshop.rate,
            workshop.hash_pool,
            self._hashed_in_thread,
        )
        self._outcome: asyncio.Future[Artifact] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[Peer] = set()
        self._queue: deque[Peer] = deque()
        self._gathering = self._attending = self._openings = 0
        self._lines: dict[Line, tuple[asyncio.Event, asyncio.Task[Any]]] = {}
        self._given: Counter[Peer] = Counter()
        self._favoured = asyncio.Event()
        self._favour_lock = asyncio.Lock()
        self._lied = False

    def add_peers(self, peers: Iterable[Peer] | AsyncIterator[Peer]) -> None:
        """Use these peers as well, as they come."""
        self._gathering += 1
        self._spawn(self._gather(peers))

    async def run(self) -> Downloaded:
        """Download; raises NoPeerError, WrongBytesError or StoreError."""
        began = time.monotonic()
        try:
            self._spawn(self._watch())
            if self._workshop.store.has_partial(self.digest):
                self._note_favoured(await self._in_thread(self._assembly.resume))
            artifact = await self._outcome
        finally:
            await self._end()
        self._tell(artifact.size, artifact.size)
        sources = [Source(peer, count) for peer, count in self._given.most_common()]
        return Downloaded(artifact, time.monotonic() - began, sources)

    async def _end(self) -> None:
        """End all tasks and threads; what is on disk is kept for a later run."""
        won = self._outcome.done() and not self._outcome.cancelled()
        won = won and self._outcome.exception() is None
        self._assembly.over.set()
        graceful = set()
        for line, (event, task) in list(self._lines.items()):
            if won and not line.lane.asked:
                graceful.add(task)
                event.set()
            else:
                line.connection.channel.abort()
        tasks = list(self._tasks)
        for task in tasks:
            if task not in graceful:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        useless = won or self._assembly.schedule.favoured is None
        await self._in_thread(lambda: self._assembly.close(discard=useless))
        self._outcome.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # told also where nobody waits any more

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        """Run blocking work; when cancelled, wait for its end all the same."""
        future = self._loop.run_in_executor(self._workshop.pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise

    # Peers.

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
            self._check_hope()

    def _meet(self, peer: Peer) -> None:
        if peer not in self._known:
            self._known.add(peer)
            self._queue.append(peer)
            self._attend_more()

    def _attend_more(self) -> None:
        while (
            self._queue
            and self._openings < self._limits.openings_max
            and self._attending < self._limits.connections_max
            and not self._outcome.done()
        ):
            self._attending += 1
            self._spawn(self._attend(self._queue.popleft()))

    async def _attend(self, peer: Peer) -> None:
        """Converse with a peer, again while it fails but was of use."""
        try:
            for attempt in range(self._limits.attempts_max):
                before = self._given[peer]
                if await self._try(peer) or self._given[peer] == before:
                    return
                await asyncio.sleep(_RETRY_SECONDS * 2**attempt)
        finally:
            self._attending -= 1
            self._attend_more()
            self._check_hope()

    async def _try(self, peer: Peer) -> bool:
        """Converse once; False where that failed and may be tried again."""
        try:
            await self._converse(peer)
        except (BadChunkError, FalseManifestError, WireError) as error:
            log.warning("%s is banned for %s: %s", peer, self.digest, error)
            self._lied = True
            with self._assembly.lock:
                lanes = self._assembly.schedule.ban(peer.source)
            self._abort_lanes(lanes)
        except (PeerError, OSError) as error:
            log.info("%s failed for %s: %s", peer, self.digest, error)
            return False
        return True

    async def _converse(self, peer: Peer) -> None:
        if peer.source in self._assembly.schedule.banned:
            return
        connection = await self._open(peer)
        in_order = False
        try:
            while (offered := await self._asking.ask(connection)) is None:
                await self._favoured.wait()
            if offered.data is not None:
                in_order = await self._take_whole(offered, offered.data)
            else:
                in_order = await self._exchange(offered)
        finally:
            if in_order:
                self._workshop.connections.keep(connection)
            else:
                connection.channel.close()

    async def _open(self, peer: Peer) -> Connection:
        """Open a connection; when it is late, the next opening may start."""
        holds_place = True
        self._openings += 1

        def give_place() -> None:
            nonlocal holds_place
            if holds_place:
                holds_place = False
                self._openings -= 1
                self._attend_more()

        late = self._loop.call_later(self._limits.opening_soft_seconds, give_place)
        try:
            return await self._workshop.connections.open(peer)
        finally:
            late.cancel()
            give_place()

    def _check_hope(self) -> None:
        """Give up once nobody is left who could send anything."""
        if self._gathering or self._attending or self._queue or self._outcome.done():
            return
        if self._lied and not self._assembly.schedule.bytes_done:
            self._fail(WrongBytesError())
        else:
            self._fail(NoPeerError())

    # Chunks.

    async def _take_whole(self, offered: Offered, data: bytes) -> bool:
        """Take a small artifact that came at once with its manifest."""
        digests = {
            name: Digest.of(data, name)
            for name in {NAME_ALGORITHM, self.digest.algorithm}
        }
        if digests[self.digest.algorithm] != self.digest:
            raise FalseManifestError
        done = wire.encode(wire.Done(offered.number))
        await offered.connection.channel.write(done)
        if self._outcome.done() or self._favour_lock.locked():
            return True
        async with self._favour_lock:
            contents = Contents(digests, offered.manifest)
            store = self._workshop.store
            artifact = await self._in_thread(lambda: store.add_verified(data, contents))
            if not self._outcome.done():
                self._given[offered.connection.peer] += len(data)
                self._outcome.set_result(artifact)
        return True

    async def _exchange(self, offered: Offered) -> bool:
        """Receive chunks over one connection; whether it is left in order."""
        await self._ensure_favoured(offered.manifest)
        line = self._assembly.join(offered)
        event = asyncio.Event()
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("A conversation runs in a task.")
        self._lines[line] = event, task
        self._open_second_lane(offered)
        reception = self._assembly.reception()
        try:
            while not self._assembly.over.is_set():
                outcome = await self._in_thread(lambda: reception.work(line))
                if outcome is Outcome.OVER:
                    break
                await self._pause(line, event)
            in_order = not line.lane.asked
        finally:
            del self._lines[line]
            with self._assembly.lock:
                self._assembly.schedule.leave(line.lane)
            self._given[offered.connection.peer] += line.lane.bytes_given
            self._wake_idle()
        if in_order:
            done = wire.encode(wire.Done(line.number))
            await line.connection.channel.write(done)
        return in_order

    async def _pause(self, line: Line, event: asyncio.Event) -> None:
        """Wait until the peer says something or there is something to ask."""
        event.clear()
        with self._assembly.lock:
            if self._assembly.schedule.has_work(line.lane, time.monotonic()):
                return
        readable = self._loop.create_task(line.connection.channel.wait_readable())
        woken = self._loop.create_task(event.wait())
        try:
            await asyncio.wait((readable, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            readable.cancel()
            woken.cancel()
            await asyncio.gather(readable, woken, return_exceptions=True)
        if readable.done() and not line.lane.asked and not event.is_set():
            await self._hear(line)

    async def _hear(self, line: Line) -> None:
        """Take a message that a peer sends of its own accord."""
        message = await line.connection.channel.read_frame()
        if isinstance(message, wire.Have):
            self._assembly.reception().take_have(line, message)
        elif isinstance(message, wire.Bye):
            raise PeerError(f"It said: {message.reason!r}.")
        else:
            raise WireError("The seeder sent a message that nobody asked for.")

    async def _ensure_favoured(self, manifest: Manifest) -> None:
        async with self._favour_lock:
            if self._assembly.schedule.favoured is None:
                if manifest.digest in self._assembly.schedule.false:
                    raise FalseManifestError
                await self._in_thread(lambda: self._assembly.favour(manifest))
                self._note_favoured(manifest)

    def _note_favoured(self, manifest: Manifest | None) -> None:
        self._asking.manifest = manifest
        if manifest is None:
            self._favoured.clear()
        else:
            self._favoured.set()
            self._wake_idle()

    def _open_second_lane(self, offered: Offered) -> None:
        """Use a lone peer over two connections, so that two threads hash."""
        manifest = offered.manifest
        if (
            len(self._lines) < self._limits.lanes_per_lone_peer
            and offered.have is None
            and manifest.size >= self._limits.second_lane_bytes_min
            and not self._queue
            and self._attending == len(self._lines)
        ):
            self._attending += 1
            self._spawn(self._attend(offered.connection.peer))

    def _abort_lanes(self, lanes: Iterable[Lane]) -> None:
        closing = set(lanes)
        for line in self._lines:
            if line.lane in closing:
                line.connection.channel.abort()

    def _wake_idle(self) -> None:
        now = time.monotonic()
        with self._assembly.lock:
            for line, (event, _) in self._lines.items():
                if self._assembly.schedule.has_work(line.lane, now):
                    event.set()

    async def _watch(self) -> None:
        """Notice who is slow, who has nothing to do, and when nothing moves."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            assembly = self._assembly
            with assembly.lock:
                assembly.schedule.reclaim(now)
                stuck = assembly.schedule.is_stuck(now)
                done = assembly.schedule.bytes_done
                favoured = assembly.schedule.favoured
                moved_on = assembly.schedule.candidate(now) if stuck else None
            if moved_on is not None:
                await self._switch(moved_on)
            self._wake_idle()
            if favoured is not None:
                self._tell(done, favoured.size)
            idle = now - assembly.chunk_at
            if self._lines and idle > self._limits.stall_seconds:
                self._fail(NoPeerError("The peers stopped sending."))

    def _tell(self, done: int, total: int) -> None:
        for progress in self.progress:
            progress(done, total)

    # The whole.

    def _hashed_in_thread(self, hasher: PrefixHasher, whole: Whole) -> None:
        self._loop.call_soon_threadsafe(self._hashed, hasher, whole)

    def _hashed(self, hasher: PrefixHasher, whole: Whole) -> None:
        if hasher is self._assembly.hasher and not self._outcome.done():
            self._spawn(self._settle(whole))

    async def _settle(self, whole: Whole) -> None:
        """Commit the file, or find out who is to blame."""
        if isinstance(whole, OSError):
            raise StoreError(f"The download cannot be read back: {whole}.") from whole
        async with self._favour_lock:
            if self._outcome.done():
                return
            if whole[self.digest.algorithm] == self.digest:
                artifact = await self._in_thread(lambda: self._assembly.commit(whole))
                self._outcome.set_result(artifact)
                return
            if not await self._in_thread(self._assembly.recheck):
                self._wake_idle()
                return
        self._lied = True
        log.warning("a manifest of %s was false", self.digest)
        liars = self._assembly.reject()
        await self._switch(self._assembly.next_manifest())
        self._abort_lanes(liars)

    async def _switch(self, manifest: Manifest | None) -> None:
        async with self._favour_lock:
            if manifest is not None:
                await self._in_thread(lambda: self._assembly.favour(manifest))
            self._note_favoured(manifest)
