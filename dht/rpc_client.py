"""The RPC client: requests in flight, retransmissions, and their replies.

A request is done when its reply came from the address that was asked, with the proof
of id where one was due, or when its time is over. A reply after the soft timeout still
counts; what a slow contact loses is its slot in a lookup.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dht.addresses import unpack_address
from dht.bounded import TtlSet
from dht.composing import compose
from dht.errors import DatagramError
from dht.in_flight import ProvenReply, Question
from dht.judging import Received, answerer
from dht.limits import (
    FIRST_FIND_BYTES,
    FIRST_PING_BYTES,
    INTRODUCE_AFTER_SECONDS,
    INTRODUCE_PAUSE_SECONDS,
    INVITATIONS_MAX,
    PATIENCE,
    PEERS_REMEMBERED_MAX,
    REQUEST_BYTES_MIN,
    REQUEST_SECONDS_MAX,
    RETRANSMITS_MAX,
    TOKEN_BYTES,
    TOKEN_SECRET_SECONDS,
    K,
)
from dht.wire import (
    REPLY,
    Announce,
    FindNode,
    FindProviders,
    FindRecord,
    MessageBody,
    Ping,
    Reply,
    ReplyFlag,
    StoreRecord,
    kind_of,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from dht.addresses import Address
    from dht.contacts import Contact
    from dht.core import Core

_FIRST_BYTES: Final[dict[type[MessageBody], int]] = {
    Ping: FIRST_PING_BYTES,
    FindNode: FIRST_FIND_BYTES,
    FindProviders: FIRST_FIND_BYTES,
    FindRecord: FIRST_FIND_BYTES,
}


class InFlight:
    """A request on its way, and when to be reminded of it."""

    __slots__ = (
        "address",
        "again",
        "body",
        "contact",
        "continued",
        "done",
        "due_at",
        "excused",
        "first_bytes",
        "flags",
        "hearsay",
        "introduces",
        "is_bare",
        "last_sent_at",
        "late",
        "patience",
        "reminders",
        "sent_at",
        "size",
        "timer",
        "transaction",
        "tries",
    )

    def __init__(
        self,
        address: Address,
        contact: Contact | None,
        body: MessageBody,
        *,
        done: Callable[[ProvenReply | None], None],
    ) -> None:
        self.address = address
        self.contact = contact  # None: any node that answers there
        self.body = body
        self.done = done
        self.flags = 0
        self.size = 0  # least length of the datagram
        self.first_bytes = 0  # the same, to an address that gave no token yet
        self.sent_at = 0.0
        self.last_sent_at = 0.0
        self.tries = 0
        self.late: Callable[[], None] | None = None
        self.patience = 0  # reminders after which it is called
        self.due_at = 0.0  # when its timer runs out
        self.excused = False  # its end was put off because this machine was late
        self.reminders = 0  # how often its timer has run out
        self.again = True  # may be sent once more
        self.continued = False  # was asked again for what did not fit
        self.hearsay = False  # sent for another's sake
        self.introduces = False  # carries a proof of this node's id
        self.is_bare = False  # wants no contacts
        self.transaction = b""
        self.timer: asyncio.TimerHandle | None = None

    def question(self) -> Question:
        """Return the request as it is sent next."""
        return Question(
            address=self.address,
            contact=self.contact,
            body=self.body,
            transaction=self.transaction,
            flags=self.flags,
            size=self.size,
            first_bytes=0 if self.tries else self.first_bytes,
            introduces=self.introduces,
            is_bare=self.is_bare,
        )


class RpcClient:
    """Sends requests and hands each one's outcome to its callback."""

    def __init__(
        self,
        core: Core,
        send: Callable[[bytes, Address], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._core = core
        self._send = send
        self._loop = loop
        self._pending: dict[bytes, InFlight] = {}
        self._introduced: TtlSet[bytes] = TtlSet(
            TOKEN_SECRET_SECONDS, PEERS_REMEMBERED_MAX
        )
        self._invitations: deque[Contact] = deque(maxlen=INVITATIONS_MAX)
        self._introducing: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def in_flight(self) -> int:
        """How many requests await their answer."""
        return len(self._pending)

    def ask(
        self,
        contact: Contact,
        body: MessageBody,
        done: Callable[[ProvenReply | None], None],
        *,
        flags: int = 0,
        size: int = 0,
        first_bytes: int = 0,
        introduces: bool = False,
        again: bool = True,
        hearsay: bool = False,
        late: Callable[[], None] | None = None,
        patience: int = PATIENCE,
        lost: bool = False,
        is_bare: bool = False,
    ) -> None:
        """Ask a contact; `done` gets its answer, or None when there is none.

        `size` is the least length of the datagram in bytes, whatever it would be
        padded to otherwise; `first_bytes` that of a first request to a stranger.
        With `introduces` it carries a proof of this node's id; unless `again`, it
        is sent once only. `late` is called when there is little hope left: after
        `patience` times the pause between two sendings. A contact that was proven
        once and `lost` is no stranger. Where the contact is asked for another's sake
        (`hearsay`), its reply reports no address of this node. The reply to a request
        that `is_bare` names no contacts.
        """
        pending = InFlight(contact.address, contact, body, done=done)
        pending.flags, pending.size = flags, size
        pending.first_bytes = first_bytes or _FIRST_BYTES.get(type(body), 0)
        pending.introduces = introduces
        pending.late, pending.patience = late, patience
        pending.again = again
        pending.hearsay = hearsay
        pending.is_bare = is_bare
        if lost or self._may_ask(contact):
            self._begin(pending)
        else:
            self._core.stats["refused.stranger"] += 1
            self._loop.call_soon(done, None)

    def ask_address(
        self,
        address: Address,
        body: MessageBody,
        done: Callable[[ProvenReply | None], None],
        *,
        again: bool = True,
    ) -> None:
        """Ask the node at an address; its answer names and proves its key."""
        pending = InFlight(address, None, body, done=done)
        pending.first_bytes = _FIRST_BYTES.get(type(body), 0)
        pending.again = again
        self._begin(pending)

    def call(
        self,
        contact: Contact,
        body: MessageBody,
        *,
        size: int = 0,
        again: bool = True,
        introduces: bool = False,
        is_bare: bool = False,
    ) -> asyncio.Future[ProvenReply | None]:
        """Ask a contact; the future holds its answer or None."""
        future: asyncio.Future[ProvenReply | None] = self._loop.create_future()
        self.ask(
            contact,
            body,
            lambda answer: _resolve(future, answer),
            size=size,
            again=again,
            introduces=introduces,
            is_bare=is_bare,
        )
        return future

    def write_token(
        self, contact: Contact, target: bytes
    ) -> asyncio.Future[ProvenReply | None]:
        """Ask a contact for the write token of a target, and for nothing else."""
        return self.call(contact, FindNode(target), is_bare=True)

    def probe_datagram(self, address: Address, nonce: bytes) -> bytes:
        """Return a short ping whose transaction is a nonce, and await no answer."""
        pending = InFlight(address, None, Ping(), done=_ignore)
        pending.transaction = nonce
        pending.size = REQUEST_BYTES_MIN
        return compose(self._core, pending.question(), self._core.clock.monotonic())

    def close(self) -> None:
        """Give up all requests, now and from now on; each callback hears of it."""
        self._closed = True
        if self._introducing is not None:
            self._introducing.cancel()
        while self._pending:
            _, pending = self._pending.popitem()
            if pending.timer is not None:
                pending.timer.cancel()
            pending.done(None)

    def receive(self, reply: Reply, packed: bytes, source: Address) -> None:
        """Judge a reply; raises `DatagramError` where it answers nothing we asked."""
        pending = self._pending.get(reply.transaction)
        if pending is None or pending.address != source:
            raise DatagramError("stray")
        if reply.kind != kind_of(pending.body) + REPLY:
            raise DatagramError("kind")
        observed = unpack_address(reply.observed)
        now = self._core.clock.monotonic()
        if len(reply.token) == TOKEN_BYTES:
            self._core.peer_memory.remember_token(source, reply.token, now)
        if reply.flags & ReplyFlag.TRUNCATED and not pending.continued:
            pending.continued = True
            self._transmit(pending, now)
            return
        contact = answerer(
            self._core, pending.question(), Received(reply, packed, observed, now)
        )
        if contact is None:
            # A node is there: only the key of the contact was a false one.
            self._heard_from(source)
            self._finish(pending, None, now, silent=False)
            return
        rtt = self._measured(pending, now)
        if not reply.flags & ReplyFlag.READ_ONLY:
            self._core.table(contact, now, rtt)
        if not pending.hearsay and contact in self._core.table_of(source):
            self._core.reach.report(observed, source)
        self._finish(
            pending, ProvenReply(contact, reply.body, reply.flags, observed), now
        )
        if reply.flags & ReplyFlag.INTRODUCE:
            self._introduce(contact, now)

    def _measured(self, pending: InFlight, now: float) -> float | None:
        """Record how long an answer took, where it is clear which sending it answers.

        One that comes at once after the second sending answers the first; without
        these, a node that is overloaded would never learn it.
        """
        times = self._core.peer_memory.round_trips
        if pending.tries > 1 and not times.is_early(now - pending.last_sent_at):
            return None
        rtt = now - pending.sent_at
        times.add(rtt)
        return rtt

    def _introduce(self, contact: Contact, now: float) -> None:
        """Prove this node's id to a contact that would table it.

        A newcomer does so at once. Others let what they are at come first: a lookup
        among strangers brings a dozen invitations.
        """
        if self._core.reach.is_read_only(contact.address):
            return
        if self._introduced.has(contact.packed, now):
            return
        self._introduced.add(contact.packed, now)
        if len(self._core.table_of(contact.address)) < K:
            self.ask(contact, Ping(), _ignore, introduces=True)
            return
        self._invitations.append(contact)
        if self._introducing is None:
            self._introducing = self._loop.call_later(
                INTRODUCE_AFTER_SECONDS, self._introduce_next
            )

    def _introduce_next(self) -> None:
        """Follow the oldest invitation, then the others one by one."""
        self._introducing = None
        if self._closed or not self._invitations:
            return
        self.ask(self._invitations.popleft(), Ping(), _ignore, introduces=True)
        if self._invitations:
            self._introducing = self._loop.call_later(
                INTRODUCE_PAUSE_SECONDS, self._introduce_next
            )

    def _may_ask(self, contact: Contact) -> bool:
        """Whether a contact is known here, or a stranger's address not worn out.

        Other nodes named it: without a bound they could aim this node at a victim.
        """
        core = self._core
        now = core.clock.monotonic()
        known = core.peer_memory
        return (
            bool(known.token(contact.address, now))
            or known.is_proven(contact, now)
            or contact in core.table_of(contact.address)
            or known.unresponsive.may_ask_stranger(contact.address, now)
        )

    def _begin(self, pending: InFlight) -> None:
        if self._closed:
            self._loop.call_soon(pending.done, None)
            return
        now = self._core.clock.monotonic()
        pending.transaction = self._core.rng.randbytes(8)
        pending.sent_at = now
        self._pending[pending.transaction] = pending
        self._transmit(pending, now)
        self._wait(pending, self._pause(pending))

    def _pause(self, pending: InFlight) -> float:
        """Return the seconds between two sendings; verifying takes its time."""
        pause = self._core.peer_memory.round_trips.retransmit
        return 2 * pause if isinstance(pending.body, Announce | StoreRecord) else pause

    def _seconds_max(self, pending: InFlight, pause: float) -> float:
        """Return when a request is given up; a store is sent three times before that.

        Where all answers take long, the pauses alone would be longer than a request:
        nothing would be sent again.
        """
        if isinstance(pending.body, Announce | StoreRecord):
            return max(REQUEST_SECONDS_MAX, (RETRANSMITS_MAX + 1) * pause)
        return REQUEST_SECONDS_MAX

    def _wait(self, pending: InFlight, seconds: float) -> None:
        pending.due_at = self._loop.time() + seconds
        pending.timer = self._loop.call_at(pending.due_at, self._late, pending)

    def _late(self, pending: InFlight) -> None:
        """Send a request again, then wait with little hope, then give it up.

        From when patience ends others leave the address alone, though an answer
        that comes after all still counts.
        """
        core = self._core
        now = core.clock.monotonic()
        wait = self._pause(pending)
        left = pending.sent_at + self._seconds_max(pending, wait) - now
        if self._loop.time() - pending.due_at > wait / 4 and not pending.excused:
            # This machine is late itself: the answer may lie here, unread.
            pending.excused = left <= 0
            self._wait(pending, wait)
            return
        if left <= 0.001:
            core.stats["timeouts"] += 1
            self._finish(pending, None, now)
            return
        pending.reminders += 1
        if pending.reminders == pending.patience and pending.late is not None:
            pending.late()
        if pending.reminders > RETRANSMITS_MAX:
            self._add_unresponsive(pending, now)
            wait = left
        elif pending.again:
            core.stats["retransmitted"] += 1
            self._transmit(pending, now)
        self._wait(pending, min(wait, left))

    def _finish(
        self,
        pending: InFlight,
        answer: ProvenReply | None,
        now: float,
        *,
        silent: bool = True,
    ) -> None:
        """Remove a request from the table and report its outcome.

        Without an answer its address counts as `silent`.
        """
        self._pending.pop(pending.transaction, None)
        if pending.timer is not None:
            pending.timer.cancel()
        core = self._core
        if answer is None:
            if silent and pending.reminders <= RETRANSMITS_MAX:
                self._add_unresponsive(pending, now)
            if pending.contact is not None:
                core.lose(pending.contact, now)
        else:
            self._heard_from(pending.address)
        pending.done(answer)

    def _add_unresponsive(self, pending: InFlight, now: float) -> None:
        """Leave an address alone for a while, or only what was claimed to be there.

        In a private network a node opens only what names its key: a contact with a
        false key gets no answer from an address that is well.
        """
        core, contact = self._core, pending.contact
        unresponsive = core.peer_memory.unresponsive
        private = core.network.secret is not None
        if private and contact and not core.peer_memory.is_proven(contact, now):
            unresponsive.add_contact(contact, now)
        else:
            unresponsive.add(pending.address, now)

    def _heard_from(self, address: Address) -> None:
        self._core.peer_memory.unresponsive.discard(address)

    def _transmit(self, pending: InFlight, now: float) -> None:
        """Build the datagram of a request and send it."""
        datagram = compose(self._core, pending.question(), now)
        pending.tries += 1
        pending.last_sent_at = now
        self._core.reach.sent(pending.address, now)
        self._send(datagram, pending.address)


def _resolve(
    future: asyncio.Future[ProvenReply | None], answer: ProvenReply | None
) -> None:
    if not future.done():
        future.set_result(answer)


def _ignore(answer: ProvenReply | None) -> None:
    """Ignore an answer."""
