"""Pairs of connections: two ends that a call has announced, known by one token.

The relay and the meeting point take the same two steps: a call through this node says
that two connections with a token will come, and what is done with them begins when
both are here. All of it is bounded: how many pairs are awaited, for how long, and how
many are served at once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from node.background import Background

EXPECT_SECONDS: Final = 10.0
"""Until both ends of a pair have come."""
EXPECTED_MAX: Final = 64


class TokenPairs:
    """Awaits both ends of announced pairs and serves each pair once."""

    def __init__(
        self,
        background: Background,
        serve: Callable[[socket.socket, socket.socket], Awaitable[None]],
        *,
        name: str,
        at_once: int,
    ) -> None:
        """Pass the two sockets of a pair to `serve`, which need not close them."""
        self._background = background
        self._serve = serve
        self._name = name
        self._at_once = at_once
        self._expected: dict[bytes, float] = {}
        self._first: dict[bytes, socket.socket] = {}
        self._served = 0
        self.is_open = False
        """Whether pairs are taken at all."""

    def expect(self, token: bytes) -> bool:
        """Announce a pair; whether it will be served."""
        self._forget(time.monotonic())
        if (
            not self.is_open
            or self._served >= self._at_once
            or len(self._expected) >= EXPECTED_MAX
        ):
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
        if self._served >= self._at_once:
            sock.close()
            other.close()
            return
        self._served += 1
        self._background.start(self._run(other, sock), self._name)

    async def _run(self, one: socket.socket, other: socket.socket) -> None:
        try:
            await self._serve(one, other)
        finally:
            self._served -= 1
            one.close()
            other.close()

    def _forget(self, now: float) -> None:
        """Drop the pairs whose second end did not come in time."""
        for token in [each for each, until in self._expected.items() if until <= now]:
            self.cancel(token)
