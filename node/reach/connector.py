"""Connecting to a peer by whatever way leads there, and answering calls.

A peer that names introducers in its provider record cannot be dialled. It is called
through one of them, and three ways may lead to it:

1. Where this node can be dialled itself, the peer dials it (a reverse connection).
2. Both ends open a connection at the same moment (`node.reach.punching`).
3. An introducer that relays joins a connection of each (`node.reach.peer_relay`).

They are tried in this order, each a moment after the one before and not after its
end, as in RFC 8305 ("Happy Eyeballs"): a symmetric NAT costs that moment and no more.
The way that led to a peer is tried first the next time. Whichever way the connection
came about, this node speaks as the leecher on it, and the peer's key is checked as
always.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
import time
import weakref
from typing import TYPE_CHECKING, Final

from dht import Reachable, Way
from dht.bounded import BoundedDict, TtlMap
from node.reach.call_guard import CallGuard
from node.reach.openings import open_with
from node.reach.peer_relay import joined
from node.reach.punching import punch
from transfer.connection import wire
from transfer.leeching.connection_pool import connect_directly

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from dht import CalledBy, Contact, Dht
    from node.background import Background
    from node.reach.openings import Openings
    from transfer import Peer

CALL_SECONDS_MAX: Final = 4.0
"""Until a peer that was called is connected."""
HEAD_START_SECONDS: Final = 0.5
"""A way has that long before the next one is tried beside it."""
REFUSED_SECONDS: Final = 60.0
"""A peer to which no way led counts as out of reach for so long."""
DOUBTED_SECONDS: Final = 1.5
"""A peer that was out of reach lately is given that long to answer."""
WAY_SECONDS: Final = 600.0
"""The way that led to a peer is tried first for so long."""
CALLED_PEERS_MAX: Final = 4096
WAY_NAMES: Final = {
    Way.REVERSE: "by a reverse connection",
    Way.PUNCH: "by hole punching",
    Way.RELAY: "through a relay",
}

_log = logging.getLogger(__name__)


class Connector:
    """Opens connections for the leecher, and dials callers for the seeder."""

    def __init__(self, dht: Dht, openings: Openings, background: Background) -> None:
        self._dht = dht
        self._openings = openings
        self._background = background
        self._introducers: BoundedDict[bytes, tuple[Contact, ...]]
        self._introducers = BoundedDict(CALLED_PEERS_MAX)
        self._ways: TtlMap[bytes, int] = TtlMap(WAY_SECONDS, CALLED_PEERS_MAX)
        self._refused: TtlMap[bytes, bool] = TtlMap(REFUSED_SECONDS, CALLED_PEERS_MAX)
        self._guard = CallGuard()
        # Connections of the listening port to one introducer are one at a time.
        self._punching: weakref.WeakValueDictionary[tuple[str, int], asyncio.Lock]
        self._punching = weakref.WeakValueDictionary()
        self.adopt: Callable[[socket.socket, tuple[str, int]], object] = _close
        """Serves a connected socket, as the seeder does."""
        self.port = 0
        """The TCP port at which others can dial this node."""

    def set_introducers(
        self, public_key: bytes, introducers: Sequence[Contact]
    ) -> None:
        """Remember through whom a peer is called; nobody: it is dialled."""
        self._introducers.pop(public_key, None)
        if introducers:
            self._introducers[public_key] = tuple(introducers)

    def is_refused(self, public_key: bytes) -> bool:
        """Whether a peer was tried in the last minute and no way led to it."""
        return bool(self._refused.get(public_key, time.monotonic()))

    def reach_of(self, public_key: bytes, introducers: Sequence[Contact]) -> str:
        """Return how a provider is reached: a word of `results.Reachability`.

        It is what its record says, and what this node has found lately. A port that
        a router forwards cannot be told from an open one.
        """
        if self.is_refused(public_key):
            return "unreachable"
        if not introducers:
            return "reachable"
        return "relayed" if self._way_to(public_key) == Way.RELAY else "punched"

    def _way_to(self, public_key: bytes) -> int | None:
        return self._ways.get(public_key, time.monotonic())

    async def connect(self, peer: Peer) -> socket.socket:
        """Return a socket that is connected to a peer; raises OSError."""
        key, began = peer.public_key or b"", time.monotonic()
        through = self._introducers.get(key)
        if through is None or ipaddress.ip_address(peer.host).is_private:
            return await self._dial(peer)
        found = await self._first_of(self._ways_to(key), peer, through)
        now = time.monotonic()
        if found is None:
            self._ways.discard(key)
            self._refused.put(key, True, now)
            raise ConnectionError(
                f"{peer} is behind a router, and no node between relays for it"
            )
        way, sock = found
        took = 1000 * (now - began)
        _log.info("reached %s %s in %.0f ms", peer, WAY_NAMES[way], took)
        self._refused.discard(key)
        self._ways.put(key, way, now)
        return sock

    async def _dial(self, peer: Peer) -> socket.socket:
        """Dial a peer; one that was out of reach lately has a short deadline."""
        key, began = peer.public_key or b"", time.monotonic()
        deadline = DOUBTED_SECONDS if self.is_refused(key) else None
        try:
            async with asyncio.timeout(deadline):
                sock = await connect_directly(peer)
        except BaseException as error:
            now = time.monotonic()
            # Whoever gave up waiting has found out as much as one that was refused.
            if isinstance(error, OSError) or now - began > DOUBTED_SECONDS:
                self._refused.put(key, True, now)
            raise
        self._refused.discard(key)
        return sock

    def _ways_to(self, key: bytes) -> list[int]:
        """Return the ways to a peer, best first."""
        ways = [Way.PUNCH, Way.RELAY]
        if self._dht.dial_back.reachable("tcp").reachable is not Reachable.NO:
            ways.insert(0, Way.REVERSE)
        last = self._way_to(key)
        if last in ways:
            ways.remove(last)
            ways.insert(0, last)
        return ways

    async def _first_of(
        self, ways: Sequence[int], peer: Peer, through: Sequence[Contact]
    ) -> tuple[int, socket.socket] | None:
        """Try the ways one beside the other; return the first that leads there."""
        left = list(ways)
        running: dict[asyncio.Task[socket.socket | None], int] = {}
        try:
            while left or running:
                if left:
                    way = left.pop(0)
                    work = self._call(peer, through, way)
                    running[asyncio.create_task(work)] = way
                done, _ = await asyncio.wait(
                    running,
                    timeout=HEAD_START_SECONDS if left else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    if (sock := task.result()) is not None:
                        return running.pop(task), sock
                    del running[task]
            return None
        finally:
            await _give_up(running)

    async def _call(
        self, peer: Peer, through: Sequence[Contact], way: int
    ) -> socket.socket | None:
        """Have a peer called, and return the connection that comes of it."""
        assert peer.public_key is not None
        token = secrets.token_bytes(wire.OPENING_BYTES[wire.MAGIC_REVERSE])
        with self._openings.awaiting(token) as arriving:
            passed_on = await self._dht.introductions.call(
                peer.public_key, through, port=self.port, token=token, way=way
            )
            if passed_on is None:
                return None
            introducer, port = passed_on
            at = (introducer.address.host, port)
            if way == Way.RELAY:
                return await _in_time(_through_relay(at, token))
            if way == Way.PUNCH:
                return await self._punch(at, token, host=peer.host)
            return await _in_time(_arrived(arriving))

    async def _punch(
        self, at: tuple[str, int], token: bytes, *, host: str
    ) -> socket.socket | None:
        """Punch from the listening port, once at a time through one introducer."""
        lock = self._punching.setdefault(at, asyncio.Lock())
        async with lock:
            return await punch(self._dht.addresses[0].port, at, token, host=host)

    # --- the node that is called -----------------------------------------------

    def called(self, call: CalledBy) -> bool:
        """Take a call; whether this node dials."""
        now = time.monotonic()
        if self._guard.knows(call.token, now):
            return True
        dialled = None if call.way == Way.RELAY else call.caller.host
        if not self._guard.begin(call.token, dialled, now):
            return False
        self._background.start(self._answer(call, dialled), "call")
        return True

    async def _answer(self, call: CalledBy, dialled: str | None) -> None:
        """Connect to the caller, or to the relay, and serve what is asked there."""
        host, port = call.caller.host, call.port
        at = (call.introducer.address.host, call.introducer_port)
        sock: socket.socket | None = None
        try:
            if call.way == Way.RELAY:
                host, port = at
                sock = await _in_time(_through_relay(at, call.token))
            elif call.way == Way.PUNCH:
                sock = await self._punch(at, call.token, host=host)
            else:
                opening = open_with((host, port), wire.MAGIC_REVERSE + call.token)
                sock = await _in_time(opening)
        finally:
            found = sock is not None
            self._guard.end(dialled, found=found, now=time.monotonic())
        if sock is not None:
            self.adopt(sock, (host, port))


async def _in_time(
    work: Coroutine[None, None, socket.socket],
) -> socket.socket | None:
    """Return what opens a connection; None where it fails or takes too long."""
    try:
        async with asyncio.timeout(CALL_SECONDS_MAX):
            return await work
    except (OSError, TimeoutError) as error:
        _log.debug("a call led to no connection: %s", error)
        return None


async def _arrived(arriving: asyncio.Future[socket.socket]) -> socket.socket:
    return await arriving


async def _through_relay(at: tuple[str, int], token: bytes) -> socket.socket:
    """Connect to a relay, and return the socket once the other end is there."""
    sock = await open_with(at, wire.MAGIC_RELAY + token)
    try:
        await joined(sock)
    except BaseException:
        sock.close()
        raise
    return sock


async def _give_up(running: dict[asyncio.Task[socket.socket | None], int]) -> None:
    """End what was tried in vain; a connection that came all the same is closed."""
    for task in running:
        task.cancel()
    for late in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(late, socket.socket):
            late.close()


def _close(sock: socket.socket, address: tuple[str, int]) -> None:
    del address
    sock.close()
