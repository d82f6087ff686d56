"""Connections that open no conversation with the seeder: dial-backs and calls.

The seeder hands on the socket of each connection that begins with another magic; the
bytes behind it say which of this node's undertakings it belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from typing import TYPE_CHECKING

from node.reach.peer_relay import peer_relay
from node.reach.punching import meeting_point
from transfer.connection import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from node.background import Background
    from transfer.connection.handshake import OpeningReceived

DIAL_SECONDS_MAX = 3.0

_log = logging.getLogger(__name__)


def _nobody_waits(nonce: bytes, host: str) -> None:
    del nonce, host


class Openings:
    """Takes such connections, and opens them for others."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._awaited: dict[bytes, asyncio.Future[socket.socket]] = {}
        self.relay = peer_relay(background)
        self.meeting_point = meeting_point(background)
        self.on_dial_back: Callable[[bytes, str], object] = _nobody_waits
        """Gets the nonce of a dial-back and the IP address that it came from."""

    def received(self, opening: OpeningReceived, host: str) -> None:
        """Take the socket of a connection from an IP address."""
        if opening.magic == wire.MAGIC_RELAY:
            self.relay.join(opening.token, opening.sock)
            return
        if opening.magic == wire.MAGIC_MEET:
            self.meeting_point.join(opening.token, opening.sock)
            return
        arriving = self._awaited.get(opening.token)
        if opening.magic == wire.MAGIC_REVERSE and arriving is not None:
            if not arriving.done():
                arriving.set_result(opening.sock)
                return
        elif opening.magic == wire.MAGIC_DIAL_BACK:
            self.on_dial_back(opening.token, host)
        opening.sock.close()

    def cancel(self, token: bytes) -> None:
        """Expect the two ends of a call no longer, because the called node refused."""
        self.relay.cancel(token)
        self.meeting_point.cancel(token)

    @contextlib.contextmanager
    def awaiting(self, token: bytes) -> Iterator[asyncio.Future[socket.socket]]:
        """Await the connection that begins with a token, while the block runs."""
        arriving: asyncio.Future[socket.socket]
        arriving = asyncio.get_running_loop().create_future()
        self._awaited[token] = arriving
        try:
            yield arriving
        finally:
            del self._awaited[token]
            arriving.cancel()

    def dial_back(self, host: str, port: int, nonce: bytes) -> None:
        """Open a connection for another node, send its nonce and close it."""
        self._background.start(self._dial_back(host, port, nonce), "dial-back")

    async def _dial_back(self, host: str, port: int, nonce: bytes) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(DIAL_SECONDS_MAX):
                sock = await open_with((host, port), wire.MAGIC_DIAL_BACK + nonce)
                sock.close()


async def open_with(at: tuple[str, int], opening: bytes) -> socket.socket:
    """Connect to an IP address and port, and say what for; raises OSError."""
    loop = asyncio.get_running_loop()
    version = ipaddress.ip_address(at[0]).version
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, at)
        await loop.sock_sendall(sock, opening)
    except BaseException:
        sock.close()
        raise
    return sock
