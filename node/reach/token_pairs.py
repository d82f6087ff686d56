"""Pairs of connections: two ends that a call has announced, known by one token.

The relay and the meeting point take the same two steps: a call through this node says
that two connections with a token will come, and what is done with them begins when
both are here. All of it is bounded: how many pairs are awaited, for how long, and how
many are served at once. While all places are taken, the slowest pair gives way if it
had time to show its pace and moves next to nothing: nobody holds a place for nothing.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from transfer.seeding.admission import UploadPace

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from node.background import Background

EXPECT_SECONDS: Final = 10.0
"""Until both ends of a pair have come."""
EXPECTED_MAX: Final = 64
BYTES_PER_SECOND_MIN: Final = 16 * 1024
"""A pair below this gives way when another waits for its place."""


class TokenPairs:
    """Awaits both ends of announced pairs and serves each pair once."""

    def __init__(
        self,
        background: Background,
        serve: Callable[[socket.socket, socket.socket, UploadPace], Awaitable[None]],
        *,
        name: str,
        at_once: int,
    ) -> None:
        """Pass the two sockets of a pair to `serve`, which need not close them.

        `serve` counts what it moves in the pace that it is given.
        """
        self._background = background
        self._serve = serve
        self._name = name
        self._at_once = at_once
        self._expected: dict[bytes, float] = {}
        self._first: dict[bytes, socket.socket] = {}
        self._served: dict[UploadPace, asyncio.Task[None]] = {}
        self.is_open = False
        """Whether pairs are taken at all."""

    def expect(self, token: bytes) -> bool:
        """Announce a pair; whether it will be served."""
        self._forget(time.monotonic())
        if not self.is_open or len(self._expected) >= EXPECTED_MAX:
            return False
        if not self._has_room(time.monotonic()):
            return False
        self._expected[token] = time.monotonic() + EXPECT_SECONDS
        loop = asyncio.get_running_loop()
        loop.call_later(EXPECT_SECONDS + 1, lambda: self._forget(time.monotonic()))
        return True

    def cancel(self, token: bytes) -> None:
        """Expect a pair no longer; the end that has come is closed."""
        self._expected.pop(token, None)
        first = self._first.pop(token, None)
        if first is not None:
            first.close()

    def join(self, token: bytes, sock: socket.socket) -> None:
        """Take one of the two connections with a token."""
        self._forget(time.monotonic())
        if token not in self._expected:
            sock.close()
            return
        other = self._first.pop(token, None)
        if other is None:
            self._first[token] = sock
            return
        del self._expected[token]
        if not self._has_room(time.monotonic()):
            sock.close()
            other.close()
            return
        pace = UploadPace(time.monotonic())
        task = self._background.start(self._run(other, sock, pace), self._name)
        self._served[pace] = task

    def _has_room(self, now: float) -> bool:
        """Whether one more pair can be served; end the slowest one for it."""
        if len(self._served) < self._at_once:
            return True
        judged = [pace for pace in self._served if pace.is_known(now)]
        slowest = min(judged, key=lambda one: one.bytes_per_second(now), default=None)
        if slowest is None or slowest.bytes_per_second(now) >= BYTES_PER_SECOND_MIN:
            return False
        self._served.pop(slowest).cancel()
        return True

    async def _run(
        self, one: socket.socket, other: socket.socket, pace: UploadPace
    ) -> None:
        try:
            await self._serve(one, other, pace)
        finally:
            self._served.pop(pace, None)
            one.close()
            other.close()

    def _forget(self, now: float) -> None:
        """Drop the pairs whose second end did not come in time."""
        for token in [each for each, until in self._expected.items() if until <= now]:
            self.cancel(token)
