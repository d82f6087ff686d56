"""Many small artifacts over one connection, in one worker thread.

The thread asks for all that is wanted before it reads the first answer. What has
come is verified where it lies in the buffer, written to a file, and committed with
its neighbours; while a group is on its way to the disk, the next answers arrive.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.connection import wire
from transfer.content.digest import NAME_ALGORITHM, Digest
from transfer.content.hashing import Contents
from transfer.content.manifest import Manifest
from transfer.errors import (
    AbsentError,
    BadChunkError,
    LargerError,
    PeerBusyError,
    PeerError,
    PeerGoneError,
    PeerSlowError,
    StoreError,
    WireError,
)
from transfer.limits import ASKS_AT_ONCE_MAX, GROUP_ARTIFACTS_MAX
from transfer.store.commit import CommitGroup

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from transfer.content.artifact import Artifact
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.context import LeecherContext

    Outcome = Artifact | StoreError | PeerError | None
    """None where it has to be fetched in another way."""

_BUFFER_BYTES = 768 * 1024  # more than twice the largest answer
_ROOM_BYTES_MIN = 384 * 1024
_FRAME_BYTES_MAX = 4096
_GROUP_MIN = 8
_GROUP_SECONDS = 0.05
_LINGER_SECONDS = 0.02


@dataclass(slots=True, eq=False)
class SmallRequest:
    """A small artifact to be asked for, and the callers that wait for it."""

    digest: Digest
    bytes_max: int
    waiting: list[asyncio.Future[Outcome]] = field(default_factory=list)
    number: int = 0
    tries: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(one.cancelled() for one in self.waiting)


class SmallBatch:
    """One turn of a worker thread with one connection."""

    def __init__(
        self,
        connection: Connection,
        *,
        orders: queue.SimpleQueue[list[SmallRequest]],
        context: LeecherContext,
        deliver: Callable[[list[tuple[SmallRequest, Outcome]]], None],
    ) -> None:
        self._connection = connection
        self._channel = connection.channel
        self._orders = orders
        self._rate = context.rate
        self._activity = context.store.activity
        self._silence_seconds = context.limits.small_silence_seconds
        self._answer_seconds = context.limits.small_answer_seconds
        self._deliver = deliver
        self._unasked: deque[SmallRequest] = deque()
        self._owed: deque[SmallRequest] = deque()
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._start = self._end = 0
        self._waited = 0.0
        self._is_larger = False
        self._first = 2**32
        """The number of the first ask; what is lower is of an earlier download."""
        self._group = CommitGroup(context.store.committer)
        self._grouped: list[SmallRequest] = []
        self._grouped_at = 0.0

    def run(self) -> None:
        """Ask and receive until nothing more is ordered for a moment.

        Raises PeerError, TransferError or OSError; what was verified until then
        has been committed and delivered, and `left` returns what was not.
        """
        self._channel.enter_thread(self._silence_seconds)
        try:
            with self._group:
                try:
                    self._converse()
                finally:
                    self._commit()
        finally:
            self._channel.leave_thread()

    def left(self) -> list[SmallRequest]:
        """Return what was taken on and not answered."""
        return [*self._owed, *self._unasked]

    def _converse(self) -> None:
        while self._receive_orders():
            self._ask()
            if self._owed and not self._read_answers():
                self._receive()
            if self._is_due():
                self._commit()
        if self._start != self._end:
            raise WireError("The seeder sent more than was asked for.")

    def _receive_orders(self) -> bool:
        """Take what is ordered; False where nothing is, nor was for a moment."""
        orders = self._orders
        with contextlib.suppress(queue.Empty):
            while not orders.empty():
                self._unasked.extend(orders.get_nowait())
        if self._owed or self._unasked:
            self._is_larger = False
            return True
        self._commit()
        if self._is_larger:
            return False  # its connection is needed at once
        try:
            self._unasked.extend(orders.get(timeout=_LINGER_SECONDS))
        except queue.Empty:
            return False
        return True

    def _ask(self) -> None:
        """Ask for as much as may be asked for at once."""
        frames = []
        given_up: list[tuple[SmallRequest, Outcome]] = []
        while self._unasked and len(self._owed) < ASKS_AT_ONCE_MAX:
            request = self._unasked.popleft()
            if request.is_given_up:
                given_up.append((request, None))
                continue
            request.number = next(self._connection.numbers)
            self._first = min(self._first, request.number)
            digest = request.digest
            frames.append(
                wire.encode(
                    wire.Ask(
                        request.number, digest.algorithm, digest.raw, request.bytes_max
                    )
                )
            )
            self._owed.append(request)
        if given_up:
            self._deliver(given_up)
        if frames:
            self._channel.send(b"".join(frames))

    def _receive(self) -> None:
        """Receive what there is; PeerSlowError where an answer takes too long."""
        if len(self._view) - self._end < _ROOM_BYTES_MIN:
            left = self._end - self._start
            self._view[:left] = self._view[self._start : self._end]
            self._start, self._end = 0, left
        room = self._rate.slice_bytes(len(self._view) - self._end)
        began = time.monotonic()
        count = self._channel.receive_some(self._view[self._end : self._end + room])
        self._waited += time.monotonic() - began
        if self._waited > self._answer_seconds:
            raise PeerSlowError
        self._end += count
        self._activity.mark()
        self._rate.acquire(count)

    def _read_answers(self) -> bool:
        """Take in what has come, until a group is due; whether anything had."""
        view, end, began = self._view, self._end, self._start
        while end - self._start >= wire.LENGTH_BYTES:
            body = self._start + wire.LENGTH_BYTES
            length = wire.body_length(view[self._start : body], _FRAME_BYTES_MAX)
            data = body + length
            if data > end:
                break
            message = wire.decode(view[body:data])
            if isinstance(message, wire.Whole):
                request = self._head(message.number)
                if message.length > request.bytes_max:
                    raise WireError("The seeder sends more than was asked for.")
                if data + message.length > end:
                    break
                self._start = data + message.length
                self._verify_and_write(request, view[data : self._start])
            else:
                self._start = data
                self._hear(message)
            if self._is_due():
                break
        if self._start != began:
            self._waited = 0.0
        return self._start != began

    def _head(self, number: int) -> SmallRequest:
        """Return the request that is to be answered next."""
        if not self._owed or self._owed[0].number != number:
            raise WireError("The seeder answers what was not asked now.")
        return self._owed[0]

    def _hear(self, message: wire.AnyMessage) -> None:
        """Take in an answer that brings no bytes."""
        match message:
            case wire.Absent():
                request = self._head(message.number)
                self._end_request(request, AbsentError())
            case wire.Larger():
                request = self._head(message.number)
                self._is_larger = True
                self._end_request(request, LargerError())
            case wire.Busy():
                raise PeerBusyError(message.seconds)
            case wire.Bye():
                raise PeerGoneError
            case wire.Have() | wire.PeerExchange() if message.number < self._first:
                pass  # of a download that has just ended
            case _:
                raise WireError("The seeder did not answer what was asked.")

    def _end_request(self, request: SmallRequest, outcome: Outcome) -> None:
        self._owed.popleft()
        self._deliver([(request, outcome)])

    def _verify_and_write(self, request: SmallRequest, data: memoryview) -> None:
        """Verify an artifact and write it to a file of the group."""
        asked = request.digest
        if Digest.of(data, asked.algorithm) != asked:
            wrong = BadChunkError(request.number, 0)
            self._end_request(request, wrong)
            raise wrong
        digests = {asked.algorithm: asked}
        if asked.algorithm != NAME_ALGORITHM:
            digests[NAME_ALGORITHM] = Digest.of(data)
        try:
            self._group.add(data, Contents(digests, Manifest.of(data)))
        except StoreError as error:
            self._end_request(request, error)
            return
        self._owed.popleft()
        if not self._grouped:
            self._grouped_at = time.monotonic()
        self._grouped.append(request)

    def _is_due(self) -> bool:
        """Whether the group should be committed now.

        Half of what is wanted at a time, so that its callers can want more while
        the other half arrives.
        """
        count = len(self._grouped)
        return count > 0 and (
            count >= GROUP_ARTIFACTS_MAX
            or count >= max(_GROUP_MIN, len(self._owed))
            or not self._owed
            or time.monotonic() - self._grouped_at > _GROUP_SECONDS
        )

    def _commit(self) -> None:
        """Commit the group; where that fails for many, each is tried on its own."""
        if not self._grouped:
            return
        requests, self._grouped = self._grouped, []
        outcomes: list[Outcome]
        try:
            outcomes = list(self._group.commit())
        except StoreError as error:
            outcomes = [error] if len(requests) == 1 else [None] * len(requests)
        self._deliver(list(zip(requests, outcomes, strict=True)))
