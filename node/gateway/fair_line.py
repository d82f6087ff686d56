"""The line to the origins, shared fairly between those for whom files are fetched.

At most so many downloads run at once. While all turns are taken, the next one goes to
the client with the fewest downloads under way, and among equals to the one that has
waited for longest: a client that asks for hundreds of files takes no more of the line
than one that asks for a few. Clients are those of a site door; the owner's own
requests, and what the node does by itself, count as one more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextvars import ContextVar

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""For whom a file is fetched: the address of a site door's client."""


class FairLine:
    """Turns on the line to the origins."""

    def __init__(self, turns: int) -> None:
        self._free = turns
        self._under_way: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn, and give it back."""
        await self._acquire(client)
        try:
            yield
        finally:
            self._give_back(client)

    async def _acquire(self, client: str) -> None:
        if self._free:
            self._begin(client)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (client, granted)
        self._waiting.append(waiting)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._give_back(client)
            else:
                self._waiting.remove(waiting)
            raise

    def _begin(self, client: str) -> None:
        self._free -= 1
        self._under_way[client] += 1

    def _give_back(self, client: str) -> None:
        self._free += 1
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client]
        if self._waiting:
            chosen = min(self._waiting, key=lambda one: self._under_way[one[0]])
            self._waiting.remove(chosen)
            self._begin(chosen[0])
            chosen[1].set_result(None)
