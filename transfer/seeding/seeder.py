"""The seeder: accepts connections and lends them to worker threads.

The event loop accepts, shakes hands and watches connections that wait for a request
or for their peer; a few threads send (session.py). Who may connect and who gives way
is decided in admission.py, and a source never has all threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import resource
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from transfer.arrivals import Arrivals
from transfer.connection.congestion import Congestion
from transfer.connection.handshake import (
    OpeningReceived,
    Terms,
    greet_leecher,
)
from transfer.connection.peer import source_of
from transfer.connection.rate_limit import RateLimiter
from transfer.errors import PeerError, TransferError
from transfer.limits import SeederLimits
from transfer.seeding.admission import (
    ConnectionRoom,
    Handshake,
    HandshakeRoom,
    UploadPace,
)
from transfer.seeding.following import Followable
from transfer.seeding.served_files import ServedFiles
from transfer.seeding.session import Uploads, UploadSession, Verdict
from transfer.seeding.tls_turns import TlsTurns
from transfer.seeding.weekly_check import WeeklyCheck

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence

    from transfer.connection.tls import Identity
    from transfer.content.digest import Digest
    from transfer.store.store import Store

log = logging.getLogger(__name__)

_SPARE_DESCRIPTORS = 16
_PAUSE_SECONDS = 0.1
_FULL_SECONDS = 0.02
_WARN_SECONDS = 60.0


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


def nameless(digest: Digest) -> str:
    """Know no file names."""
    del digest
    return ""


def close_opening(opening: OpeningReceived, host: str) -> None:
    """Want no connections but those of leechers."""
    del host
    opening.sock.close()


class Seeder:
    """Offers what a store holds to every leecher that connects.

    `async with Seeder(store, identity) as seeder` closes it in the end; `start` gives
    it sockets to serve on.
    """

    def __init__(
        self,
        store: Store,
        identity: Identity,
        *,
        network_secret: bytes | None = None,
        encryption: bool = True,
        limits: SeederLimits | None = None,
        may_serve: Callable[[Digest, bool], bool] = anything,
        on_opening: Callable[[OpeningReceived, str], None] = close_opening,
        arrivals: Arrivals | None = None,
        name_of: Callable[[Digest], str] = nameless,
    ) -> None:
        """`may_serve(digest, whole)` is asked, in any thread, before a file is opened.

        The digest is the SHA-256 of a whole artifact, or the one that a download
        under way was asked for. `on_opening(opening, host)` gets the socket of each
        connection that is not for the seeder, and closes it in the end. `arrivals`
        has what leechers may follow before it is verified. `name_of(digest)` returns
        the file name of an artifact, or ""; it is asked in any thread.
        """
        self._name_of = name_of
        self._on_opening = on_opening
        self._limits = limits = limits or SeederLimits()
        self._terms = Terms(identity, network_secret, encryption)
        self._stop = threading.Event()
        self.rate = RateLimiter(limits.bytes_per_second, self._stop)
        """What all uploads share; its rate can be changed at any time."""
        self._waiting: deque[UploadSession] = deque()
        room = _descriptor_room()
        self._store = store
        self._uploads = self._new_uploads(may_serve, arrivals or Arrivals(), room)
        self._handshakes = _handshake_room(limits, room)
        self._connections = _connection_room(limits, room)
        self._tls_turns = TlsTurns(limits.tls_per_second)
        self._greeting: dict[Handshake, asyncio.Task[None]] = {}
        self._sessions: set[UploadSession] = set()
        self._parked: dict[UploadSession, int] = {}
        """Sessions that the event loop watches, with their descriptors."""
        self._serving: dict[UploadSession, asyncio.Future[Verdict]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._warned_at = -_WARN_SECONDS
        self._refused: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._weekly_check = WeeklyCheck(store, self._stop)

    def _new_uploads(
        self,
        may_serve: Callable[[Digest, bool], bool],
        arrivals: Arrivals,
        room: int,
    ) -> Uploads:
        """Make what the sessions share; `room` is how many files may be open."""
        store, limits, stop = self._store, self._limits, self._stop
        most = max(min(limits.files_max, room // 4), 1)
        return Uploads(
            store=store,
            files=ServedFiles(store, descriptors_max=most, stop=stop),
            limits=limits,
            rate=self.rate,
            stop=stop,
            waiting=lambda: len(self._waiting),
            may_serve=may_serve,
            name_of=self._name_of,
            on_crowded=self._crowded_in_thread,
            followable=Followable(
                arrivals, store=store, may_serve=may_serve, stop=stop
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        if self._stop.is_set():
            state = "closed"
        else:
            state = f"{len(self._sessions)} connections"
        return f"<Seeder of {self._store!r}, {state}>"

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound and listening; they are closed at close."""
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(
            self._limits.upload_threads_max, "caravan-upload"
        )
        self._sockets = list(sockets)
        for sock in self._sockets:
            sock.setblocking(False)
            self._spawn(self._accept(sock))
        self._spawn(self._sweep())
        self._spawn(self._weekly_check.run(self._limits.check_seconds))

    async def close(self) -> None:
        """Stop serving; returns within a second and leaves no thread."""
        self._stop.set()
        self._tls_turns.close()
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
        self._weekly_check.close()

    @property
    def stats(self) -> SeederStats:
        """What is going on."""
        blocked = sum(session.is_blocked for session in self._parked)
        return SeederStats(
            len(self._sessions),
            len(self._serving) + len(self._waiting) + blocked,
            self._uploads.chunks_sent,
            self._uploads.bytes_sent,
            dict(self._refused),
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Connecting.

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        congestion = Congestion(listener, self._limits.near_seconds)
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._refused["no descriptor left"] += 1
                    self._warn_crowded()
                    self._evict_for("")
                    await asyncio.sleep(_PAUSE_SECONDS)
                continue
            try:
                congestion.tune(sock)
                is_adopted = self.adopt(sock, address)
            except Exception:
                log.exception("a connection of %s could not be taken", address[0])
                sock.close()
                continue
            if is_adopted:
                await self._room_for_handshake()

    def adopt(self, sock: socket.socket, address: tuple[Any, ...]) -> bool:
        """Serve a connected socket, as one that was accepted from this address.

        Where there is no room it is closed; False then.
        """
        source = source_of(address[0])
        self._expire_handshake(source)
        if why := self._no_room(source):
            self._refused[why] += 1
            sock.close()
            return False
        self._begin_handshake(sock, source, address)
        return True

    async def _room_for_handshake(self) -> None:
        """Keep newcomers in the listener's backlog until there is room for one."""
        while self._handshakes.is_full and not self._expire_handshake(""):
            self._warn_crowded()
            await asyncio.sleep(_FULL_SECONDS)

    def _no_room(self, source: str) -> str | None:
        """Return why a connection of this source is refused, or None."""
        why = self._connections.fullness(source)
        if why is None or self._evict_for(source):
            return None
        self._warn_crowded()
        return why

    def _expire_handshake(self, source: str) -> bool:
        """Cancel the handshake that gives way to one of `source`, if any has to."""
        victim = self._handshakes.victim(source, time.monotonic())
        if victim is None:
            return False
        self._refused["a handshake that stalled"] += 1
        self._end_handshake(victim)
        self._greeting[victim].cancel()
        return True

    def _evict_for(self, source: str) -> bool:
        """Close the slowest connection that has to give way to one of `source`."""
        now = time.monotonic()
        slowest = self._connections.victim(source, self._parked, now)
        if slowest is None:
            return False
        log.debug("%s gives way: it was the slowest of its source", slowest.label)
        self._drop(slowest)
        return True

    def _crowded_in_thread(self, source: str) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._make_room_for_wants, source)

    def _make_room_for_wants(self, source: str) -> None:
        """Close the slowest connection of a source that has too many wants."""
        holders = (
            one for one in self._parked if one.source == source and len(one.offers) > 1
        )
        slowest = self._connections.slowest(holders, time.monotonic())
        if slowest is not None:
            self._drop(slowest)

    def _warn_crowded(self) -> None:
        """Warn, at most once a minute, that connections are refused."""
        now = time.monotonic()
        if now - self._warned_at < _WARN_SECONDS:
            return
        self._warned_at = now
        log.warning(
            "connections are refused or wait: %d are open and %d files may be; raise"
            " the limit (ulimit -n) if that is too few",
            len(self._connections) + len(self._handshakes),
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        )

    def _begin_handshake(
        self, sock: socket.socket, source: str, address: tuple[Any, ...]
    ) -> None:
        handshake = self._handshakes.begin(source, time.monotonic())
        task = self._spawn(self._greet(sock, handshake, address))
        self._greeting[handshake] = task
        task.add_done_callback(lambda _: self._greeting.pop(handshake, None))

    async def _greet(
        self, sock: socket.socket, handshake: Handshake, address: tuple[Any, ...]
    ) -> None:
        label = f"{address[0]}:{address[1]}"
        try:
            async with asyncio.timeout(self._limits.handshake_seconds):
                channel, hello = await greet_leecher(
                    sock, self._terms, functools.partial(self._step, handshake)
                )
        except OpeningReceived as opening:
            self._end_handshake(handshake)
            self._on_opening(opening, address[0])
            return
        except (PeerError, OSError) as error:
            # asyncio's TimeoutError is an OSError as well.
            self._refused[type(error).__name__] += 1
            self._end_handshake(handshake)
            log.debug("%s was not served: %s", label, error)
            return
        except asyncio.CancelledError:
            self._end_handshake(handshake)
            raise
        self._end_handshake(handshake)
        if why := self._no_room(handshake.source):
            self._refused[why] += 1
            channel.close()
            return
        self._connections.begin(handshake.source)
        now = time.monotonic()
        session = UploadSession(
            channel=channel,
            uploads=self._uploads,
            source=handshake.source,
            label=label,
            host=address[0],
            public_key=hello.public_key,
            pace=UploadPace(now),
            active_at=now,
        )
        session.followings.wake = functools.partial(self._news_for, session)
        self._sessions.add(session)
        self._park(session)

    async def _step(self, handshake: Handshake) -> None:
        """Count a step of a handshake; before TLS, wait for its turn."""
        handshake.step(time.monotonic())
        if handshake.steps == 1:
            await self._tls_turns.wait(handshake)

    def _end_handshake(self, handshake: Handshake) -> None:
        self._handshakes.end(handshake)
        self._tls_turns.withdraw(handshake)

    # Serving.

    def _park(self, session: UploadSession) -> None:
        """Watch a session until a request is complete, or its peer has read."""
        if session.is_blocked:
            watch = asyncio.get_running_loop().add_writer
        elif session.followings.has_news(time.monotonic()) or (
            session.channel.has_buffered and self._has_request(session)
        ):
            self._queue(session)
            return
        elif session in self._sessions:
            watch = asyncio.get_running_loop().add_reader
        else:
            return
        descriptor = session.channel.fileno()
        self._parked[session] = descriptor
        watch(descriptor, self._wake, session)

    def _unpark(self, session: UploadSession) -> bool:
        descriptor = self._parked.pop(session, None)
        if descriptor is None:
            return False
        loop = asyncio.get_running_loop()
        if session.is_blocked:
            loop.remove_writer(descriptor)
        else:
            loop.remove_reader(descriptor)
        return True

    def _wake(self, session: UploadSession) -> None:
        """Queue a session whose request is complete, or whose peer has read."""
        if session.is_blocked or self._has_request(session):
            self._rouse(session)

    def _rouse(self, session: UploadSession) -> None:
        if self._unpark(session):
            session.is_blocked = False
            self._queue(session)

    def _news_for(self, session: UploadSession) -> None:
        """Queue a session that has news of what its peer follows."""
        if session in self._parked and not session.is_blocked:
            self._rouse(session)

    def _has_request(self, session: UploadSession) -> bool:
        """Whether a request has come whole; a connection that ends is dropped."""
        try:
            complete = session.channel.has_frame()
            if not complete and session.channel.read_available():
                complete = session.channel.has_frame()
        except (PeerError, OSError) as error:
            log.debug("the connection of %s ended: %s", session.label, error)
            self._drop(session)
            return False
        if complete:
            session.frame_since = None
        elif session.frame_since is None and session.channel.has_buffered:
            session.frame_since = time.monotonic()
        return complete

    def _queue(self, session: UploadSession) -> None:
        self._waiting.append(session)
        self._fill_threads()

    def _fill_threads(self) -> None:
        while (
            self._pool is not None
            and len(self._serving) < self._limits.upload_threads_max
            and not self._stop.is_set()
            and (session := self._next_session()) is not None
        ):
            future = asyncio.get_running_loop().run_in_executor(
                self._pool, session.serve
            )
            self._serving[session] = future
            future.add_done_callback(functools.partial(self._served, session))

    def _next_session(self) -> UploadSession | None:
        """Take the one that waits for longest, of the source with the fewest threads.

        No source gets all threads: a newcomer never waits for a peer of another.
        """
        threads = Counter(session.source for session in self._serving)
        chosen = min(self._waiting, key=lambda one: threads[one.source], default=None)
        if (
            chosen is None
            or threads[chosen.source] >= self._limits.upload_threads_per_source_max
        ):
            return None
        self._waiting.remove(chosen)
        return chosen

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
            session.is_blocked = verdict is Verdict.BLOCKED
            self._park(session)
        self._fill_threads()

    def _drop(self, session: UploadSession) -> None:
        if session not in self._sessions:
            return
        self._unpark(session)
        with contextlib.suppress(ValueError):
            self._waiting.remove(session)
        self._sessions.discard(session)
        self._connections.end(session.source)
        session.close()

    async def _sweep(self) -> None:
        """Close what has waited for too long; wake sessions that have news."""
        limits = self._limits
        while True:
            await asyncio.sleep(limits.have_seconds)
            now = time.monotonic()
            for session in list(self._parked):
                try:
                    session.pace.tick(now)
                    late = session.frame_since
                    if now - session.active_at > limits.idle_seconds or (
                        late is not None and now - late > limits.frame_seconds
                    ):
                        self._drop(session)
                    elif not session.is_blocked and session.has_news(
                        now, limits.have_seconds
                    ):
                        self._rouse(session)
                except Exception:
                    log.exception("the connection of %s failed", session.label)
                    self._drop(session)


def _handshake_room(limits: SeederLimits, descriptors: int) -> HandshakeRoom:
    return HandshakeRoom(
        total_max=min(limits.handshakes_max, descriptors // 4),
        per_source_max=limits.handshakes_per_source_max,
        stall_seconds=limits.handshake_stall_seconds,
    )


def _connection_room(limits: SeederLimits, descriptors: int) -> ConnectionRoom:
    return ConnectionRoom(
        total_max=min(limits.connections_max, descriptors // 2),
        per_source_max=limits.connections_per_source_max,
        bytes_per_second_min=limits.bytes_per_second_min,
    )


def _descriptor_room() -> int:
    """Return how many more files the process may open, with some left for others."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return 2**31
    try:
        in_use = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (names are enough)
    except OSError:
        in_use = _SPARE_DESCRIPTORS
    return max(limit - in_use - _SPARE_DESCRIPTORS, 4)
