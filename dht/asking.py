"""Asking: requests on their way, sent once more if need be, and their answers.

A request is done when its answer came from the address that was asked, with the
proof of id where one was due, or when its time is over. An answer after the soft
timeout still counts; what a slow contact loses is its slot in a lookup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dht.addresses import unpack_address
from dht.contacts import Contact
from dht.errors import WireError
from dht.fairness import Remembered
from dht.identity import SIGNATURE_BYTES, proof_message
from dht.limits import (
    ACQUAINTANCES_MAX,
    FIRST_FIND_BYTES,
    FIRST_PING_BYTES,
    PATIENCE,
    REQUEST_BYTES_MIN,
    REQUEST_SECONDS_MAX,
    RETRANSMITS_MAX,
    TOKEN_BYTES,
    TOKEN_SECRET_SECONDS,
)
from dht.pending import Answer, Pending
from dht.wire import (
    HINT_BYTES,
    REPLY,
    Announce,
    Body,
    FindNode,
    FindProviders,
    FindRecord,
    Ping,
    Reply,
    ReplyFlag,
    Request,
    RequestFlag,
    StoreRecord,
    add_proof,
    encode_unproved,
    kind_of,
    proved_part,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from dht.addresses import Address
    from dht.core import Core

_FIRST_BYTES: Final[dict[type[Body], int]] = {
    Ping: FIRST_PING_BYTES,
    FindNode: FIRST_FIND_BYTES,
    FindProviders: FIRST_FIND_BYTES,
    FindRecord: FIRST_FIND_BYTES,
}
_INTRODUCTIONS_IN_FLIGHT_MAX: Final = 64


class Asking:
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
        self._pending: dict[bytes, Pending] = {}
        self._introduced = Remembered(TOKEN_SECRET_SECONDS, ACQUAINTANCES_MAX)
        self._introductions = 0
        self._closed = False

    @property
    def in_flight(self) -> int:
        """How many requests await their answer."""
        return len(self._pending)

    def ask(
        self,
        contact: Contact,
        body: Body,
        done: Callable[[Answer | None], None],
        *,
        flags: int = 0,
        size: int = 0,
        first_bytes: int = 0,
        introduces: bool = False,
        again: bool = True,
        late: Callable[[], None] | None = None,
        patience: int = PATIENCE,
    ) -> None:
        """Ask a contact; `done` gets its answer, or None when there is none.

        `size` is the least length of the datagram in bytes, whatever it would be
        padded to otherwise; `first_bytes` that of a first request to a stranger.
        With `introduces` it carries a proof of this node's id; unless `again`, it
        is sent once only. `late` is called when there is little hope left: after
        `patience` times the pause between two sendings.
        """
        pending = Pending(contact.address, contact, body, done)
        pending.flags, pending.size = flags, size
        pending.first_bytes = first_bytes or _FIRST_BYTES.get(type(body), 0)
        pending.introduces = introduces
        pending.late, pending.patience = late, patience
        pending.again = again
        self._begin(pending)

    def ask_address(
        self,
        address: Address,
        body: Body,
        done: Callable[[Answer | None], None],
        *,
        again: bool = True,
    ) -> None:
        """Ask whoever is at an address; its answer tells and proves who it is."""
        pending = Pending(address, None, body, done)
        pending.first_bytes = _FIRST_BYTES.get(type(body), 0)
        pending.again = again
        self._begin(pending)

    def call(
        self, contact: Contact, body: Body, *, size: int = 0, again: bool = True
    ) -> asyncio.Future[Answer | None]:
        """Ask a contact; the future holds its answer or None."""
        future: asyncio.Future[Answer | None] = self._loop.create_future()
        self.ask(
            contact,
            body,
            lambda answer: _resolve(future, answer),
            size=size,
            again=again,
        )
        return future

    def probe(self, address: Address) -> None:
        """Send one short ping to an address that asked, through others, for it."""
        pending = Pending(address, None, Ping(), _ignore)
        pending.again = False
        pending.size = REQUEST_BYTES_MIN
        self._begin(pending)

    def close(self) -> None:
        """Give up all requests, now and from now on; each callback hears of it."""
        self._closed = True
        while self._pending:
            _, pending = self._pending.popitem()
            if pending.timer is not None:
                pending.timer.cancel()
            pending.done(None)

    def receive(self, reply: Reply, packed: bytes, source: Address) -> None:
        """Judge a reply; raises `WireError` where it answers nothing we asked."""
        pending = self._pending.get(reply.transaction)
        if pending is None or pending.address != source:
            raise WireError("stray")
        if reply.kind != kind_of(pending.body) + REPLY:
            raise WireError("kind")
        observed = unpack_address(reply.observed)
        now = self._core.clock.monotonic()
        if len(reply.token) == TOKEN_BYTES:
            self._core.acquaintances.keep_token(source, reply.token, now)
        if reply.flags & ReplyFlag.TRUNCATED and not pending.continued:
            pending.continued = True
            self._transmit(pending, now)
            return
        contact = self._answerer(pending, reply, packed, observed, now)
        if contact is None:
            self._finish(pending, None, now)
            return
        if not reply.flags & ReplyFlag.READ_ONLY:
            self._core.table(contact, now)
        times = self._core.acquaintances.round_trips
        if pending.tries == 1 or times.is_early(now - pending.last_sent_at):
            # An answer that comes at once after the second sending answers the
            # first; without these, a node that is overloaded would never learn it.
            rtt = now - pending.sent_at
            times.add(rtt)
            self._core.table_of(source).heard(contact, now, rtt)
        self._finish(pending, Answer(contact, reply.body, reply.flags, observed), now)
        if reply.flags & ReplyFlag.INTRODUCE:
            self._introduce(contact, now)

    def _answerer(
        self,
        pending: Pending,
        reply: Reply,
        packed: bytes,
        observed: Address,
        now: float,
    ) -> Contact | None:
        """Return who answered, if its id is proven, now or lately."""
        core = self._core
        if reply.proof:
            return self._proven(pending, reply, packed, observed, now)
        contact = pending.contact
        if contact is None or not core.acquaintances.is_proven(contact, now):
            core.stats["refused.unproven"] += 1
            return None
        if contact.node_id[:HINT_BYTES] != reply.hint:
            core.acquaintances.drop_proof(contact)
            core.stats["refused.other_node"] += 1
            return None
        core.reach.report(observed, pending.address)
        return contact

    def _proven(
        self,
        pending: Pending,
        reply: Reply,
        packed: bytes,
        observed: Address,
        now: float,
    ) -> Contact | None:
        """Verify a reply's proof of id and return whose it is."""
        core = self._core
        key, signature = reply.proof[:32], reply.proof[32:]
        part = proved_part(packed, reply.proof)
        message = proof_message(
            core.network.tag, core.public_key, reply.transaction, part
        )
        contact = pending.contact or Contact(key, pending.address)
        if contact.public_key != key or contact.node_id[:HINT_BYTES] != reply.hint:
            core.stats["refused.other_node"] += 1
            return None
        if key == core.public_key or not core.verify(key, signature, message):
            core.stats["refused.proof"] += 1
            return None
        if not core.reach.report(observed, pending.address):
            core.stats["refused.relayed"] += 1
            return None
        core.acquaintances.keep_proof(contact, now)
        return contact

    def _introduce(self, contact: Contact, now: float) -> None:
        """Prove this node's id to a contact that would table it."""
        if self._core.reach.is_read_only(contact.address):
            return
        if self._introductions >= _INTRODUCTIONS_IN_FLIGHT_MAX:
            return
        if self._introduced.has(contact.packed, now):
            return
        self._introduced.add(contact.packed, now)
        self._introductions += 1
        self.ask(contact, Ping(), self._was_introduced, introduces=True)

    def _was_introduced(self, answer: Answer | None) -> None:
        del answer
        self._introductions -= 1

    def _begin(self, pending: Pending) -> None:
        if self._closed:
            self._loop.call_soon(pending.done, None)
            return
        now = self._core.clock.monotonic()
        pending.transaction = self._core.rng.randbytes(8)
        pending.sent_at = now
        self._pending[pending.transaction] = pending
        self._transmit(pending, now)
        self._wait(pending, self._pause(pending))

    def _pause(self, pending: Pending) -> float:
        """Return the seconds between two sendings; verifying takes its time."""
        pause = self._core.acquaintances.round_trips.retransmit
        return 2 * pause if isinstance(pending.body, Announce | StoreRecord) else pause

    def _wait(self, pending: Pending, seconds: float) -> None:
        pending.due_at = self._loop.time() + seconds
        pending.timer = self._loop.call_at(pending.due_at, self._late, pending)

    def _late(self, pending: Pending) -> None:
        """Send a request again, then wait with little hope, then give it up.

        From when patience ends others leave the address alone, though an answer
        that comes after all still counts.
        """
        core = self._core
        now = core.clock.monotonic()
        left = pending.sent_at + REQUEST_SECONDS_MAX - now
        wait = self._pause(pending)
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
            core.acquaintances.silence.add(pending.address, now)
            wait = left
        elif pending.again:
            core.stats["retransmitted"] += 1
            self._transmit(pending, now)
        self._wait(pending, min(wait, left))

    def _finish(self, pending: Pending, answer: Answer | None, now: float) -> None:
        """Take a request off the list and tell its outcome."""
        self._pending.pop(pending.transaction, None)
        if pending.timer is not None:
            pending.timer.cancel()
        core = self._core
        if answer is None:
            if pending.reminders <= RETRANSMITS_MAX:
                core.acquaintances.silence.add(pending.address, now)
            if pending.contact is not None:
                core.lose(pending.contact, now)
        else:
            core.acquaintances.silence.discard(pending.address)
        pending.done(answer)

    def _transmit(self, pending: Pending, now: float) -> None:
        """Build the datagram of a request and send it."""
        core = self._core
        address, contact = pending.address, pending.contact
        token = core.acquaintances.token(address, now)
        request = Request(
            1,
            kind_of(pending.body),
            pending.transaction,
            core.public_key,
            self._flags(pending, now),
            token,
            pending.body,
        )
        size = max(pending.size, REQUEST_BYTES_MIN)
        if not token and not pending.size:
            size = max(pending.first_bytes, REQUEST_BYTES_MIN)
        proof = b""
        if pending.introduces and token and contact is not None:
            part = self._padded(request, size, proof_bytes=SIGNATURE_BYTES)
            proof = core.signer.sign(
                proof_message(
                    core.network.tag, contact.public_key, pending.transaction, part
                )
            )
        else:
            part = self._padded(request, size)
        pending.tries += 1
        pending.last_sent_at = now
        core.reach.sent(address, now)
        self._send(core.envelope.wrap(add_proof(part, proof)), address)

    def _flags(self, pending: Pending, now: float) -> int:
        """Return what a request tells of this node and wants of the other."""
        core = self._core
        flags = pending.flags
        if 4 in core.families:
            flags |= RequestFlag.IPV4
        if 6 in core.families:
            flags |= RequestFlag.IPV6
        if core.reach.is_read_only(pending.address):
            flags |= RequestFlag.READ_ONLY
        contact = pending.contact
        if contact is None or not core.acquaintances.is_proven(contact, now):
            flags |= RequestFlag.PROOF
        return flags

    def _padded(self, request: Request, size: int, proof_bytes: int = 0) -> bytes:
        """Return a request up to its proof, padded to a datagram of `size` bytes."""
        part = encode_unproved(request)
        length = self._core.envelope.overhead + len(part) + 2 + proof_bytes
        missing = size - length
        if missing <= 0:
            return part
        # The padding is the last element before the proof and was empty: c4 00.
        if missing <= 255:
            return part[:-1] + bytes([missing]) + bytes(missing)
        missing -= 1
        return part[:-2] + b"\xc5" + missing.to_bytes(2, "big") + bytes(missing)


def _resolve(future: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


def _ignore(answer: Answer | None) -> None:
    """Want nothing of an answer."""
