"""An upload session: what a seeder does with one connection.

A session runs in a worker thread for as long as it makes progress, and never waits
there for its peer. The rules:

1. A thread is lent when a complete request has come, or when the peer has made room
   for the rest of an answer; the event loop watches for both.
2. Answers are generators of parts. A part that does not fit into the socket stays
   until the peer has read; no further request is taken up before that.
3. A turn ends after `turn_seconds` if others wait, however fast the peer is.
4. Before it hands back its thread, a session waits a few milliseconds for its peer:
   a fast peer is always back by then, and a slow one costs no more than that.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.connection import peer_exchange, wire
from transfer.connection.buffers import PART_BYTES, own_buffer
from transfer.errors import (
    ClosedError,
    DamagedError,
    NotHeldError,
    StoreError,
    WireError,
)
from transfer.limits import ASKS_AT_ONCE_MAX, WANTS_PER_CONNECTION_MAX
from transfer.seeding.admission import UploadPace
from transfer.seeding.complaints import Complaints
from transfer.seeding.following import Followable, Followings
from transfer.seeding.offer import Offer
from transfer.seeding.parts import FilePart, HeadPart, Part, rest_of
from transfer.seeding.small import SmallResponder
from transfer.seeding.superseeding import SeedingSwarms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transfer.connection.channel import Channel
    from transfer.connection.rate_limit import RateLimiter
    from transfer.content.digest import Digest
    from transfer.limits import SeederLimits
    from transfer.seeding.served_files import ServedFiles
    from transfer.store.partial import Partial
    from transfer.store.store import Store

log = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What a session needs next."""

    IDLE = enum.auto()
    """A request."""
    BLOCKED = enum.auto()
    """Its peer has to read."""
    AGAIN = enum.auto()
    """A thread: its turn is over."""
    CLOSE = enum.auto()


class Uploads:
    """What all sessions of a seeder share; in any thread."""

    def __init__(
        self,
        *,
        store: Store,
        files: ServedFiles,
        limits: SeederLimits,
        rate: RateLimiter,
        stop: threading.Event,
        waiting: Callable[[], int],
        may_serve: Callable[[Digest, bool], bool],
        name_of: Callable[[Digest], str],
        on_crowded: Callable[[str], None],
        followable: Followable,
    ) -> None:
        """`on_crowded(source)` is called when a want of it found no room."""
        self.store = store
        self.files = files
        self.limits = limits
        self.rate = rate
        self.stop = stop
        self.waiting = waiting
        self.may_serve = may_serve
        self.on_crowded = on_crowded
        self.followable = followable
        self.small = SmallResponder(store, may_serve, name_of)
        self.complaints = Complaints(store, limits.complaint_seconds)
        self.swarms = SeedingSwarms()
        self.chunks_sent = 0
        self.bytes_sent = 0
        self._lock = threading.Lock()
        self._wants: Counter[str] = Counter()

    @property
    def is_crowded(self) -> bool:
        """Whether so many connections wait for a thread that wants are put off."""
        return self.waiting() > self.limits.waiting_max

    def count(self, length: int) -> None:
        """Count one chunk of `length` bytes."""
        with self._lock:
            self.chunks_sent += 1
            self.bytes_sent += length

    def count_bytes(self, length: int) -> None:
        """Count bytes that were sent of no chunk."""
        with self._lock:
            self.bytes_sent += length

    def begin_want(self, source: str, own: int) -> bool:
        """Count a want of a connection that has `own`; False if it may have no more.

        A source may have as many as it leaves free for others: one alone takes half
        of the room, and a newcomer always finds some. A connection may have a few
        in any case, and many while its source has not got many.
        """
        limits = self.limits
        with self._lock:
            free = limits.wants_max - self._wants.total()
            has = self._wants[source]
            if has < free and (own < limits.wants_sure or has < limits.wants_eager_max):
                self._wants[source] += 1
                return True
            if not self._wants[source]:
                del self._wants[source]
        self.on_crowded(source)
        return False

    def end_want(self, source: str) -> None:
        """Forget a want."""
        with self._lock:
            self._wants[source] -= 1
            if not self._wants[source]:
                del self._wants[source]


@dataclass(slots=True, eq=False)
class UploadSession:
    """One connection of a seeder."""

    channel: Channel
    uploads: Uploads
    source: str
    label: str
    """Its address, for people."""
    host: str
    public_key: bytes
    """What the leecher says is its key."""
    pace: UploadPace
    offers: dict[int, Offer] = field(default_factory=dict)
    given: dict[int, Digest] = field(default_factory=dict)
    """The small artifacts sent last, by the numbers of the asks."""
    active_at: float = 0.0
    frame_since: float | None = None
    """Since when a request has been incomplete."""
    is_blocked: bool = False
    followings: Followings = field(init=False)
    _replies: Iterator[Part] = field(default_factory=lambda: iter(()))
    _part: Part | None = None
    _message: wire.AnyMessage | None = None
    """A request that was read behind others and not yet answered."""
    _granted: int = 0
    """Bytes that the rate allows and that did not fit into the socket."""
    _closes: bool = False

    def __post_init__(self) -> None:
        uploads, source = self.uploads, self.source
        self.followings = Followings(
            uploads.followable,
            begin_want=lambda own: uploads.begin_want(source, own),
            end_want=lambda: uploads.end_want(source),
            count=uploads.count_bytes,
            busy_seconds=uploads.limits.busy_seconds,
        )

    def close(self) -> None:
        """Close the connection and every file that it wants."""
        self.channel.close()
        for number in list(self.offers):
            self._end_offer(number)
        self.followings.close()

    def has_news(self, now: float, have_seconds: float) -> bool:
        """Whether there is something to say that the peer did not ask for."""
        if self.followings.has_news(now):
            return True
        return any(
            offer.is_due(now, have_seconds)
            or (offer.swarm_peer is not None and offer.swarm_peer.has_news(now))
            for offer in self.offers.values()
        )

    def serve(self) -> Verdict:
        """Serve one turn; raises PeerError, TransferError or OSError."""
        uploads, limits = self.uploads, self.uploads.limits
        began = time.monotonic()
        while not uploads.stop.is_set():
            # Answers leave before the next request is read: a peer that asks and does
            # not read fills its own socket, and no memory of ours.
            if not self._flush():
                return Verdict.BLOCKED
            if self._closes:
                return Verdict.CLOSE
            over = time.monotonic() - began > limits.turn_seconds
            if over and uploads.waiting():
                return Verdict.AGAIN
            now = time.monotonic()
            if self.has_news(now, limits.have_seconds):
                self.active_at = now if self.followings else self.active_at
                self._replies = self._news(now)
                continue
            # News of what is followed comes to the event loop, not to this thread.
            is_watched = bool(uploads.waiting() or self.followings)
            linger = 0.0 if is_watched else limits.linger_seconds
            message = self._message or self._next_message(linger)
            self._message = None
            if message is None:
                return Verdict.IDLE
            self.active_at = now
            uploads.store.activity.mark()
            self._replies = self._answer(message)
        return Verdict.CLOSE

    def _next_message(self, linger: float) -> wire.AnyMessage | None:
        """Return the next request, or None if none is whole within `linger` seconds."""
        channel, until = self.channel, time.monotonic() + linger
        while (message := channel.next_frame()) is None:
            left = until - time.monotonic()
            # Single bytes, and what only TLS reads, lend nobody a thread for longer.
            if not channel.read_available() and (
                left < 0 or not channel.wait(left, write=False)
            ):
                return None
            if left < 0:
                return channel.next_frame()
        return message

    # Sending.

    def _flush(self) -> bool:
        """Send what is due; False if the peer has to read before that is possible."""
        while True:
            if self._part is None:
                self._part = next(self._replies, None)
                if self._part is None:
                    return True
            if not self._send(self._part):
                return False

    def _send(self, part: Part) -> bool:
        """Send a part, or leave the rest of it in `_part` and return False."""
        while True:
            if self.uploads.stop.is_set():
                raise ClosedError
            sent = self._send_some(part)
            if not sent:
                if not self.channel.wait(
                    self.uploads.limits.blocked_seconds, write=True
                ):
                    # A view is of this thread's buffer; the next turn may have another.
                    self._part = bytes(part) if isinstance(part, memoryview) else part
                    return False
                continue
            rest = rest_of(part, sent)
            self._part = rest
            if rest is None:
                return True
            part = rest

    def _send_some(self, part: Part) -> int:
        if isinstance(part, FilePart):
            count = self._acquire_rate(part.length)
            with self.uploads.files.descriptor(part.file) as descriptor:
                sent = self.channel.try_send_file(descriptor, part.offset, count)
        elif isinstance(part, HeadPart):
            return self.channel.try_send(part.frame, more=True)
        else:
            count = self._acquire_rate(len(part))
            sent = self.channel.try_send(memoryview(part)[:count])
        self._granted -= sent
        self.pace.add(sent)
        return sent

    def _acquire_rate(self, length: int) -> int:
        """Wait until some bytes may go out; return how many, at most `length`."""
        # What was granted and not sent is not taken again: a peer that reads slowly
        # would spend everybody's rate.
        if self._granted <= 0:
            self._granted = self.uploads.rate.slice_bytes(length)
            self.uploads.rate.acquire(self._granted)
        return min(self._granted, length)

    # Answering.

    def _answer(self, message: wire.AnyMessage) -> Iterator[Part]:
        match message:
            case wire.Ask():
                yield from self._give_small(message)
            case wire.NameOf():
                yield self._names(message)
            case wire.Get():
                yield from self._give_chunk(message)
            case wire.Want():
                yield from self._begin(message)
            case wire.Follow():
                yield from self.followings.begin(message, len(self.offers))
            case wire.Done():
                self._end_offer(message.number)
                self.followings.end(message.number)
            case wire.Complaint():
                self._closes = True
                self._hear_complaint(message)
            case wire.Bye():
                self._closes = True
            case _:
                raise WireError("The leecher sent a message that only seeders send.")

    def _give_small(self, first: wire.Ask) -> Iterator[Part]:
        """Answer all asks that have come together."""
        asks, message = [first], self.channel.next_frame()
        while isinstance(message, wire.Ask):
            asks.append(message)
            message = self.channel.next_frame()
        self._message = message
        if len(asks) > ASKS_AT_ONCE_MAX:
            raise WireError("The leecher asks for too much at once.")
        if self.uploads.is_crowded:
            yield wire.encode(wire.Busy(self.uploads.limits.busy_seconds))
            return
        for part, given in self.uploads.small.answer(asks):
            yield part
            for number, artifact in given:
                self.given[number] = artifact.digest
                self.uploads.count(artifact.size)
        while len(self.given) > ASKS_AT_ONCE_MAX:
            del self.given[next(iter(self.given))]

    def _names(self, first: wire.NameOf) -> bytes:
        """Answer all that have come together, of as many as may be unanswered."""
        answers: list[wire.Named | wire.Busy] = []
        message: wire.AnyMessage | None = first
        while isinstance(message, wire.NameOf) and len(answers) < ASKS_AT_ONCE_MAX:
            answers.append(
                wire.Busy(self.uploads.limits.busy_seconds)
                if self.uploads.is_crowded
                else self.uploads.small.name(message)
            )
            message = self.channel.next_frame()
        self._message = message
        return b"".join(map(wire.encode, answers))

    def _begin(self, want: wire.Want) -> Iterator[Part]:
        if want.number in self.offers or len(self.offers) >= WANTS_PER_CONNECTION_MAX:
            raise WireError("The leecher wants too much at once.")
        uploads = self.uploads
        if uploads.is_crowded or not uploads.begin_want(self.source, len(self.offers)):
            yield wire.encode(wire.Busy(uploads.limits.busy_seconds))
            return
        # Counted before the file is opened, so that many connections at once cannot
        # open more than the room allows; every way out from here gives it back.
        try:
            offer = self._open_whole(want) or self._open_partial(want)
        except BaseException:
            uploads.end_want(self.source)
            raise
        if offer is None:
            uploads.end_want(self.source)
            yield wire.encode(uploads.small.absent(want.number, want.name))
            return
        self.offers[want.number] = offer
        manifest = offer.manifest
        if manifest.count > 1:
            offer.swarm_peer = uploads.swarms.join(
                (want.name, manifest.digest),
                count=manifest.count,
                chunk_size=manifest.chunk_size,
                host=self.host,
                public_key=self.public_key,
                port=want.port,
            )
        yield from self._give_listing(want, offer)

    def _end_offer(self, number: int) -> None:
        offer = self.offers.pop(number, None)
        if offer is None:
            return
        if offer.swarm_peer is not None:
            offer.swarm_peer.leave()
        self.uploads.files.release(offer.file)
        self.uploads.end_want(self.source)

    def _open_whole(self, want: wire.Want) -> Offer | None:
        uploads = self.uploads
        artifact = uploads.store.find(want.name)
        if artifact is None or not uploads.may_serve(artifact.digest, True):
            return None
        try:
            return Offer(artifact.digest, uploads.files.want_whole(artifact))
        except (NotHeldError, DamagedError):
            return None

    def _open_partial(self, want: wire.Want) -> Offer | None:
        """Open a download under way, for a leecher that names its manifest."""
        uploads = self.uploads
        partial = uploads.store.partials.under_way(want.name)
        if partial is None or not uploads.may_serve(want.name, False):
            return None
        manifest = partial.manifest
        if manifest is None or manifest.digest != want.manifest:
            return None
        try:
            file = uploads.files.want_partial(partial, manifest)
        except NotHeldError:
            return None
        return Offer(want.name, file, partial)

    def _give_listing(self, want: wire.Want, offer: Offer) -> Iterator[Part]:
        manifest, now = offer.manifest, time.monotonic()
        parts = []
        if want.manifest != manifest.digest:
            parts.append(wire.encode(wire.Listing(want.number, manifest.encode())))
        parts.append(wire.encode(offer.have(want.number, now)))
        yield b"".join(parts)
        yield from self._name_peers(want.number, offer, now)

    def _give_chunk(self, get: wire.Get) -> Iterator[Part]:
        offer = self.offers.get(get.number)
        if offer is None:
            raise WireError("The leecher asks for chunks of what it does not want.")
        if get.index >= offer.manifest.count:
            raise WireError("The leecher asks for a chunk beyond the end.")
        if get.start >= offer.manifest.length(get.index):
            raise WireError("The leecher asks for nothing of a chunk.")
        if offer.partial is not None:
            yield from self._give_partial_chunk(offer, offer.partial, get)
            return
        if offer.swarm_peer is not None:
            given = offer.swarm_peer.decide(get.index)
            if given is not None:
                yield wire.encode(wire.Redirect(get.number, get.index, given))
                return
        yield from self._give_whole_chunk(offer, get)

    def _give_whole_chunk(self, offer: Offer, get: wire.Get) -> Iterator[Part]:
        manifest = offer.manifest
        length = manifest.length(get.index) - get.start
        try:
            with self.uploads.files.descriptor(offer.file):
                pass  # it was closed to spare descriptors, and may have gone since
        except StoreError:
            yield wire.encode(wire.Lacking(get.number, get.index))
            return
        yield HeadPart(wire.encode(wire.Chunk(get.number, get.index, length)))
        yield FilePart(offer.file, manifest.offset(get.index) + get.start, length)
        self.uploads.count(length)

    def _give_partial_chunk(
        self, offer: Offer, partial: Partial, get: wire.Get
    ) -> Iterator[Part]:
        """Give a chunk of a download under way.

        It is read first and checked after: another manifest may have taken the
        place of ours meanwhile, and then its bytes may lie there.
        """
        manifest = offer.manifest
        start = offset = manifest.offset(get.index) + get.start
        end = manifest.offset(get.index) + manifest.length(get.index)
        while offset < end:
            part = own_buffer()[: min(PART_BYTES, end - offset)]
            try:
                with self.uploads.files.descriptor(offer.file) as descriptor:
                    count = os.preadv(descriptor, [part], offset)
            except StoreError:
                count = 0
            if count != len(part) or not partial.has(manifest.digest, get.index):
                if offset > start:
                    raise ClosedError  # the bytes that were promised are gone
                yield wire.encode(wire.Lacking(get.number, get.index))
                return
            if offset == start:
                # The buffer is this thread's, and the head may have to wait.
                part = memoryview(bytes(part))
                head = wire.Chunk(get.number, get.index, end - start)
                yield HeadPart(wire.encode(head))
            yield part
            offset += count
        self.uploads.count(end - start)

    def _news(self, now: float) -> Iterator[Part]:
        yield from self.followings.news(now)
        for number, offer in list(self.offers.items()):
            if offer.is_due(now, self.uploads.limits.have_seconds):
                yield wire.encode(offer.have(number, now))
            if offer.swarm_peer is not None and offer.swarm_peer.has_news(now):
                yield from self._name_peers(number, offer, now)

    def _name_peers(self, number: int, offer: Offer, now: float) -> Iterator[Part]:
        """Name other leechers of this artifact that the peer does not know yet."""
        if offer.swarm_peer is None:
            return
        news = offer.swarm_peer.news(now)
        if news:
            entries = peer_exchange.pack(news)
            yield wire.encode(wire.PeerExchange(number, entries))

    def _hear_complaint(self, complaint: wire.Complaint) -> None:
        """Check the chunk that a leecher found damaged."""
        offer = self.offers.get(complaint.number)
        if offer is not None and offer.partial is not None:
            return
        name = self.given.get(complaint.number) if offer is None else offer.name
        if name is not None:
            log.warning("%s complains about %s", self.label, name)
            self.uploads.complaints.hear(name, complaint.index)
