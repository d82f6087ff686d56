"""The RPC server: from a request to its reply, as a plain object.

Until an address has echoed a token, the reply is never longer than the request, so an
attacker cannot use this node to send more to a victim than it sends itself. What does
not fit is left out, and the reply says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dht.addresses import Scope
from dht.budgets import SenderBudget
from dht.contacts import contact_of
from dht.errors import DatagramError
from dht.in_flight import Asked
from dht.limits import (
    DATAGRAM_BYTES_MAX,
    PROOFS_READ_PER_SECOND,
    PROOFS_READ_PER_SOURCE_PER_SECOND,
    REPLY_CONTACTS_BESIDE_RECORD_MAX,
    REPLY_CONTACTS_IPV6_MAX,
    REPLY_CONTACTS_MAX,
)
from dht.tokens import write_scope
from dht.wire import (
    HINT_BYTES,
    REPLY,
    REPLY_PROOF_BYTES,
    Announce,
    Call,
    Called,
    DialBack,
    DialedBack,
    FindNode,
    FindProviders,
    FindRecord,
    MessageBody,
    Nodes,
    Notified,
    Notify,
    Pong,
    Providers,
    RecordFound,
    RecordStored,
    Reply,
    ReplyFlag,
    Request,
    RequestFlag,
    Reserve,
    StoreRecord,
    add_proof,
    encode_unproved,
    proved_part,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.addresses import Address
    from dht.contacts import Contact
    from dht.core import Core
    from dht.local_storage import LocalStorage

# A reply without its body, observed address and proof: array, version, kind,
# transaction, id hint, the head of `observed`, token, flags, the heads of body and
# proof.
_HEAD_BYTES: Final = 1 + 1 + 1 + 10 + 10 + 1 + 10 + 1 + 1 + 2
_FIND_BYTES: Final = 3 + 10  # the heads of contacts, and the write token
_CONTACTS_ENOUGH: Final = 8
_CONTACTS_BESIDE_PROVIDERS_BYTES: Final = 3 * 39  # room that providers leave to them


class RpcServer:
    """Answers requests."""

    def __init__(
        self,
        *,
        core: Core,
        local_storage: LocalStorage,
        on_notify: Callable[[Notify, Asked, int], None],
        on_dial_back: Callable[[DialBack, Asked], DialedBack],
        on_introduction: Callable[[MessageBody, Asked], MessageBody],
    ) -> None:
        """`on_notify` gets the notify, who sent it and its length in bytes."""
        self._core = core
        self._local_storage = local_storage
        self._on_notify = on_notify
        self._on_dial_back = on_dial_back
        self._on_introduction = on_introduction
        self._proofs_read = SenderBudget(
            per_second=PROOFS_READ_PER_SOURCE_PER_SECOND,
            burst=4 * PROOFS_READ_PER_SOURCE_PER_SECOND,
            total_per_second=PROOFS_READ_PER_SECOND,
        )

    def answer(
        self, request: Request, packed: bytes, source: Address, *, size: int
    ) -> bytes:
        """Return the reply to a request whose datagram had `size` bytes.

        Raises `DatagramError` for a request that deserves none.
        """
        core = self._core
        if request.sender == core.public_key:
            raise DatagramError("own")
        if not source.dialable:
            raise DatagramError("source")
        now = core.clock.monotonic()
        echoed = core.tokens.is_valid(request.token, source, now)
        sender = contact_of(request.sender, source)
        asked = Asked(request, sender, now, echoed=echoed)
        core.reach.received(source, now)
        self._meet(asked, packed)
        limit = DATAGRAM_BYTES_MAX if echoed else min(size, DATAGRAM_BYTES_MAX)
        proof_bytes = self._proof_bytes(asked, limit)
        asked.room = self._room(asked, limit, proof_bytes)
        reply = self._reply(asked, self._body(asked, size), proof_bytes)
        if len(reply) > limit:
            raise DatagramError("small")  # a request too short to be answered
        return reply

    def _meet(self, asked: Asked, packed: bytes) -> None:
        """Add the asker to the table, as far as it has proved its id."""
        core, request, contact = self._core, asked.request, asked.sender
        table = core.table_of(contact.address)
        read_only = bool(request.flags & RequestFlag.READ_ONLY)
        if asked.echoed and request.proof:
            if self._is_proof(asked, packed):
                core.peer_memory.remember_proof(contact, asked.now)
            else:
                core.stats["refused.proof"] += 1
        if read_only:
            return
        if asked.echoed:
            if table.heard(contact, asked.now):
                return
        elif contact in table:
            return
        if table.wants(contact, asked.now):
            if asked.echoed and core.peer_memory.is_proven(contact, asked.now):
                core.table(contact, asked.now)
            else:
                asked.flags |= ReplyFlag.INTRODUCE

    def _is_proof(self, asked: Asked, packed: bytes) -> bool:
        """Verify the proof of id in a request; the echoed token makes it fresh."""
        core, request = self._core, asked.request
        if not self._proofs_read.consume(core.sender_of(asked), asked.now):
            return False
        part = proved_part(packed, request.proof)
        return core.is_proof_of(request.sender, request.proof, part)

    def _proof_bytes(self, asked: Asked, limit: int) -> int:
        """Return how long the reply's proof will be: 0 where there is none."""
        if not asked.request.flags & RequestFlag.PROOF:
            return 0
        if self._room(asked, limit, REPLY_PROOF_BYTES) < _FIND_BYTES:
            asked.truncated = True
            return 0
        if not self._core.may_prove_to(asked):
            self._core.stats["dropped.proving"] += 1
            raise DatagramError("busy")
        return REPLY_PROOF_BYTES

    def _room(self, asked: Asked, limit: int, proof_bytes: int) -> int:
        """Return how many bytes of the reply are left for its body."""
        head = self._core.envelope.overhead + _HEAD_BYTES + proof_bytes
        return limit - head - len(asked.source.packed)

    def _reply(self, asked: Asked, body: MessageBody, proof_bytes: int) -> bytes:
        """Return the datagram of a reply."""
        core, request = self._core, asked.request
        flags = asked.flags
        if asked.truncated and not asked.echoed:
            flags |= ReplyFlag.TRUNCATED
        if core.reach.is_read_only(asked.source):
            flags |= ReplyFlag.READ_ONLY
        part = encode_unproved(
            Reply(
                1,
                request.kind + REPLY,
                request.transaction,
                core.node_id[:HINT_BYTES],
                asked.source.packed,
                core.tokens.issue(asked.source, asked.now),
                flags,
                body,
            )
        )
        proof = b""
        if proof_bytes:
            proof = core.proof_for(request.sender, part)
            if not proof:
                raise DatagramError("key")
            proof = core.public_key + proof
        return core.envelope.wrap(add_proof(part, proof), request.sender)

    def _body(self, asked: Asked, size: int) -> MessageBody:
        """Return what a request asked for."""
        body = asked.request.body
        if isinstance(body, FindNode):
            contacts = self._contacts(asked, body.target, REPLY_CONTACTS_MAX)
            return Nodes(contacts, self._write_token(asked, body.target))
        if isinstance(body, FindProviders):
            return self._providers(asked, body)
        if isinstance(body, FindRecord):
            return self._record(asked, body)
        if isinstance(body, Announce):
            return self._local_storage.announced(body, asked)
        if isinstance(body, StoreRecord):
            outcome = self._local_storage.record_stored(body, asked)
            fits = len(outcome.held) + 6 <= asked.room
            return RecordStored(outcome.status, outcome.held if fits else b"")
        if isinstance(body, Notify):
            self._on_notify(body, asked, size)
            return Notified()
        if isinstance(body, Reserve | Call | Called):
            return self._on_introduction(body, asked)
        if isinstance(body, DialBack):
            return self._on_dial_back(body, asked)
        return Pong()

    def _providers(self, asked: Asked, body: FindProviders) -> Providers:
        """Return providers first, then as many contacts as still fit."""
        lease = self._local_storage.lease(body, asked)
        room = asked.room - _FIND_BYTES - 3 - 5 - 1 - 2 - len(lease)
        limit = room - _CONTACTS_BESIDE_PROVIDERS_BYTES
        page = self._local_storage.providers(
            body.target, body.cursor, asked, room=max(limit, 0)
        )
        records: list[bytes] = []
        for record in page.records:
            packed = record.packed
            taken = len(packed) + (2 if len(packed) <= 255 else 3)
            if taken > room:
                break
            room -= taken
            records.append(packed)
        if page.total and not records:
            asked.truncated = True
        asked.room = room + _FIND_BYTES
        contacts = self._contacts(asked, body.target, REPLY_CONTACTS_MAX)
        token = self._write_token(asked, body.target)
        return Providers(contacts, token, page.total, page.cursor, records, lease)

    def _record(self, asked: Asked, body: FindRecord) -> RecordFound:
        """Return the record, then as many contacts as still fit, at most six."""
        record, conflicted = self._local_storage.record(body, asked.now)
        if conflicted:
            asked.flags |= ReplyFlag.CONFLICT
        limit = REPLY_CONTACTS_BESIDE_RECORD_MAX if record else REPLY_CONTACTS_MAX
        if len(record) + 3 + _FIND_BYTES > asked.room:
            asked.truncated = True
            record = b""
        asked.room -= len(record) + 3
        contacts = self._contacts(asked, body.target, limit)
        return RecordFound(contacts, self._write_token(asked, body.target), record)

    def _contacts(self, asked: Asked, target: bytes, limit: int) -> bytes:
        """Return the packed contacts nearest to a target that fit in the room."""
        room = asked.room - _FIND_BYTES
        packed = [contact.packed for contact in self._nearest(asked, target, limit)]
        length = sum(map(len, packed))
        left_out = length > room
        while packed and length > room:
            length -= len(packed.pop())
        if left_out and len(packed) < min(limit, _CONTACTS_ENOUGH):
            asked.truncated = True
        return b"".join(packed)

    def _nearest(self, asked: Asked, target: bytes, limit: int) -> list[Contact]:
        """Return the nearest contacts of the families that the asker can use.

        Addresses of this machine or a private network are not named outside of it.
        """
        flags = asked.request.flags
        wanted = int.from_bytes(target, "big")
        found: list[Contact] = []
        for family, flag in ((4, RequestFlag.IPV4), (6, RequestFlag.IPV6)):
            if not flags & flag:
                continue
            most = limit if family == 4 else min(limit, REPLY_CONTACTS_IPV6_MAX)
            table = self._core.tables[family]
            near = table.nearest(wanted, most, exclude=asked.sender.node_id)
            if asked.source.scope is Scope.LOOPBACK:
                found += near
            else:
                found += [each for each in near if asked.source.believes(each.address)]
        if len(found) > limit:
            found.sort(key=lambda contact: contact.long_id ^ wanted)
        return found[:limit]

    def _write_token(self, asked: Asked, target: bytes) -> bytes:
        return self._core.tokens.issue(asked.source, asked.now, write_scope(target))
