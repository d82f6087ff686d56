"""Receiving chunks in a worker thread: ask, receive, verify, write.

One thread serves one lane for as long as chunks flow. It goes back to the
event loop when there is nothing to ask, or when the peer keeps it waiting.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from transfer.connection import wire
from transfer.connection.buffers import own_buffer
from transfer.connection.channel import Pace
from transfer.content import bitmap
from transfer.errors import (
    BadChunkError,
    ClosedError,
    PeerGoneError,
    PeerRefusedError,
    WireError,
)
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from transfer.connection.peer import Peer
    from transfer.connection.rate_limit import RateLimiter
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.peer_state import PeerState
    from transfer.leeching.picker import ChunkPicker
    from transfer.leeching.prefix import PrefixHasher
    from transfer.limits import LeecherLimits
    from transfer.store.partial import Partial


class Outcome(enum.Enum):
    """Why a thread gave a lane back."""

    NO_WORK = enum.auto()
    WAITING = enum.auto()
    BUSY = enum.auto()
    OVER = enum.auto()


@dataclass(slots=True, eq=False)
class PeerRequest:
    """A lane with its connection and the number of its request."""

    connection: Connection
    lane: PeerState
    number: int


@dataclass(slots=True)
class ChunkReceiver:
    """What the threads of one download share."""

    schedule: ChunkPicker
    partial: Partial
    lock: threading.Lock
    """Guards the schedule."""
    over: threading.Event
    rate: RateLimiter
    limits: LeecherLimits
    advanced: Callable[[], None]
    """Called, in the thread, after a chunk was written."""
    hasher: Callable[[], PrefixHasher | None]
    """Returns, under the lock, who hashes what is put together now."""
    hear_pex: Callable[[Peer, bytes], None]
    """Called, in any thread, when a seeder names others that download this."""

    def work(self, line: PeerRequest) -> Outcome:
        """Receive as long as there is something; raises PeerError or OSError."""
        channel = line.connection.channel
        channel.enter_thread(self.limits.pace_window_seconds / 2)
        try:
            return self._receive(line)
        finally:
            channel.leave_thread()

    async def hear(self, line: PeerRequest) -> None:
        """Take a message, on the event loop, that a peer sends unasked."""
        async with asyncio.timeout(self.limits.answer_seconds):
            message = await line.connection.channel.read_frame()
        self._take(line, message)

    def _receive(self, line: PeerRequest) -> Outcome:
        while not self.over.is_set():
            self._ask(line)
            if not line.lane.asked:
                return Outcome.NO_WORK
            message = line.connection.channel.receive_frame(self.limits.wait_seconds)
            if message is None:
                return Outcome.WAITING
            if not self._take(line, message):
                return Outcome.BUSY
        return Outcome.OVER

    def _ask(self, line: PeerRequest) -> None:
        with self.lock:
            picked = self.schedule.pick(line.lane, time.monotonic())
        if picked:
            gets = [wire.encode(wire.Get(line.number, index)) for index in picked]
            line.connection.channel.send(b"".join(gets))

    def _take(self, line: PeerRequest, message: wire.AnyMessage) -> bool:
        """Take one message; False where the peer is busy."""
        match message:
            case wire.Chunk():
                self._take_chunk(line, message)
            case wire.Have():
                self.take_have(line, message)
            case wire.Lacking():
                if line.lane.whole:
                    raise PeerRefusedError("It claims the whole and lacks a part.")
                with self.lock:
                    self.schedule.lacking(line.lane, message.index)
            case wire.PeerExchange():
                self._hear_pex(line, message)
            case wire.Redirect():
                self._ask_elsewhere(line, message)
            case wire.Busy():
                until = time.monotonic() + max(message.seconds, 1)
                with self.lock:
                    self.schedule.drop_asked(line.lane, until)
                return False
            case wire.Bye():
                raise PeerGoneError
            case _:
                raise WireError("The seeder sent a message that nobody asked for.")
        return True

    def take_have(self, line: PeerRequest, message: wire.Have) -> None:
        """Learn what the peer has gained; raises WireError."""
        manifest = line.lane.manifest
        if message.number < line.number:
            return  # of an earlier download over this connection
        if message.number != line.number or message.manifest != manifest.digest:
            raise WireError("The seeder speaks of another artifact.")
        have = None if message.whole else bitmap.unpack(message.bitmap, manifest.count)
        with self.lock:
            self.schedule.update(line.lane, have)

    def _hear_pex(self, line: PeerRequest, message: wire.PeerExchange) -> None:
        """Learn who else downloads this; raises WireError."""
        if message.number > line.number:
            raise WireError("The seeder speaks of another artifact.")
        if message.number == line.number:
            self.hear_pex(line.connection.peer, message.entries)
            with self.lock:
                self.schedule.meet_company()

    def _ask_elsewhere(self, line: PeerRequest, message: wire.Redirect) -> None:
        """Ask others for what they were just given; raises WireError."""
        lane, index = line.lane, message.index
        if message.number != line.number or index not in lane.asked or not lane.whole:
            raise WireError("The seeder did not answer what was asked.")
        if index in lane.declined:
            raise PeerRefusedError("It does not give what it has.")
        given = bitmap.unpack(message.bitmap, lane.manifest.count)
        with self.lock:
            self.schedule.elsewhere(lane, index, given)

    def _take_chunk(self, line: PeerRequest, message: wire.Chunk) -> None:
        lane, index = line.lane, message.index
        if message.number != line.number or index not in lane.asked:
            raise WireError("The seeder sent a chunk that nobody asked for.")
        length = lane.manifest.length(index)
        if message.length != length:
            raise WireError("The seeder sent a chunk of the wrong length.")
        if length <= BUFFER_BYTES:
            self._take_buffered(line, index, length)
        else:
            self._take_streamed(line, index, length)
        with self.lock:
            self.schedule.answered(lane, index, time.monotonic())
        self.rate.take(length)

    def _take_buffered(self, line: PeerRequest, index: int, length: int) -> None:
        """Receive a chunk into memory, verify it, then write it."""
        lane = line.lane
        view = own_buffer()[:length]
        line.connection.channel.receive_into(view, self._pace())
        if blake3(view).digest() != lane.manifest.chunk(index):
            raise BadChunkError(line.number, index)
        with self.lock:
            claimed = self.schedule.claim(lane, index)
            hasher = self.hasher()
        if not claimed:
            return
        offset = lane.manifest.offset(index)
        self.partial.write(offset, view)
        self._written(lane, index)
        if hasher is not None:
            hasher.take(offset, view)
        self.advanced()

    def _take_streamed(self, line: PeerRequest, index: int, length: int) -> None:
        """Receive a chunk that is larger than a buffer.

        It is written part by part and counts only once it is verified whole.
        """
        lane = line.lane
        with self.lock:
            claimed = self.schedule.claim(lane, index)
        try:
            sound = self._stream(line, index, length, write=claimed)
        except BaseException:
            if claimed:
                with self.lock:
                    self.schedule.unclaim(index)
            raise
        if not sound:
            if claimed:
                with self.lock:
                    self.schedule.unclaim(index)
            raise BadChunkError(line.number, index)
        if claimed:
            self._written(lane, index)
            self.advanced()

    def _stream(
        self, line: PeerRequest, index: int, length: int, *, write: bool
    ) -> bool:
        state, pace, buffer = blake3(), self._pace(), own_buffer()
        offset = line.lane.manifest.offset(index)
        end = offset + length
        while offset < end:
            view = buffer[: min(BUFFER_BYTES, end - offset)]
            line.connection.channel.receive_into(view, pace)
            state.update(view)
            if write:
                self.partial.write(offset, view)
            offset += len(view)
        return state.digest() == line.lane.manifest.chunk(index)

    def _written(self, lane: PeerState, index: int) -> None:
        with self.lock:
            if self.schedule.written(lane, index):
                self.partial.mark(index)

    def _pace(self) -> Pace:
        if self.over.is_set():
            raise ClosedError
        return Pace(self.limits.pace_window_seconds, self.limits.bytes_per_second_min)
