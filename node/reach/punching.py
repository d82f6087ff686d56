"""Hole punching: both ends behind routers open a TCP connection at the same moment.

The two ends first connect to an introducer from the port on which they listen. It sees
their outer addresses, tells each the other's, and lets both begin at once: a router
that has just let a SYN out lets the other's SYN in (RFC 5382, simultaneous open). It
learns the round-trip times from the two connections and holds the nearer end back by
half of the difference, because a SYN that comes too early is answered by some routers
with a reset. Three rounds, each with fresh timing.

With symmetric NATs it cannot succeed: there the outer port differs from destination to
destination.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from dht import Address
from transfer.connection import wire

if TYPE_CHECKING:
    from node.background import Background

ROUNDS: Final = 3
ROUND_SECONDS: Final = 1.0
MEETING_SECONDS_MAX: Final = 6.0
EXPECT_SECONDS: Final = 10.0
MEETINGS_MAX: Final = 64
_AGAIN: Final = b"\x00"
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_TCP_INFO_RTT_OFFSET: Final = 68  # of tcpi_rtt in struct tcp_info, in microseconds
_PACKED_BYTES: Final = 7  # family 4, IP and port, as in the DHT

_log = logging.getLogger(__name__)


class MeetingPoint:
    """The introducer's part: tells two ends of each other, at the right moment."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._expected: dict[bytes, float] = {}
        self._first: dict[bytes, socket.socket] = {}
        self.is_open = False
        """Whether this node introduces at all."""

    def expect(self, token: bytes) -> bool:
        """Announce two ends; whether they may meet here."""
        self._forget(time.monotonic())
        if not self.is_open or len(self._expected) >= MEETINGS_MAX:
            return False
        self._expected[token] = time.monotonic() + EXPECT_SECONDS
        loop = asyncio.get_running_loop()
        loop.call_later(EXPECT_SECONDS + 1, lambda: self._forget(time.monotonic()))
        return True

    def join(self, token: bytes, sock: socket.socket) -> None:
        """Take the connection of one of the two ends."""
        self._forget(time.monotonic())
        if token not in self._expected:
            sock.close()
            return
        other = self._first.pop(token, None)
        if other is None:
            self._first[token] = sock
            return
        del self._expected[token]
        self._background.start(self._introduce(other, sock), "meeting")

    def _forget(self, now: float) -> None:
        for token in [each for each, until in self._expected.items() if until <= now]:
            del self._expected[token]
            if (first := self._first.pop(token, None)) is not None:
                first.close()

    async def _introduce(self, one: socket.socket, other: socket.socket) -> None:
        """Lead three rounds, or until an end has closed."""
        with (
            contextlib.closing(one),
            contextlib.closing(other),
            contextlib.suppress(OSError, TimeoutError),
        ):
            async with asyncio.timeout(MEETING_SECONDS_MAX):
                for _ in range(ROUNDS):
                    await self._round(one, other)

    async def _round(self, one: socket.socket, other: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        lead = (_round_trip(one) - _round_trip(other)) / 2
        first, second = (one, other) if lead >= 0 else (other, one)
        # What each is told is the other's outer address; the farther one goes first.
        await loop.sock_sendall(first, _peer(second))
        await asyncio.sleep(min(abs(lead), 0.5))
        await loop.sock_sendall(second, _peer(first))
        for end in (first, second):
            if await loop.sock_recv(end, 1) != _AGAIN:
                raise ConnectionError("an end has closed")


async def punch(port: int, at: tuple[str, int], token: bytes) -> socket.socket | None:
    """Meet the other end through an introducer; None where no round succeeds.

    `port` is the one on which this node listens; the outgoing connections share it.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(MEETING_SECONDS_MAX):
            with contextlib.closing(_from_port(port)) as control:
                await loop.sock_connect(control, at)
                await loop.sock_sendall(control, wire.MAGIC_MEET + token)
                for _ in range(ROUNDS):
                    packed = await _read(control, _PACKED_BYTES)
                    sock = await _open_together(port, _unpack(packed))
                    if sock is not None:
                        return sock
                    await loop.sock_sendall(control, _AGAIN)
    except (OSError, TimeoutError, ValueError) as error:
        _log.debug("no hole could be punched: %s", error)
    return None


async def _open_together(port: int, to: Address) -> socket.socket | None:
    """Open a connection to an end that does the same at this moment."""
    loop = asyncio.get_running_loop()
    sock = _from_port(port)
    try:
        async with asyncio.timeout(ROUND_SECONDS):
            await loop.sock_connect(sock, (to.host, to.port))
    except (OSError, TimeoutError):
        sock.close()
        return None
    except BaseException:
        sock.close()
        raise
    # From now on it closes as any other connection does.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
    return sock


def _from_port(port: int) -> socket.socket:
    """Return a socket of the listening port; closed, it leaves nothing behind."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        sock.bind(("", port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _read(sock: socket.socket, count: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < count:
        part = await loop.sock_recv(sock, count - len(data))
        if not part:
            raise ConnectionError("the introducer has closed")
        data += part
    return data


def _peer(sock: socket.socket) -> bytes:
    host, port = sock.getpeername()[:2]
    return Address(host, port).packed


def _unpack(packed: bytes) -> Address:
    """Read where the other end is; ValueError unless it may be dialled."""
    address = Address(socket.inet_ntoa(packed[1:5]), int.from_bytes(packed[5:], "big"))
    if packed[0] != 4 or not address.dialable:
        raise ValueError("the introducer names an address that is never dialled")
    return address


def _round_trip(sock: socket.socket) -> float:
    """Return the seconds of a connection's round trip; 0 where nothing tells."""
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    (microseconds,) = struct.unpack_from("=I", info, _TCP_INFO_RTT_OFFSET)
    return float(microseconds) / 1e6
