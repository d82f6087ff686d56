"""Follows what a peer brings in: its bytes as they come, unverified.

All that is followed at one peer goes over one connection, which ends a while after the
last of it. The rules:

1. A peer that follows the rules says something four times a second, also while it
   waits itself. One that is silent for a second is given up, and one that sends no
   content for five.
2. What peers do not have yet is asked for again within that second: the node that
   holds a lease learns of it a moment after the others do.
3. Silence is counted in short turns of the event loop, and a turn that came late counts
   less: a machine that is busy does not take its own delay for the peer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.errors import (
    AbsentError,
    ClosedError,
    PeerBusyError,
    PeerError,
    PeerGoneError,
    PeerSlowError,
    WireError,
)
from transfer.limits import (
    FOLLOW_SILENCE_SECONDS,
    FOLLOW_STALL_SECONDS,
    WANTS_PER_CONNECTION_MAX,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from transfer.connection.peer import Peer
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.context import LeecherContext

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.125
_AGAIN_SECONDS = 0.05
_QUEUE_MAX = 32  # frames of one follow that wait for their reader
_READ_BYTES = 64 * 1024

_Item = wire.Part | wire.Absent | bytes | PeerError


class Followed:
    """One content that is followed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.size: int | None = None
        """The length of the whole in bytes, as far as the peer says it."""
        self.items: asyncio.Queue[_Item] = asyncio.Queue(_QUEUE_MAX)

    async def next_item(self) -> _Item:
        """Return what comes next; PeerSlowError where nothing does."""
        with contextlib.suppress(asyncio.QueueEmpty):
            return self.items.get_nowait()
        loop = asyncio.get_running_loop()
        getting = asyncio.ensure_future(self.items.get())
        silence = 0.0
        try:
            while silence < FOLLOW_SILENCE_SECONDS:
                began = loop.time()
                done, _pending = await asyncio.wait({getting}, timeout=_TICK_SECONDS)
                if done:
                    return getting.result()
                lateness = (loop.time() - began) / _TICK_SECONDS
                silence += _TICK_SECONDS / max(1.0, lateness) ** 2
        finally:
            getting.cancel()
        raise PeerSlowError


class _Line:
    """The connection to one peer, and all that is followed over it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.followed: dict[int, Followed] = {}
        self.room = asyncio.Semaphore(WANTS_PER_CONNECTION_MAX)
        self.reader: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    async def say(self, message: wire.Message) -> None:
        """Send one message."""
        async with self._writing:
            await self.connection.channel.write(wire.encode(message))

    async def read(self) -> None:
        """Hand out what comes, until the connection fails."""
        error: PeerError = PeerGoneError()
        try:
            while True:
                await self._read_one()
        except (PeerError, OSError) as failure:
            error = failure if isinstance(failure, PeerError) else error
        finally:
            self.connection.channel.close()
            for one in list(self.followed.values()):
                await self._hand(one, error)

    async def _read_one(self) -> None:
        channel = self.connection.channel
        message = await channel.read_frame()
        if isinstance(message, wire.Busy):
            for busy in list(self.followed.values()):
                await self._hand(busy, PeerBusyError(message.seconds))
            return
        if not isinstance(message, wire.Part | wire.Absent):
            raise WireError("The seeder sent a message that answers no follow.")
        one = self.followed.get(message.number)
        if one is not None:
            await self._hand(one, message)
        left = message.length if isinstance(message, wire.Part) else 0
        while left:
            data = await channel.read_some(min(left, _READ_BYTES))
            left -= len(data)
            if one is not None:
                await self._hand(one, data)

    async def _hand(self, one: Followed, item: _Item) -> None:
        """Give an item to a reader that still waits for it."""
        while self.followed.get(one.number) is one:
            try:
                one.items.put_nowait(item)
            except asyncio.QueueFull:
                await asyncio.sleep(0.005)
            else:
                return


class Follower:
    """Follows content at peers; one of each leecher."""

    def __init__(self, context: LeecherContext) -> None:
        self._context = context
        self._lines: dict[Peer, asyncio.Task[_Line]] = {}
        self._closed = False

    async def follow(
        self, peer: Peer, kind: str, name: bytes, *, start: int = 0
    ) -> AsyncGenerator[tuple[bytes, int | None], None]:
        """Yield bytes from `start` on as they come, each with the size of the whole.

        It ends where the peer says that this was all. Raises PeerError or OSError
        where it ends otherwise, ClosedError after `close`.
        """
        line = await self._line(peer)
        async with line.room:
            offset, again = start, FOLLOW_SILENCE_SECONDS
            while True:
                try:
                    coming = self._once(line, kind, name, start=offset)
                    async with contextlib.aclosing(coming):
                        async for data, size in coming:
                            offset += len(data)
                            yield data, size
                except AbsentError:
                    if offset > start or again <= 0:
                        raise
                    again -= _AGAIN_SECONDS
                    await asyncio.sleep(_AGAIN_SECONDS)
                else:
                    return

    async def _once(
        self, line: _Line, kind: str, name: bytes, *, start: int
    ) -> AsyncGenerator[tuple[bytes, int | None], None]:
        """Ask once, and yield what comes."""
        loop = asyncio.get_running_loop()
        one = Followed(next(line.connection.numbers))
        line.followed[one.number] = one
        is_over = False
        try:
            await line.say(wire.Follow(one.number, kind, name, start))
            content_at = loop.time()
            while True:
                item = await one.next_item()
                if isinstance(item, PeerError):
                    raise item
                if isinstance(item, wire.Absent):
                    is_over = True
                    raise AbsentError
                if isinstance(item, wire.Part):
                    one.size = item.size or one.size
                    if item.last:
                        is_over = True
                        return
                    if loop.time() - content_at > FOLLOW_STALL_SECONDS:
                        raise PeerSlowError
                    continue
                content_at = loop.time()
                wait = self._context.rate.reserve(len(item))
                if wait > 0:
                    await asyncio.sleep(wait)
                yield item, one.size
        finally:
            del line.followed[one.number]
            if not is_over:
                with contextlib.suppress(PeerError, OSError):
                    await line.say(wire.Done(one.number))

    async def close(self) -> None:
        """End everything that is followed."""
        self._closed = True
        tasks: list[asyncio.Task[None]] = []
        for opening in self._lines.values():
            opening.cancel()
            if opening.done() and not opening.cancelled() and not opening.exception():
                reader = opening.result().reader
                if reader is not None:
                    reader.cancel()
                    tasks.append(reader)
        await asyncio.gather(*self._lines.values(), *tasks, return_exceptions=True)
        self._lines.clear()

    async def _line(self, peer: Peer) -> _Line:
        """Return the connection to a peer, opened once for all who want it."""
        if self._closed:
            raise ClosedError
        opening = self._lines.get(peer)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(self._open(peer))
            self._lines[peer] = opening
        try:
            async with asyncio.timeout(FOLLOW_SILENCE_SECONDS):
                return await asyncio.shield(opening)
        except TimeoutError:
            raise PeerSlowError from None
        except asyncio.CancelledError:
            if self._closed:
                raise ClosedError from None
            raise

    async def _open(self, peer: Peer) -> _Line:
        try:
            connection = await self._context.connections.open(peer)
        except BaseException:
            self._lines.pop(peer, None)
            raise
        line = _Line(connection)
        line.reader = asyncio.get_running_loop().create_task(line.read())
        line.reader.add_done_callback(lambda task: self._ended(peer, task))
        return line

    def _ended(self, peer: Peer, task: asyncio.Task[None]) -> None:
        self._lines.pop(peer, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("following %s failed", peer, exc_info=error)
