"""A leecher's connections: opened and greeted, kept warm, used again."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.connection.handshake import Terms, greet_seeder
from transfer.errors import PeerError, PeerRefusedError
from transfer.leeching.dial_limits import DialLimiter, Permission, never_heard

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from transfer.connection.channel import Channel
    from transfer.connection.peer import Peer
    from transfer.limits import LeecherLimits

    Connect = Callable[[Peer], Awaitable[socket.socket]]

log = logging.getLogger(__name__)

_LAST_WORD_SECONDS = 2.0
_LAST_WORD_BYTES_MAX = 64 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Connection:
    """One greeted connection to a seeder, used by one download at a time."""

    channel: Channel
    peer: Peer
    round_trip: float
    """Seconds, as the greeting showed; an upper bound."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    warm_since: float = 0.0


class ConnectionPool:
    """Opens connections, and keeps those that a download has left in order."""

    def __init__(
        self,
        terms: Terms,
        limits: LeecherLimits,
        *,
        connect: Connect | None = None,
        heard: Callable[[Peer], float] = never_heard,
    ) -> None:
        """`connect` returns a connected socket to a peer, by whatever way leads there.

        `heard` is explained at `DialLimiter`.
        """
        self._terms = terms
        self._limits = limits
        self._connect = connect or connect_directly
        self._dials = DialLimiter(heard=heard)
        self._waiting: list[asyncio.Future[None]] = []
        self._warm: dict[Peer, deque[Connection]] = {}
        self._warm_count = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._complaints: set[asyncio.Task[None]] = set()

    async def open(self, peer: Peer) -> Connection:
        """Return a warm connection or a new one; raises PeerError or OSError."""
        if (connection := self._acquire_warm(peer)) is not None:
            return connection
        async with asyncio.timeout(self._limits.opening_seconds):
            if self._terms.encryption:
                return await self._dial_when_permitted(peer, tls=True)
            try:
                return await self._dial_when_permitted(peer, tls=False)
            except PeerRefusedError:
                return await self._dial_when_permitted(peer, tls=True)

    @property
    def own_key(self) -> bytes:
        """The node key of this leecher, by which it knows itself."""
        return self._terms.identity.public_key

    def is_warm(self, peer: Peer) -> bool:
        """Whether a connection to this peer is kept."""
        return peer in self._warm

    def release(self, connection: Connection) -> None:
        """Keep a connection on which nothing is under way for a later download."""
        if self._warm_count >= self._limits.warm_connections_max:
            connection.channel.close()
            return
        connection.warm_since = time.monotonic()
        self._warm.setdefault(connection.peer, deque()).append(connection)
        self._warm_count += 1
        asyncio.get_running_loop().add_reader(
            connection.channel.fileno(), self._cool, connection
        )
        if self._expiry is None:
            self._schedule_expiry()

    def complain(self, connection: Connection, number: int, index: int) -> None:
        """Tell a seeder, in the background, of its bad chunk; then close."""
        complaint = wire.encode(wire.Complaint(number, index))
        task = asyncio.get_running_loop().create_task(
            _say_and_close(connection.channel, complaint)
        )
        self._complaints.add(task)
        task.add_done_callback(self._complaints.discard)

    async def close(self) -> None:
        """Close all warm connections, and those that a complaint is sent over."""
        tasks = list(self._complaints)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        for kept in list(self._warm.values()):
            for connection in list(kept):
                self._cool(connection)

    async def _dial_when_permitted(self, peer: Peer, *, tls: bool) -> Connection:
        """Dial an address as often as `dial_limits` allows."""
        while (permission := self._dials.permission(peer)) is Permission.LATER:
            await self._end_of_a_dial()
        if permission is Permission.NEVER:
            raise PeerRefusedError(f"{peer} did not answer lately; not dialled now.")
        self._dials.begin(peer)
        loop = asyncio.get_running_loop()
        late_at = loop.time() + self._limits.opening_soft_seconds
        found: bool | None = False
        try:
            connection = await self._dial(peer, tls=tls)
            found = True
        except asyncio.CancelledError:
            # Nobody wanted it any more; that it was late all the same counts.
            found = None if loop.time() < late_at else False
            raise
        finally:
            self._dials.end(peer, found=found)
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_result(None)
            self._waiting.clear()
        return connection

    async def _end_of_a_dial(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    async def _dial(self, peer: Peer, *, tls: bool) -> Connection:
        loop = asyncio.get_running_loop()
        began = loop.time()
        sock = await self._connect(peer)
        round_trip = loop.time() - began
        channel = await greet_seeder(sock, self._terms, peer.public_key, tls=tls)
        return Connection(channel, peer, round_trip)

    def _acquire_warm(self, peer: Peer) -> Connection | None:
        kept = self._warm.get(peer)
        if not kept:
            return None
        connection = kept[-1]
        self._forget(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        kept = self._warm[connection.peer]
        kept.remove(connection)
        if not kept:
            del self._warm[connection.peer]
        self._warm_count -= 1
        asyncio.get_running_loop().remove_reader(connection.channel.fileno())

    def _cool(self, connection: Connection) -> None:
        """Close a warm connection: too old, or its peer closed or spoke."""
        self._forget(connection)
        connection.channel.close()

    def _schedule_expiry(self) -> None:
        self._expiry = asyncio.get_running_loop().call_later(
            self._limits.warm_seconds / 2, self._expire
        )

    def _expire(self) -> None:
        self._expiry = None
        oldest = time.monotonic() - self._limits.warm_seconds
        for kept in list(self._warm.values()):
            for connection in [c for c in kept if c.warm_since < oldest]:
                self._cool(connection)
        if self._warm_count:
            self._schedule_expiry()


async def connect_directly(peer: Peer) -> socket.socket:
    """Return a socket that is connected to a peer's address; raises OSError."""
    family = socket.AF_INET6 if ":" in peer.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, (peer.host, peer.port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _say_and_close(channel: Channel, frame: bytes) -> None:
    """Send a frame, and read on until the peer closes, for a short while.

    To close at once, with chunks still coming, would reset the connection and
    the frame would be lost with it.
    """
    try:
        async with asyncio.timeout(_LAST_WORD_SECONDS):
            await channel.write(frame)
            await channel.drain(_LAST_WORD_BYTES_MAX)
    except (PeerError, OSError) as error:
        log.debug("a complaint was not heard: %s", error)
    finally:
        channel.close()
