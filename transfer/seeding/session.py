"""What a seeder does with one connection while a worker thread has it.

A thread answers requests as long as they come, then gives the connection back
to the event loop, which watches idle connections at the price of one file
descriptor each.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.connection import peer_exchange, wire
from transfer.connection.buffers import PART_BYTES, own_buffer
from transfer.errors import ClosedError, DamagedError, NotHeldError, WireError
from transfer.limits import ASKS_AT_ONCE_MAX, WANTS_PER_CONNECTION_MAX
from transfer.seeding.small import SmallResponder, drop_asks
from transfer.seeding.superseeding import SeedingSwarms, SwarmPeer

if TYPE_CHECKING:
    from collections.abc import Callable

    from transfer.connection.channel import Channel
    from transfer.connection.rate_limit import RateLimiter
    from transfer.content.digest import Digest
    from transfer.content.manifest import Manifest
    from transfer.limits import SeederLimits
    from transfer.store.partial import Partial
    from transfer.store.store import Store

log = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What is to become of a connection after its turn."""

    IDLE = enum.auto()
    AGAIN = enum.auto()
    CLOSE = enum.auto()


@dataclass(slots=True)
class Offer:
    """One artifact, or download under way, that a connection wants."""

    name: Digest
    descriptor: int
    manifest: Manifest
    partial: Partial | None = None
    version_sent: int = -1
    sent_at: float = 0.0
    member: SwarmPeer | None = None
    """Its place among those who download the same; None where it has one chunk."""

    def close(self) -> None:
        """Close the file, and be named to nobody any more."""
        os.close(self.descriptor)
        if self.member is not None:
            self.member.leave()


@dataclass(slots=True, eq=False)
class UploadSession:
    """One connection of a seeder."""

    channel: Channel
    source: str
    label: str
    """Its address, for people."""
    host: str
    public_key: bytes
    """What the leecher says is its key."""
    offers: dict[int, Offer] = field(default_factory=dict)
    given: dict[int, Digest] = field(default_factory=dict)
    """What was given outright last, by the numbers of the asks."""
    active_at: float = 0.0
    bytes_sent: int = 0

    def close(self) -> None:
        """Close the connection and every file that it wants."""
        self.channel.close()
        for offer in self.offers.values():
            offer.close()
        self.offers.clear()

    def has_news(self, now: float, have_seconds: float) -> bool:
        """Whether chunks were gained that this peer has not heard of."""
        return any(
            _is_due(offer, now, have_seconds)
            or (offer.member is not None and offer.member.has_news(now))
            for offer in self.offers.values()
        )


class UploadService:
    """Answers requests, in any number of worker threads."""

    def __init__(
        self,
        store: Store,
        limits: SeederLimits,
        rate: RateLimiter,
        stop: threading.Event,
        waiting: Callable[[], int],
        may_serve: Callable[[Digest, bool], bool],
    ) -> None:
        self.chunks_sent = 0
        self.bytes_sent = 0
        self._store = store
        self._limits = limits
        self._rate = rate
        self._stop = stop
        self._waiting = waiting
        self._may_serve = may_serve
        self._outright = SmallResponder(store, rate, may_serve)
        self._complaints: dict[Digest, float] = {}
        self._companies = SeedingSwarms()
        self._lock = threading.Lock()

    def serve(self, session: UploadSession) -> Verdict:
        """Serve one turn; raises PeerError, TransferError or OSError."""
        channel = session.channel
        channel.enter_thread(self._limits.stall_seconds)
        began = time.monotonic()
        while not self._stop.is_set():
            self._tell_news(session)
            linger = 0.0 if self._waiting() else self._limits.linger_seconds
            message = channel.receive_frame(linger)
            if message is None:
                channel.leave_thread()
                return Verdict.IDLE
            if isinstance(message, wire.Ask):
                message = self._give_outright(session, message)
            if message is not None and not self._answer(session, message):
                return Verdict.CLOSE
            session.active_at = time.monotonic()
            over = session.active_at - began > self._limits.turn_seconds
            if over and self._waiting():
                channel.leave_thread()
                return Verdict.AGAIN
        return Verdict.CLOSE

    def _answer(self, session: UploadSession, message: wire.AnyMessage) -> bool:
        """Answer one message; False ends the connection."""
        match message:
            case wire.Get():
                self._send_chunk(session, message)
            case wire.Want():
                self._begin(session, message)
            case wire.Done():
                if offer := session.offers.pop(message.number, None):
                    offer.close()
            case wire.Complaint():
                self._hear_complaint(session, message)
                return False
            case wire.Bye():
                return False
            case _:
                raise WireError("The leecher sent a message that only seeders send.")
        return True

    def _give_outright(
        self, session: UploadSession, ask: wire.Ask
    ) -> wire.AnyMessage | None:
        """Answer all asks that have come; return the other message behind them."""
        if self._waiting() > self._limits.waiting_max:
            session.channel.send(wire.encode(wire.Busy(self._limits.busy_seconds)))
            return drop_asks(session.channel)
        given, message = self._outright.answer(session.channel, ask)
        for number, artifact in given:
            session.given[number] = artifact.digest
            self._count(session, artifact.size)
        while len(session.given) > ASKS_AT_ONCE_MAX:
            del session.given[next(iter(session.given))]
        return message

    def _begin(self, session: UploadSession, want: wire.Want) -> None:
        if (
            want.number in session.offers
            or len(session.offers) >= WANTS_PER_CONNECTION_MAX
        ):
            raise WireError("The leecher wants too much at once.")
        if self._waiting() > self._limits.waiting_max:
            session.channel.send(wire.encode(wire.Busy(self._limits.busy_seconds)))
            return
        offer = self._open_whole(want) or self._open_partial(want)
        if offer is None:
            under_way = self._store.partials.is_open(want.name)
            under_way = under_way and self._may_serve(want.name, False)
            answer = wire.Absent(want.number, partial=under_way)
            session.channel.send(wire.encode(answer))
            return
        if offer.manifest.count > 1:
            offer.member = self._companies.enter(
                (want.name, offer.manifest.digest),
                offer.manifest.count,
                offer.manifest.chunk_size,
                session.host,
                session.public_key,
                want.port,
            )
        session.offers[want.number] = offer
        self._send_listing(session, want, offer)

    def _open_whole(self, want: wire.Want) -> Offer | None:
        artifact = self._store.find(want.name)
        if artifact is None or not self._may_serve(artifact.digest, True):
            return None
        try:
            manifest = self._store.manifest(artifact)
            descriptor = self._store.open_checked(artifact, self._stop)
        except (NotHeldError, DamagedError):
            return None
        return Offer(artifact.digest, descriptor, manifest)

    def _open_partial(self, want: wire.Want) -> Offer | None:
        """Open a download under way, for a leecher that names its manifest."""
        if not self._may_serve(want.name, False):
            return None
        opened = self._store.partials.borrow(want.name)
        if opened is None:
            return None
        partial, descriptor = opened
        manifest = partial.manifest
        if manifest is None or manifest.digest != want.manifest:
            os.close(descriptor)
            return None
        return Offer(want.name, descriptor, manifest, partial)

    def _send_listing(
        self, session: UploadSession, want: wire.Want, offer: Offer
    ) -> None:
        manifest = offer.manifest
        parts = []
        if want.manifest != manifest.digest:
            parts.append(wire.encode(wire.Listing(want.number, manifest.encode())))
        parts.append(wire.encode(_have(want.number, offer)))
        whole = offer.partial is None
        if whole and manifest.count == 1 and manifest.size <= want.eager:
            head = wire.Chunk(want.number, 0, manifest.size)
            self._rate.take(manifest.size)
            data = os.pread(offer.descriptor, manifest.size, 0)
            if len(data) != manifest.size:
                raise DamagedError
            parts += [wire.encode(head), data]
            self._count(session, manifest.size)
        session.channel.send(b"".join(parts))
        self._send_peer_exchange(session, want.number, offer)

    def _send_chunk(self, session: UploadSession, get: wire.Get) -> None:
        offer = session.offers.get(get.number)
        if offer is None:
            raise WireError("The leecher asks for chunks of what it does not want.")
        manifest = offer.manifest
        if get.index >= manifest.count:
            raise WireError("The leecher asks for a chunk beyond the end.")
        length = manifest.length(get.index)
        head = wire.encode(wire.Chunk(get.number, get.index, length))
        if offer.partial is None and offer.member is not None:
            given = offer.member.take(get.index)
            if given is not None:
                elsewhere = wire.Redirect(get.number, get.index, given)
                session.channel.send(wire.encode(elsewhere))
                return
        if offer.partial is not None:
            self._send_partial_chunk(session, offer, get, head)
        else:
            session.channel.send(head, more=True)
            session.channel.send_file(
                offer.descriptor, manifest.offset(get.index), length, self._rate
            )
        self._count(session, length)

    def _send_partial_chunk(
        self, session: UploadSession, offer: Offer, get: wire.Get, head: bytes
    ) -> None:
        """Send a chunk of a download under way.

        It is read first and checked after: another manifest may have taken the
        place of ours meanwhile, and then its bytes may lie there.
        """
        manifest = offer.manifest
        start = offset = manifest.offset(get.index)
        end = start + manifest.length(get.index)
        step = self._rate.slice_bytes(PART_BYTES)
        while offset < end:
            part = own_buffer()[: min(step, end - offset)]
            count = os.preadv(offer.descriptor, [part], offset)
            held = offer.partial and offer.partial.has(manifest.digest, get.index)
            if not held or count != len(part):
                if offset > start:
                    raise ClosedError  # the bytes that were promised are gone
                session.channel.send(wire.encode(wire.Lacking(get.number, get.index)))
                return
            if offset == start:
                session.channel.send(head, more=True)
            self._rate.take(count)
            session.channel.send(part)
            offset += count

    def _tell_news(self, session: UploadSession) -> None:
        now = time.monotonic()
        for number, offer in session.offers.items():
            if _is_due(offer, now, self._limits.have_seconds):
                session.channel.send(wire.encode(_have(number, offer)))
            if offer.member is not None and offer.member.has_news(now):
                self._send_peer_exchange(session, number, offer)

    def _send_peer_exchange(
        self, session: UploadSession, number: int, offer: Offer
    ) -> None:
        """Name other leechers of this artifact that the peer does not know yet."""
        if offer.member is None:
            return
        news = offer.member.news(time.monotonic())
        if news:
            entries = peer_exchange.pack(news)
            session.channel.send(wire.encode(wire.PeerExchange(number, entries)))

    def _hear_complaint(
        self, session: UploadSession, complaint: wire.Complaint
    ) -> None:
        """Check a file that a leecher found damaged, unless just done."""
        offer = session.offers.get(complaint.number)
        name = session.given.get(complaint.number) if offer is None else offer.name
        if name is None or (offer is not None and offer.partial is not None):
            return
        now = time.monotonic()
        with self._lock:
            recently = now - self._limits.complaint_seconds
            self._complaints = {
                one: at for one, at in self._complaints.items() if at > recently
            }
            if name in self._complaints:
                return
            self._complaints[name] = now
        log.warning("%s complains about %s", session.label, name)
        self._store.distrust(name)
        artifact = self._store.find(name)
        if artifact is None:
            return
        with contextlib.suppress(NotHeldError, DamagedError, ClosedError):
            os.close(self._store.open_checked(artifact, self._stop))

    def _count(self, session: UploadSession, length: int) -> None:
        session.bytes_sent += length
        with self._lock:
            self.chunks_sent += 1
            self.bytes_sent += length


def _have(number: int, offer: Offer) -> wire.Have:
    if offer.partial is None:
        return wire.Have(number, offer.manifest.digest, whole=True, bitmap=b"")
    offer.version_sent = offer.partial.version
    offer.sent_at = time.monotonic()
    held = offer.partial.have(offer.manifest.digest)
    none = bytes(-(-offer.manifest.count // 8))
    return wire.Have(
        number,
        offer.manifest.digest,
        whole=False,
        bitmap=none if held is None else held,
    )


def _is_due(offer: Offer, now: float, have_seconds: float) -> bool:
    return (
        offer.partial is not None
        and offer.version_sent != offer.partial.version
        and now - offer.sent_at >= have_seconds
    )
