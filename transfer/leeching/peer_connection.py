"""One connection to a peer: all that is said over it for one download.

It turns messages into calls on the assembly and decides nothing itself. The event
loop negotiates and waits; a worker thread receives chunks for as long as they flow,
and gives the connection back when there is nothing to ask or when the peer keeps it
waiting.
"""

from __future__ import annotations

import asyncio
import enum
import time
from typing import TYPE_CHECKING

from blake3 import blake3

from transfer.connection import wire
from transfer.connection.buffers import own_buffer
from transfer.connection.channel import Pace
from transfer.content import bitmap
from transfer.content.digest import Digest
from transfer.errors import (
    AbsentError,
    BadChunkError,
    ClosedError,
    PeerBusyError,
    PeerError,
    PeerGoneError,
    PeerRefusedError,
    WireError,
)
from transfer.limits import BUFFER_BYTES, KEPT_BYTES_MIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from transfer.connection.peer import Peer
    from transfer.content.manifest import Manifest
    from transfer.leeching.assembly import Assembly
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.contender import ChunkClaim
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.picker import PeerState
    from transfer.leeching.wanted import Wanted


_WAIT_SECONDS = 1.0


class Outcome(enum.Enum):
    """Why a thread gave a connection back."""

    NO_WORK = enum.auto()
    WAITING = enum.auto()
    OVER = enum.auto()


class PeerConnection:
    """A connection with one request for the artifact of one download."""

    def __init__(
        self,
        *,
        connection: Connection,
        wanted: Wanted,
        context: LeecherContext,
        assembly: Assembly,
        on_peer_exchange: Callable[[Peer, bytes], None],
        on_first_chunk: Callable[[PeerState], None],
    ) -> None:
        """Take over a connection; both callbacks are called in any thread."""
        self.peer = connection.peer
        self.channel = connection.channel
        self._manifest: Manifest | None = None
        self._have: bytearray | None = None
        self._connection = connection
        self._wanted = wanted
        self._limits = context.limits
        self._rate = context.rate
        self._port = context.port
        self._assembly = assembly
        self._on_peer_exchange = on_peer_exchange
        self._on_first_chunk: Callable[[PeerState], None] | None = on_first_chunk
        self._number = -1
        self._starts: dict[int, int] = {}
        """From which byte on the chunks under way were asked for."""
        self._filled = 0
        self._before_next = 0
        """Bytes of a slow chunk that come before the next one is asked for."""
        self._state: PeerState | None = None

    # Negotiation, on the event loop.

    async def ask_whole(self) -> bytes | None:
        """Ask for a small artifact as a whole; None if the peer has a larger one.

        Raises BadChunkError for other bytes, another PeerError or OSError.
        """
        number = next(self._connection.numbers)
        wanted = self._wanted
        ask = wire.Ask(
            number,
            wanted.digest.algorithm,
            wanted.digest.raw,
            wanted.small_bytes_max,
        )
        async with asyncio.timeout(self._limits.answer_seconds):
            await self.channel.write(wire.encode(ask))
            match await self._answer(number):
                case wire.Whole(number=answered, length=length) if answered == number:
                    if length > wanted.small_bytes_max:
                        raise WireError("The seeder sends more than was asked for.")
                    data = await self.channel.read_exactly(length)
                    if Digest.of(data, wanted.digest.algorithm) != wanted.digest:
                        raise BadChunkError(number, 0)
                    return data
                case wire.Larger(number=answered) if answered == number:
                    return None
                case wire.Absent(number=answered, partial=True) if answered == number:
                    return None
                case message:
                    raise _refusal(message)

    async def negotiate(self, known: Manifest | None) -> Manifest | None:
        """Ask for chunks; return the manifest of those that the peer has.

        `known` is the leading manifest. None if the peer serves only those that name
        its manifest, and none is known here yet. Raises PeerRefusedError,
        FalseManifestError, another PeerError or OSError.
        """
        async with asyncio.timeout(self._limits.answer_seconds):
            return await self._negotiate(known)

    async def _negotiate(self, known: Manifest | None) -> Manifest | None:
        number = self._number = next(self._connection.numbers)
        digest = self._wanted.digest
        want = wire.Want(
            number=number,
            algorithm=digest.algorithm,
            digest=digest.raw,
            manifest=b"" if known is None else known.digest,
            port=self._port,
        )
        await self.channel.write(wire.encode(want))
        manifest, message = known, await self._answer(number)
        if isinstance(message, wire.Listing) and message.number == number:
            manifest = self._wanted.believable(message.encoded)
            message = await self.channel.read_frame()
        if isinstance(message, wire.Absent) and message.partial and known is None:
            return None
        if not isinstance(message, wire.Have) or message.number != number:
            raise _refusal(message)
        if manifest is None or message.manifest != manifest.digest:
            raise WireError("The seeder has chunks of a manifest that it did not give.")
        if not message.whole:
            if manifest is not known:
                raise WireError("The seeder vouches for what it does not have.")
            self._have = bitmap.unpack(message.bitmap, manifest.count)
        self._manifest = manifest
        return manifest

    async def _answer(self, number: int) -> wire.AnyMessage:
        """Read on to what is no late word of an earlier download."""
        while True:
            message = await self.channel.read_frame()
            late = isinstance(message, wire.Have | wire.PeerExchange)
            if not late or message.number >= number:  # type: ignore[union-attr]
                return message

    async def done(self) -> None:
        """Close the request, so that the connection can serve another download."""
        await self.channel.write(wire.encode(wire.Done(self._number)))

    # Waiting, on the event loop.

    def join(self) -> PeerState:
        """Take part in the assembly; FalseManifestError if it was refuted."""
        if self._manifest is None:
            raise RuntimeError("a peer joins after its negotiation")
        self._state = self._assembly.join(
            self.peer,
            manifest=self._manifest,
            have=self._have,
            round_trip=self._connection.round_trip,
        )
        return self._state

    @property
    def state(self) -> PeerState:
        """Its part in the assembly."""
        if self._state is None:
            raise RuntimeError("a peer that has not joined has no part")
        return self._state

    async def pause(self, woken: asyncio.Event) -> None:
        """Wait until the peer says something, or until there is something to ask."""
        readable = asyncio.create_task(self.channel.wait_readable())
        wake = asyncio.create_task(woken.wait())
        try:
            await asyncio.wait((readable, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            readable.cancel()
            wake.cancel()
            await asyncio.gather(readable, wake, return_exceptions=True)
        if readable.done() and not self.state.asked and not woken.is_set():
            async with asyncio.timeout(self._limits.answer_seconds):
                message = await self.channel.read_frame()
            self._hear(message)

    # Receiving, in a worker thread.

    def receive(self) -> Outcome:
        """Ask and receive as long as chunks flow; raises PeerError or OSError."""
        # Short waits, so that bytes of a slow peer are counted while a chunk comes.
        patience = self._limits.pace_window_seconds / 2
        self.channel.enter_thread(min(patience, _WAIT_SECONDS), patience)
        try:
            while not self._assembly.over.is_set():
                self._ask()
                if not self.state.asked:
                    return Outcome.NO_WORK
                message = self.channel.receive_frame(self._limits.wait_seconds)
                if message is None:
                    return Outcome.WAITING
                self._hear(message)
            return Outcome.OVER
        finally:
            self.channel.leave_thread()

    def _ask(self) -> None:
        picked = self._assembly.pick(self.state)
        if picked:
            self._starts.update(
                (index, self._assembly.part_of(self.state, index)) for index in picked
            )
            gets = [
                wire.encode(wire.Get(self._number, index, self._starts[index]))
                for index in picked
            ]
            self.channel.send(b"".join(gets))

    def _hear(self, message: wire.AnyMessage) -> None:
        """Turn a message into a call on the assembly."""
        state, assembly = self.state, self._assembly
        match message:
            case wire.Chunk():
                self._receive_chunk(message)
            case wire.Have():
                self._hear_have(message)
            case wire.Lacking():
                if state.whole:
                    raise PeerRefusedError("It claims the whole and lacks a part.")
                assembly.lacking(state, message.index)
            case wire.PeerExchange():
                self._hear_peers(message)
            case wire.Redirect():
                self._hear_redirect(message)
            case wire.Busy():
                until = time.monotonic() + max(message.seconds, 1)
                assembly.drop_asked(state, until)
            case wire.Bye():
                raise PeerGoneError
            case _:
                raise WireError("The seeder sent a message that nobody asked for.")

    def _hear_have(self, message: wire.Have) -> None:
        manifest = self.state.manifest
        if message.number < self._number:
            return  # of an earlier download over this connection
        if message.number != self._number or message.manifest != manifest.digest:
            raise WireError("The seeder speaks of another artifact.")
        have = None if message.whole else bitmap.unpack(message.bitmap, manifest.count)
        self._assembly.update(self.state, have)

    def _hear_peers(self, message: wire.PeerExchange) -> None:
        if message.number > self._number:
            raise WireError("The seeder speaks of another artifact.")
        if message.number == self._number:
            self._on_peer_exchange(self.peer, message.entries)
            self._assembly.meet_leechers()

    def _hear_redirect(self, message: wire.Redirect) -> None:
        state, index = self.state, message.index
        if (
            message.number != self._number
            or index not in state.asked
            or not state.whole
        ):
            raise WireError("The seeder did not answer what was asked.")
        if index in state.redirected:
            raise PeerRefusedError("It does not give what it has.")
        given = bitmap.unpack(message.bitmap, state.manifest.count)
        self._assembly.redirect(state, index, given)

    # Chunks.

    def _receive_chunk(self, message: wire.Chunk) -> None:
        state, index = self.state, message.index
        if message.number != self._number or index not in state.asked:
            raise WireError("The seeder sent a chunk that nobody asked for.")
        length = state.manifest.length(index)
        start = self._starts.pop(index, 0)
        if message.length != length - start:
            raise WireError("The seeder sent a chunk of the wrong length.")
        ending = state.ending_bytes(length)
        self._before_next = max(message.length - ending, 1) if ending else 0
        if length <= BUFFER_BYTES:
            claim = self._receive_buffered(index, length, start)
        else:
            claim = self._receive_streamed(index, length, start)
        buffered = own_buffer()[:length] if length <= BUFFER_BYTES else None
        self._assembly.arrived(state, index, claim=claim, buffered=buffered)
        if self._on_first_chunk is not None:
            self._on_first_chunk(state)
            self._on_first_chunk = None

    def _receive_buffered(
        self, index: int, length: int, start: int
    ) -> ChunkClaim | None:
        """Receive a chunk into this thread's buffer, verify it, then write it."""
        assembly, state = self._assembly, self.state
        view = own_buffer()[:length]
        if start and not assembly.read_part(state, index, view[:start]):
            self._fill(view[start:])  # its beginning is gone: it is asked for again
            return None
        try:
            self._fill(view[start:])
        except (PeerError, OSError):
            came = start + self._filled
            if came >= KEPT_BYTES_MIN:
                assembly.save_part(state, index, view[:came])
            raise
        if blake3(view).digest() != state.manifest.chunk(index):
            raise BadChunkError(self._number, index)
        claim = assembly.claim(state, index)
        if claim is None:
            return None
        offset = state.manifest.offset(index)
        try:
            assembly.write(claim, offset, view)
        except BaseException:
            assembly.unclaim(claim)
            raise
        assembly.written(claim, state)
        return claim

    def _receive_streamed(
        self, index: int, length: int, start: int
    ) -> ChunkClaim | None:
        """Receive a chunk that is larger than a buffer.

        It is written part by part and counts only once it is verified whole.
        """
        assembly, state = self._assembly, self.state
        claim = assembly.claim(state, index)
        if claim is None or (start and claim.part != (state.source, start)):
            self._drain(length - start)  # it is here by now, or its beginning is gone
            if claim is not None:
                assembly.unclaim(claim)
            return None
        digest, place = blake3(), start
        try:
            claim.hash_part(start, digest.update)
            while place < length:
                view = own_buffer()[: min(BUFFER_BYTES, length - place)]
                self._fill(view)
                digest.update(view)
                assembly.write(claim, state.manifest.offset(index) + place, view)
                place += len(view)
        except BaseException:
            assembly.break_off(claim, state, place)
            raise
        if digest.digest() != state.manifest.chunk(index):
            assembly.unclaim(claim)
            raise BadChunkError(self._number, index)
        assembly.written(claim, state)
        return claim

    def _drain(self, count: int) -> None:
        """Receive bytes that are of no use any more."""
        while count > 0:
            view = own_buffer()[: min(BUFFER_BYTES, count)]
            self._fill(view)
            count -= len(view)

    def _fill(self, view: memoryview) -> None:
        """Receive bytes at the rate that is allowed, and count them as they come."""
        limits, assembly, state = self._limits, self._assembly, self.state
        pace = Pace(limits.pace_window_seconds, limits.bytes_per_second_min)
        step = self._rate.slice_bytes(len(view))
        self._filled = 0
        while view:
            if assembly.over.is_set():
                raise ClosedError
            part = view[: min(step, self._before_next or step)]
            for count in self.channel.receive_parts(part, pace):
                assembly.count_bytes(state, count)
                self._filled += count
            self._rate.acquire(len(part))
            view = view[len(part) :]
            if self._before_next:
                self._before_next -= len(part)
                if not self._before_next:
                    state.is_ending = True
                    self._ask()


def _refusal(message: wire.AnyMessage) -> PeerError:
    """Return the error that says why the answer is not what was hoped for."""
    match message:
        case wire.Absent():
            return AbsentError()
        case wire.Busy():
            return PeerBusyError(message.seconds)
        case wire.Bye():
            return PeerGoneError()
        case _:
            return WireError("The seeder did not answer what was asked.")
