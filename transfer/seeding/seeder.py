"""The seeder: accepts connections and lends them to worker threads.

The event loop accepts, greets and watches idle connections; a capped number of
threads sends. A connection that has a request waits its turn for a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import resource
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.connection.congestion import Congestion
from transfer.connection.handshake import Terms, greet_leecher
from transfer.connection.peer import source_of
from transfer.connection.rate_limit import RateLimiter
from transfer.content.hashing import lower_priority
from transfer.errors import ClosedError, PeerError, TransferError
from transfer.limits import SeederLimits
from transfer.seeding.session import UploadService, UploadSession, Verdict

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence

    from transfer.connection.tls import Identity
    from transfer.content.digest import Digest
    from transfer.store.store import Store

log = logging.getLogger(__name__)

_SPARE_DESCRIPTORS = 64
_EVICT_IDLE_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_SAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class SeederStats:
    """What a seeder does and has done."""

    connections: int
    uploads: int
    """Connections with a request that is being answered or waits for a thread."""
    chunks_sent: int
    bytes_sent: int
    refused: dict[str, int]
    """Connections that were not served, by why."""


def anything(digest: Digest, whole: bool) -> bool:
    """Serve whatever is asked for."""
    del digest, whole
    return True


class Seeder:
    """Offers what a store holds to whoever connects."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        *,
        network_secret: bytes | None = None,
        encryption: bool = True,
        limits: SeederLimits | None = None,
        may_serve: Callable[[Digest, bool], bool] = anything,
    ) -> None:
        """`may_serve(digest, whole)` is asked, in any thread, before a file is opened.

        It is the SHA-256 of a whole artifact, or what a download under way is called.
        """
        self._limits = limits or SeederLimits()
        self._terms = Terms(identity, network_secret, encryption)
        self._stop = threading.Event()
        self.rate = RateLimiter(self._limits.bytes_per_second, self._stop)
        """What all uploads share; its rate can be changed at any time."""
        self._waiting: deque[UploadSession] = deque()
        self._service = UploadService(
            store,
            self._limits,
            self.rate,
            self._stop,
            lambda: len(self._waiting),
            may_serve,
        )
        self._sessions: set[UploadSession] = set()
        self._idle: dict[UploadSession, int] = {}
        self._serving: dict[UploadSession, asyncio.Future[Verdict]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._sources: Counter[str] = Counter()
        self._greetings = 0
        self._said_at = -_SAY_SECONDS
        self._refused: Counter[str] = Counter()
        self._pool: ThreadPoolExecutor | None = None
        self._upkeep_pool = ThreadPoolExecutor(1, "caravan-upkeep")
        self._store = store

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound and listening; they are closed at close."""
        self._pool = ThreadPoolExecutor(
            self._limits.upload_threads_max, "caravan-upload"
        )
        self._sockets = list(sockets)
        for sock in self._sockets:
            sock.setblocking(False)
            self._spawn(self._accept(sock))
        self._spawn(self._sweep())
        self._spawn(self._keep_up())

    async def close(self) -> None:
        """Stop serving; returns within a second and leaves no thread."""
        self._stop.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self._sessions:
            session.channel.abort()
        await asyncio.gather(*self._serving.values(), return_exceptions=True)
        for session in list(self._sessions):
            self._drop(session)
        for sock in self._sockets:
            sock.close()
        if self._pool is not None:
            self._pool.shutdown()
        self._upkeep_pool.shutdown()

    @property
    def stats(self) -> SeederStats:
        """What is going on."""
        return SeederStats(
            len(self._sessions),
            len(self._serving) + len(self._waiting),
            self._service.chunks_sent,
            self._service.bytes_sent,
            dict(self._refused),
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        pacing = Congestion(listener, self._limits.near_seconds)
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._refused["no descriptor left"] += 1
                    self._say_crowded()
                    self._evict()
                    await asyncio.sleep(_PAUSE_SECONDS)
                continue
            pacing.settle(sock)
            source = source_of(address[0], address[1])
            label = f"{address[0]}:{address[1]}"
            if why := self._why_not(source):
                self._refused[why] += 1
                sock.close()
                continue
            self._greetings += 1
            self._sources[source] += 1
            self._spawn(self._greet(sock, source, label, address[0]))

    def _why_not(self, source: str) -> str | None:
        """Why a connection from this source is refused, or None."""
        if self._greetings >= self._limits.greetings_max:
            return "too many greetings"
        if self._sources[source] >= self._limits.connections_per_source_max:
            return "too many connections of one source"
        room = min(self._limits.connections_max, _descriptor_room())
        if len(self._sessions) + self._greetings >= room and not self._evict():
            self._say_crowded()
            return "too many connections"
        return None

    def _say_crowded(self) -> None:
        """Tell people, at most once a minute, that connections are refused."""
        now = time.monotonic()
        if now - self._said_at < _SAY_SECONDS:
            return
        self._said_at = now
        log.warning(
            "connections are refused: %d are open and %d files may be; raise the"
            " limit (ulimit -n) where that is too few",
            len(self._sessions) + self._greetings,
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )

    async def _greet(
        self, sock: socket.socket, source: str, label: str, host: str
    ) -> None:
        try:
            async with asyncio.timeout(self._limits.greeting_seconds):
                channel, hello = await greet_leecher(sock, self._terms)
        except (PeerError, OSError) as error:
            # asyncio's TimeoutError is an OSError as well.
            self._refused[type(error).__name__] += 1
            self._forget_source(source)
            log.debug("%s was not served: %s", label, error)
            return
        except asyncio.CancelledError:
            self._forget_source(source)
            raise
        finally:
            self._greetings -= 1
        session = UploadSession(
            channel, source, label, host, hello.public_key, active_at=time.monotonic()
        )
        self._sessions.add(session)
        self._park(session)

    def _park(self, session: UploadSession) -> None:
        """Let the event loop watch a connection until it has a request."""
        if session.channel.has_buffered:
            self._queue(session)
            return
        descriptor = session.channel.fileno()
        self._idle[session] = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._wake, session)

    def _unpark(self, session: UploadSession) -> bool:
        descriptor = self._idle.pop(session, None)
        if descriptor is None:
            return False
        asyncio.get_running_loop().remove_reader(descriptor)
        return True

    def _wake(self, session: UploadSession) -> None:
        if self._unpark(session):
            self._queue(session)

    def _queue(self, session: UploadSession) -> None:
        self._waiting.append(session)
        self._fill_threads()

    def _fill_threads(self) -> None:
        while (
            self._waiting
            and self._pool is not None
            and len(self._serving) < self._limits.upload_threads_max
            and not self._stop.is_set()
        ):
            session = self._next_session()
            future = asyncio.get_running_loop().run_in_executor(
                self._pool, self._service.serve, session
            )
            self._serving[session] = future
            future.add_done_callback(functools.partial(self._served, session))

    def _next_session(self) -> UploadSession:
        """Take the one that waits for longest, of the source with the fewest slots."""
        slots = Counter(session.source for session in self._serving)
        session = next(
            (one for one in self._waiting if one.source not in slots), None
        ) or min(self._waiting, key=lambda one: slots[one.source])
        self._waiting.remove(session)
        return session

    def _served(self, session: UploadSession, future: asyncio.Future[Verdict]) -> None:
        self._serving.pop(session, None)
        verdict = Verdict.CLOSE
        if not future.cancelled():
            error = future.exception()
            if error is None:
                verdict = future.result()
            elif isinstance(error, TransferError | OSError):
                log.debug("the connection of %s ended: %s", session.label, error)
            else:
                log.error("serving %s failed", session.label, exc_info=error)
        if self._stop.is_set() or verdict is Verdict.CLOSE:
            self._drop(session)
        elif verdict is Verdict.AGAIN:
            self._waiting.append(session)
        else:
            self._park(session)
        self._fill_threads()

    def _drop(self, session: UploadSession) -> None:
        if session not in self._sessions:
            return
        self._unpark(session)
        with contextlib.suppress(ValueError):
            self._waiting.remove(session)
        self._sessions.discard(session)
        self._forget_source(session.source)
        session.close()

    def _forget_source(self, source: str) -> None:
        self._sources[source] -= 1
        if self._sources[source] <= 0:
            del self._sources[source]

    def _evict(self) -> bool:
        """Close the connection that has been idle for longest, if for long."""
        if not self._idle:
            return False
        oldest = min(self._idle, key=lambda session: session.active_at)
        if time.monotonic() - oldest.active_at < _EVICT_IDLE_SECONDS:
            return False
        self._drop(oldest)
        return True

    async def _sweep(self) -> None:
        """Close what is idle for too long; wake who must hear of new chunks."""
        while True:
            await asyncio.sleep(self._limits.have_seconds)
            now = time.monotonic()
            for session in list(self._idle):
                if now - session.active_at > self._limits.idle_seconds:
                    self._drop(session)
                elif session.has_news(now, self._limits.have_seconds):
                    self._wake(session)

    async def _keep_up(self) -> None:
        """Check again, one by one, what was not checked for a week."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.upkeep_seconds)
            work = loop.run_in_executor(self._upkeep_pool, self._check_due)
            try:
                await asyncio.shield(work)
            except (TransferError, OSError) as error:
                log.warning("the weekly check failed: %s", error)

    def _check_due(self) -> None:
        """Check what is due, until nothing is or the seeder closes."""
        lower_priority()
        while (due := self._store.due_for_check()) is not None:
            self._store.check(due, self._heed_stop)

    def _heed_stop(self, done: int, total: int | None) -> None:
        del done, total
        if self._stop.is_set():
            raise ClosedError


def _descriptor_room() -> int:
    """How many connections the process's descriptor limit leaves room for."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 2**31
    return max(limit - _SPARE_DESCRIPTORS, 1)
