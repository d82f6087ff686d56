"""The relay: joins two connections whose ends cannot dial each other.

What passes is TLS between the two ends; the relay reads nothing of it. It joins only
connections whose token a call through this node has announced, and its limits make it
no use as an open proxy: four pairs at a time, 1 MiB/s and 64 MiB each, two minutes
in which nothing passes. While all four are taken, one that moves less than 16 KiB/s
gives way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from node.reach.token_pairs import TokenPairs

if TYPE_CHECKING:
    import socket

    from node.background import Background
    from transfer.seeding.admission import UploadPace

PAIRS_MAX: Final = 4
BYTES_PER_SECOND: Final = 1 << 20
BYTES_MAX: Final = 64 << 20
IDLE_SECONDS: Final = 120.0
_SLICE_BYTES: Final = 64 * 1024
_JOINED: Final = b"\x00"  # to both ends when both have come; what follows is theirs

_log = logging.getLogger(__name__)


def peer_relay(background: Background) -> TokenPairs:
    """Return what joins pairs of connections; closed until `is_open` is set."""
    return TokenPairs(background, _splice, name="relay", at_once=PAIRS_MAX)


async def joined(sock: socket.socket) -> None:
    """Wait, as one end, until the other has come; OSError where it does not."""
    if await asyncio.get_running_loop().sock_recv(sock, 1) != _JOINED:
        raise ConnectionError("the relay has closed")


async def _splice(one: socket.socket, other: socket.socket, pace: UploadPace) -> None:
    """Carry bytes both ways until an end closes or the limits are reached."""
    meter = _Meter(pace)
    loop = asyncio.get_running_loop()
    try:
        for end in (one, other):
            await loop.sock_sendall(end, _JOINED)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_pump(one, other, meter))
            tasks.create_task(_pump(other, one, meter))
    except* (OSError, TimeoutError) as failed:
        _log.debug("a relayed connection ended: %s", failed.exceptions[0])


async def _pump(source: socket.socket, to: socket.socket, meter: _Meter) -> None:
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_SLICE_BYTES))
    while True:
        async with asyncio.timeout(IDLE_SECONDS):
            count = await loop.sock_recv_into(source, buffer)
        if not count:
            raise ConnectionError("one end has closed")
        await asyncio.sleep(meter.wait(count, time.monotonic()))
        async with asyncio.timeout(IDLE_SECONDS):
            await loop.sock_sendall(to, buffer[:count])


class _Meter:
    """The rate and the total of one pair, both directions together."""

    def __init__(self, pace: UploadPace) -> None:
        self._pace = pace
        self._began: float | None = None
        self._bytes = 0

    def wait(self, count: int, now: float) -> float:
        """Count bytes; return for how long to wait before they are sent on."""
        self._began = now if self._began is None else self._began
        self._bytes += count
        self._pace.add(count)
        self._pace.tick(now)
        if self._bytes > BYTES_MAX:
            raise ConnectionError("the relay's limit is reached")
        due = self._began + self._bytes / BYTES_PER_SECOND
        return max(0.0, due - now)
