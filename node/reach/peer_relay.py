"""The relay: joins two connections whose ends cannot dial each other.

What passes is TLS between the two ends; the relay reads nothing of it. It joins only
connections whose token a call through this node has announced, and its limits make it
no use as an open proxy: four pairs at a time, 1 MiB/s and 64 MiB each, two minutes
until both ends have come or nothing has passed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from node.background import Background

PAIRS_MAX = 4
BYTES_PER_SECOND = 1 << 20
BYTES_MAX = 64 << 20
EXPECT_SECONDS = 10.0
EXPECTED_MAX = 64
IDLE_SECONDS = 120.0
_SLICE_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class PeerRelay:
    """Expects pairs of connections and joins them."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._expected: dict[bytes, float] = {}
        self._first: dict[bytes, socket.socket] = {}
        self._pairs = 0
        self.is_open = False
        """Whether this node relays at all."""

    def expect(self, token: bytes) -> bool:
        """Announce a pair; whether it will be joined."""
        self._forget(time.monotonic())
        if (
            not self.is_open
            or self._pairs >= PAIRS_MAX
            or len(self._expected) >= EXPECTED_MAX
        ):
            return False
        self._expected[token] = time.monotonic() + EXPECT_SECONDS
        asyncio.get_running_loop().call_later(EXPECT_SECONDS + 1, self._tidy)
        return True

    def join(self, token: bytes, sock: socket.socket) -> None:
        """Take one of two connections with a token."""
        self._forget(time.monotonic())
        if token not in self._expected:
            sock.close()
            return
        other = self._first.pop(token, None)
        if other is None:
            self._first[token] = sock
            return
        del self._expected[token]
        if self._pairs >= PAIRS_MAX:
            sock.close()
            other.close()
            return
        self._pairs += 1
        self._background.start(self._splice(other, sock), "relay")

    def _tidy(self) -> None:
        self._forget(time.monotonic())

    def _forget(self, now: float) -> None:
        """Drop the tokens, and first connections, whose other one did not come."""
        for token in [each for each, until in self._expected.items() if until <= now]:
            del self._expected[token]
            first = self._first.pop(token, None)
            if first is not None:
                first.close()

    async def _splice(self, one: socket.socket, other: socket.socket) -> None:
        """Carry bytes both ways until an end closes or the limits are reached."""
        meter = _Meter()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(one, other, meter))
                tasks.create_task(self._pump(other, one, meter))
        except* (OSError, TimeoutError) as failed:
            _log.debug("a relayed connection ended: %s", failed.exceptions[0])
        finally:
            self._pairs -= 1
            one.close()
            other.close()

    async def _pump(
        self, source: socket.socket, to: socket.socket, meter: _Meter
    ) -> None:
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

    def __init__(self) -> None:
        self._began: float | None = None
        self._bytes = 0

    def wait(self, count: int, now: float) -> float:
        """Count bytes; return for how long to wait before they are sent on."""
        self._began = now if self._began is None else self._began
        self._bytes += count
        if self._bytes > BYTES_MAX:
            raise ConnectionError("the relay's limit is reached")
        due = self._began + self._bytes / BYTES_PER_SECOND
        return max(0.0, due - now)
