"""Connecting to a peer by whatever way leads there, and answering calls.

A peer that names introducers in its provider record cannot be dialled. It is called
through one of them: where this node can be dialled itself, the peer dials it (a
reverse connection). Else both open a connection at the same moment, and where that
fails too, an introducer relays. Whichever way the
connection came about, this node speaks as the leecher on it, and the peer's key is
checked as always.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from dht import Reachable, Way
from node.reach.punching import punch
from transfer.connection import wire
from transfer.leeching.connection_pool import connect_directly

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dht import CalledBy, Contact, Dht
    from node.background import Background
    from node.reach.openings import Openings
    from transfer import Peer

CALL_SECONDS_MAX = 4.0
"""Until a peer that was called is connected."""
DIALS_AT_ONCE_MAX = 8
FAILED_SECONDS = 60.0
"""An IP where no caller was found is left alone for so long."""
CALLED_PEERS_MAX = 4096

_log = logging.getLogger(__name__)


class CallGuard:
    """Which calls this node obeys; a plain object."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, float] = OrderedDict()
        self._under_way = 0

    def begin(self, host: str, now: float) -> bool:
        """Whether a caller at an IP may be dialled now; if so, it is counted."""
        if self._under_way >= DIALS_AT_ONCE_MAX or self._failed.get(host, 0.0) > now:
            return False
        self._under_way += 1
        return True

    def end(self, host: str, *, found: bool, now: float) -> None:
        """Note how a dial has ended."""
        self._under_way -= 1
        self._failed.pop(host, None)
        if not found:
            self._failed[host] = now + FAILED_SECONDS
            if len(self._failed) > CALLED_PEERS_MAX:
                self._failed.popitem(last=False)


class Connector:
    """Opens connections for the leecher, and dials callers for the seeder."""

    def __init__(self, dht: Dht, openings: Openings, background: Background) -> None:
        self._dht = dht
        self._openings = openings
        self._background = background
        self._introducers: OrderedDict[bytes, tuple[Contact, ...]] = OrderedDict()
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        self._guard = CallGuard()
        self._punching = asyncio.Lock()
        self.adopt: Callable[[socket.socket, tuple[str, int]], object] = _close
        """Serves a connected socket, as the seeder does."""
        self.port = 0
        """The TCP port at which others can dial this node."""

    def note(self, public_key: bytes, introducers: Sequence[Contact]) -> None:
        """Remember through whom a peer is called; nobody: it is dialled."""
        self._introducers.pop(public_key, None)
        if introducers:
            self._introducers[public_key] = tuple(introducers)
            if len(self._introducers) > CALLED_PEERS_MAX:
                self._introducers.popitem(last=False)

    async def connect(self, peer: Peer) -> socket.socket:
        """Return a socket that is connected to a peer; raises OSError."""
        through = self._introducers.get(peer.public_key or b"")
        if through is None or ipaddress.ip_address(peer.host).is_private:
            return await connect_directly(peer)
        assert peer.public_key is not None
        if self._dht.dial_back.reachable("tcp").reachable is not Reachable.NO:
            sock = await self._call(peer.public_key, through, Way.REVERSE)
            if sock is not None:
                return sock
        sock = await self._call(peer.public_key, through, Way.PUNCH)
        if sock is None:
            sock = await self._call(peer.public_key, through, Way.RELAY)
        if sock is None:
            self._note_refused(peer.public_key)
            raise ConnectionError(
                f"{peer} is behind a router, and no node between relays for it"
            )
        return sock

    def is_refused(self, public_key: bytes) -> bool:
        """Whether a peer was called in the last minute and no way led to it."""
        return self._refused.get(public_key, 0.0) > time.monotonic()

    def _note_refused(self, public_key: bytes) -> None:
        self._refused.pop(public_key, None)
        self._refused[public_key] = time.monotonic() + FAILED_SECONDS
        if len(self._refused) > CALLED_PEERS_MAX:
            self._refused.popitem(last=False)

    async def _call(
        self, target: bytes, through: Sequence[Contact], way: int
    ) -> socket.socket | None:
        """Have a peer called, and return the connection that comes of it."""
        token = secrets.token_bytes(wire.OPENING_BYTES[wire.MAGIC_REVERSE])
        with self._openings.awaiting(token) as arriving:
            passed_on = await self._dht.introductions.call(
                target, through, port=self.port, token=token, way=way
            )
            if passed_on is None:
                return None
            introducer, port = passed_on
            at = (introducer.address.host, port)
            if way == Way.RELAY:
                return await _open(*at, wire.MAGIC_RELAY, token=token)
            if way == Way.PUNCH:
                return await self._punch(at, token)
            try:
                async with asyncio.timeout(CALL_SECONDS_MAX):
                    return await arriving
            except TimeoutError:
                return None

    async def _punch(self, at: tuple[str, int], token: bytes) -> socket.socket | None:
        """Punch from the listening port; one at a time, as the port is shared."""
        async with self._punching:
            return await punch(self._dht.addresses[0].port, at, token)

    # --- the node that is called -----------------------------------------------

    def called(self, call: CalledBy) -> bool:
        """Take a call; whether this node dials."""
        if not self._guard.begin(call.caller.host, time.monotonic()):
            return False
        self._background.start(self._answer(call), "call")
        return True

    async def _answer(self, call: CalledBy) -> None:
        """Connect to the caller, or to the relay, and serve what is asked there."""
        host, port, magic = call.caller.host, call.port, wire.MAGIC_REVERSE
        if call.way == Way.RELAY:
            host, port = call.introducer.address.host, call.introducer_port
            magic = wire.MAGIC_RELAY
        if call.way == Way.PUNCH:
            at = (call.introducer.address.host, call.introducer_port)
            sock = await self._punch(at, call.token)
        else:
            sock = await _open(host, port, magic, token=call.token)
        self._guard.end(call.caller.host, found=sock is not None, now=time.monotonic())
        if sock is not None:
            self.adopt(sock, (host, port))


async def _open(
    host: str, port: int, magic: bytes, *, token: bytes
) -> socket.socket | None:
    """Connect and say what for; None where that fails in time."""
    loop = asyncio.get_running_loop()
    version = ipaddress.ip_address(host).version
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(CALL_SECONDS_MAX - 1.0):
            await loop.sock_connect(sock, (host, port))
            await loop.sock_sendall(sock, magic + token)
    except (OSError, TimeoutError) as error:
        sock.close()
        _log.debug("%s:%d could not be dialled for a call: %s", host, port, error)
        return None
    except BaseException:
        sock.close()
        raise
    return sock


def _close(sock: socket.socket, address: tuple[str, int]) -> None:
    del address
    sock.close()
