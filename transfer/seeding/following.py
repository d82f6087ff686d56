"""Sends what this node brings in to leechers that follow it, as it comes.

One `Following` is one `wire.Follow` of a connection. It has news when more has come,
when the end is known, or when its peer has heard nothing for a while.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.arrivals import Arrival
from transfer.connection import wire
from transfer.errors import StoreError, WireError
from transfer.growing_file import GrowingFile
from transfer.limits import (
    FOLLOW_ALIVE_SECONDS,
    FOLLOW_PART_BYTES_MAX,
    WANTS_PER_CONNECTION_MAX,
)

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from transfer.arrivals import Arrivals
    from transfer.content.digest import Digest
    from transfer.store.store import Store


@dataclass(slots=True, eq=False)
class Following:
    """What one leecher follows, and how far it was sent."""

    number: int
    arrival: Arrival
    offset: int
    sent_at: float = 0.0
    is_over: bool = False
    """Whether the end was said, so that there is nothing left to say."""

    def is_due(self, now: float) -> bool:
        """Whether there is something to say at `now`, in monotonic seconds."""
        file = self.arrival.file
        if self.arrival.has_failed or now - self.sent_at >= FOLLOW_ALIVE_SECONDS:
            return True
        return file is not None and (file.length > self.offset or file.ended)

    def parts(self, now: float) -> Iterator[bytes]:
        """Yield frames with what has come, or with nothing, so that the peer waits."""
        self.sent_at = now
        file = self.arrival.file
        if file is None:
            self.is_over = self.arrival.has_failed
            yield wire.encode(
                wire.Absent(self.number, partial=False)
                if self.is_over
                else wire.Part(self.number, 0, 0, last=False)
            )
            return
        sent = 0
        while count := min(file.length - self.offset, FOLLOW_PART_BYTES_MAX):
            if count < 0:
                break
            data = file.read(self.offset, count)
            self.offset += len(data)
            sent += len(data)
            yield self._part(file.size, data)
            if not data:
                break
        if file.ended and file.error is not None:
            self.is_over = True
            yield wire.encode(wire.Absent(self.number, partial=False))
        # Only after all bytes: more may have come since the loop ended.
        elif file.ended and self.offset >= file.length:
            self.is_over = True
            yield wire.encode(wire.Part(self.number, file.size, 0, last=True))
        elif not sent:
            yield self._part(file.size, b"")

    def _part(self, size: int, data: bytes) -> bytes:
        head = wire.Part(self.number, size, len(data), last=False)
        return wire.encode(head) + data


class Followable:
    """What leechers may follow: arrivals, and artifacts held whole; in any thread."""

    def __init__(
        self,
        arrivals: Arrivals,
        *,
        store: Store,
        may_serve: Callable[[Digest, bool], bool],
        stop: threading.Event,
    ) -> None:
        self._arrivals = arrivals
        self._store = store
        self._may_serve = may_serve
        self._stop = stop

    def find(self, follow: wire.Follow) -> Arrival | None:
        """Return what is asked for; None where there is none, or it may not be had."""
        digest = follow.digest
        arrival = self._arrivals.find(follow.kind, follow.name)
        if arrival is not None:
            # Judged again here: what a private upstream gave is for nobody else.
            may = digest is None or self._may_serve(digest, False)
            return arrival if may else None
        artifact = None if digest is None else self._store.find(digest)
        if artifact is None or not self._may_serve(artifact.digest, True):
            return None
        try:
            descriptor = self._store.open_checked(artifact, self._stop)
        except StoreError:
            return None
        try:
            file = GrowingFile(descriptor, artifact.size)
        finally:
            os.close(descriptor)
        file.finish()
        held = Arrival()
        held.begin(file)
        return held


class Followings:
    """All that one connection follows; in the thread that serves it."""

    def __init__(
        self,
        followable: Followable,
        *,
        begin_want: Callable[[int], bool],
        end_want: Callable[[], None],
        count: Callable[[int], None],
        busy_seconds: int,
    ) -> None:
        """`begin_want(own)` says whether a connection with `own` wants has one more.

        `count` gets how many bytes are sent.
        """
        self._followable = followable
        self._begin_want = begin_want
        self._end_want = end_want
        self._count = count
        self._busy_seconds = busy_seconds
        self._all: dict[int, Following] = {}
        self.wake: Callable[[], None] = _nothing
        """Called on the event loop when there is news."""

    def __len__(self) -> int:
        return len(self._all)

    def has_news(self, now: float) -> bool:
        """Whether there is something to say."""
        return any(one.is_due(now) for one in list(self._all.values()))

    def begin(self, follow: wire.Follow, wants: int) -> Iterator[bytes]:
        """Answer a follow of a connection that has so many wants beside."""
        number, now = follow.number, time.monotonic()
        open_now = wants + len(self._all)
        if number in self._all or open_now >= WANTS_PER_CONNECTION_MAX:
            raise WireError("The leecher follows too much at once.")
        # A place is taken before anything is opened: refusing costs no descriptor.
        if not self._begin_want(open_now):
            yield wire.encode(wire.Busy(self._busy_seconds))
            return
        arrival = self._followable.find(follow)
        if arrival is None:
            self._end_want()
            yield wire.encode(wire.Absent(number, partial=False))
            return
        # Watched before the first read, so that nothing comes unnoticed in between.
        arrival.watchers.add(self.wake)
        self._all[number] = Following(number, arrival, follow.start)
        yield from self._give(number, now)

    def news(self, now: float) -> Iterator[bytes]:
        """Yield what has come of all that is followed."""
        # A copy: what is over removes itself.
        for number, one in list(self._all.items()):
            if one.is_due(now):
                yield from self._give(number, now)

    def end(self, number: int) -> None:
        """Forget what nobody follows any more."""
        one = self._all.pop(number, None)
        if one is not None:
            one.arrival.watchers.discard(self.wake)
            self._end_want()

    def close(self) -> None:
        """Forget all."""
        for number in list(self._all):
            self.end(number)

    def _give(self, number: int, now: float) -> Iterator[bytes]:
        one = self._all[number]
        before = one.offset
        for part in one.parts(now):
            self._count(one.offset - before)
            before = one.offset
            yield part
        if one.is_over:
            self.end(number)


def _nothing() -> None:
    """Wake nobody."""
