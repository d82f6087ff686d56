"""Hole punching: both ends behind routers open a TCP connection at the same moment.

The two ends first connect to an introducer from the port on which they listen. It sees
their outer addresses, tells each the other's, and lets both begin at once: a router
that has just let a SYN out lets the other's SYN in (RFC 5382, simultaneous open). It
learns the round-trip times from the two connections and holds the nearer end back by
half of the difference, because a SYN that comes too early is answered by some routers
with a reset. Three rounds, each with fresh timing.

The introducer is not believed: each end dials nothing but the IP address at which it
expects the other one, so that a lying introducer can aim it at nobody else.

With symmetric NATs it cannot succeed: there the outer port differs from destination to
destination.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from typing import TYPE_CHECKING, Final

from dht import Address
from node.reach.token_pairs import TokenPairs
from transfer.connection import wire

if TYPE_CHECKING:
    from node.background import Background
    from transfer.seeding.admission import UploadPace

ROUNDS: Final = 3
ROUND_SECONDS: Final = 0.6
"""A round takes one round trip; a SYN that was lost is sent again after 1 s only."""
MEETING_SECONDS_MAX: Final = 4.0
MEETINGS_MAX: Final = 64
_AGAIN: Final = b"\x00"
_NO_LINGER: Final = struct.pack("ii", 1, 0)
_TCP_INFO_RTT_OFFSET: Final = 68  # of tcpi_rtt in struct tcp_info, in microseconds
_PACKED_BYTES: Final = 7  # family 4, IP and port, as in the DHT

_log = logging.getLogger(__name__)


def meeting_point(background: Background) -> TokenPairs:
    """Return what tells two ends of each other; closed until `is_open` is set."""
    return TokenPairs(background, _introduce, name="meeting", at_once=MEETINGS_MAX)


async def _introduce(
    one: socket.socket, other: socket.socket, pace: UploadPace
) -> None:
    """Lead the rounds, until an end has closed."""
    del pace  # a meeting is over before it could be judged
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(MEETING_SECONDS_MAX):
            for _ in range(ROUNDS):
                await _round(one, other)


async def _round(one: socket.socket, other: socket.socket) -> None:
    """Let both ends begin at the same moment, and wait for what comes of it."""
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


async def punch(
    port: int, at: tuple[str, int], token: bytes, *, host: str
) -> socket.socket | None:
    """Meet the other end through an introducer; None where no round succeeds.

    `port` is the one on which this node listens; the outgoing connections share it.
    `host` is the IP address of the other end, the only one that is dialled.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(MEETING_SECONDS_MAX):
            with contextlib.closing(_from_port(port)) as control:
                await loop.sock_connect(control, at)
                await loop.sock_sendall(control, wire.MAGIC_MEET + token)
                for _ in range(ROUNDS):
                    packed = await _read(control, _PACKED_BYTES)
                    sock = await _open_together(port, _unpack(packed, host))
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


def _unpack(packed: bytes, host: str) -> Address:
    """Read where the other end is; ValueError unless it may be dialled there."""
    address = Address(socket.inet_ntoa(packed[1:5]), int.from_bytes(packed[5:], "big"))
    if packed[0] != 4 or not address.dialable or address.host != host:
        raise ValueError(f"the introducer names an address that is not {host}")
    return address


def _round_trip(sock: socket.socket) -> float:
    """Return the seconds of a connection's round trip; 0 where nothing tells."""
    if not hasattr(socket, "TCP_INFO"):
        return 0.0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    (microseconds,) = struct.unpack_from("=I", info, _TCP_INFO_RTT_OFFSET)
    return float(microseconds) / 1e6
