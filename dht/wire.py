"""The messages, as bytes and as frozen structs; `docs/protocol-dht.md` tells all.

A datagram is a prefix (see `dht.envelope`) and one msgpack array. A request is
`[1, kind, transaction, sender key, flags, token, body, padding, proof]`, a reply
`[1, kind + 64, transaction, id hint, observed, token, flags, body, proof]`. The
proof is always the last element, so that it can be of everything before it.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

from dht.errors import DatagramError
from dht.inventory import (
    BLOCK_BYTES,
    ENTRY_BYTES,
    SLICE_BYTES_MAX,
    SLICE_HEAD_BYTES,
)
from dht.limits import (
    DATAGRAM_BYTES_MAX,
    HINTS_MAX,
    INTRODUCERS_MAX,
    PROVIDERS_PER_KEY_MAX,
    PROVIDERS_PER_REPLY_MAX,
    RECORD_BYTES_MAX,
    SLICES_PER_ANNOUNCE_MAX,
    TOKEN_BYTES,
)
from dht.packing import convert, pack, unpack

VERSION: Final = 1
REPLY: Final = 64  # added to the kind of the request
REQUEST_PROOF_BYTES: Final = 16
REPLY_PROOF_BYTES: Final = 48  # public key and proof
HINT_BYTES: Final = 8
INTRODUCERS_BYTES_MAX: Final = INTRODUCERS_MAX * 51
PROVIDER_BYTES_MIN: Final = 112 + SLICE_HEAD_BYTES + ENTRY_BYTES  # IPv4, one key
PROVIDER_BYTES_MAX: Final = 124 + INTRODUCERS_BYTES_MAX + SLICE_BYTES_MAX
LEASE_BYTES_MAX: Final = 51  # a packed contact

Transaction: TypeAlias = Annotated[bytes, Meta(min_length=8, max_length=8)]
Key: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
CallToken: TypeAlias = Annotated[bytes, Meta(min_length=16, max_length=16)]
Token: TypeAlias = Annotated[bytes, Meta(max_length=TOKEN_BYTES)]
Flags: TypeAlias = Annotated[int, Meta(ge=0, le=255)]
PackedAddress: TypeAlias = Annotated[bytes, Meta(max_length=19)]
PackedContacts: TypeAlias = Annotated[bytes, Meta(max_length=1020)]
RecordBytes: TypeAlias = Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
StatusCode: TypeAlias = Annotated[int, Meta(ge=0, le=15)]


class RequestFlag:
    """What the sender of a request wants or is."""

    PROOF: Final = 1  # prove your id
    READ_ONLY: Final = 2  # answer me, but do not pass me on
    IPV4: Final = 4  # I can use IPv4 contacts
    IPV6: Final = 8


class ReplyFlag:
    """What the sender of a reply adds."""

    INTRODUCE: Final = 1  # prove yourself and I shall table you
    TRUNCATED: Final = 2  # ask again with this token for the rest
    CONFLICT: Final = 4  # I know other bytes of the same order
    READ_ONLY: Final = 8  # do not pass me on


class Stored(enum.IntEnum):
    """What became of something that was to be stored."""

    STORED = 0
    BAD_TOKEN = 1
    INVALID = 2
    FULL = 3
    OLDER = 4  # a newer record is held, and comes with the reply
    CONFLICT = 5  # other bytes of the same order are held, and come with it
    LIMITED = 6


class MessageBody(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """The part of a message that depends on its kind."""


class DialBackStatus(enum.IntEnum):
    """What becomes of a request for a dial-back."""

    STARTED = 0
    REFUSED = 1
    DIALED = 2  # a contact has agreed to dial, and did


class CallStatus(enum.IntEnum):
    """What became of a reservation or a call."""

    DONE = 0
    REFUSED = 1
    UNKNOWN = 2  # the node that is called has no reservation here
    UNPROVEN = 3  # ask again with the token that came with this answer


class Ping(MessageBody, frozen=True):
    """A sign of life is asked for."""


class FindNode(MessageBody, frozen=True):
    """A question for the contacts nearest to the target."""

    target: Key


class FindProviders(MessageBody, frozen=True):
    """A question for those who offer the key; an earlier reply's cursor asks on.

    `lease` is empty, or asks for the key's origin lease as well: the sender's own
    key, or that of a holder from which it got nothing.
    """

    target: Key
    cursor: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    lease: Annotated[bytes, Meta(max_length=32)] = b""


class Announce(MessageBody, frozen=True):
    """I am at this port until then, and offer what these slices list.

    `expires_at`, `signature` and `introducers` are those of the sender's node record;
    all slices lie in the block `region`. With `summary` the reply says what is kept of
    the sender there.
    """

    write_token: Token
    port: Annotated[int, Meta(ge=1, le=65535)]
    expires_at: Annotated[int, Meta(ge=0, lt=1 << 40)]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    region: Annotated[bytes, Meta(min_length=BLOCK_BYTES, max_length=BLOCK_BYTES)]
    slices: Annotated[
        list[
            Annotated[
                bytes, Meta(min_length=SLICE_HEAD_BYTES, max_length=SLICE_BYTES_MAX)
            ]
        ],
        Meta(max_length=SLICES_PER_ANNOUNCE_MAX),
    ]
    introducers: Annotated[bytes, Meta(max_length=INTRODUCERS_BYTES_MAX)] = b""
    summary: bool = False


class FindRecord(MessageBody, frozen=True):
    """A question for the newest record of the key, or for proof of a conflict."""

    target: Key
    conflict: bool = False


class StoreRecord(MessageBody, frozen=True):
    """Keep this record."""

    target: Key
    write_token: Token
    record: RecordBytes


class Notify(MessageBody, frozen=True):
    """Here is a newer release; the hints are contacts who may want it too."""

    record: RecordBytes
    hints: Annotated[bytes, Meta(max_length=HINTS_MAX * 51)] = b""


class DialBack(MessageBody, frozen=True):
    """Dial an address back; an empty one asks to have the sender dialled.

    `port` is the TCP port, 0 where only UDP is to be tried. The nonce is the
    transaction of the ping that is sent, and the first bytes over TCP.
    """

    address: PackedAddress
    port: Annotated[int, Meta(ge=0, le=65535)]
    nonce: Transaction


class Reserve(MessageBody, frozen=True):
    """Pass calls for me on; the request must prove its sender's id."""


class Call(MessageBody, frozen=True):
    """Have a node that has a reservation here meet me: `way` says how."""

    target: Key
    port: Annotated[int, Meta(ge=1, le=65535)]
    token: CallToken
    way: Annotated[int, Meta(ge=1, le=3)]


class Called(MessageBody, frozen=True):
    """You are called from this address; port, token and way are the caller's."""

    caller: PackedAddress
    port: Annotated[int, Meta(ge=1, le=65535)]
    token: CallToken
    way: Annotated[int, Meta(ge=1, le=3)]


class Reserved(MessageBody, frozen=True):
    """Whether calls will be passed on, this node's TCP port, and whether it relays."""

    status: Annotated[int, Meta(ge=0, le=15)]
    port: Annotated[int, Meta(ge=0, le=65535)]
    relays: bool


class Introduced(MessageBody, frozen=True):
    """What became of a call, and the TCP port of the node that passed it on."""

    status: Annotated[int, Meta(ge=0, le=15)]
    port: Annotated[int, Meta(ge=0, le=65535)]


class CallTaken(MessageBody, frozen=True):
    """Whether the node that is called will dial."""

    status: Annotated[int, Meta(ge=0, le=15)]


class DialedBack(MessageBody, frozen=True):
    """Whether it will be done, or was."""

    status: Annotated[int, Meta(ge=0, le=15)]


class Pong(MessageBody, frozen=True):
    """I am here."""


class Nodes(MessageBody, frozen=True):
    """The contacts nearest to the target, and leave to write near it."""

    contacts: PackedContacts
    write_token: Token


class Providers(MessageBody, frozen=True):
    """Some providers of the key, drawn evenly, how many there are, and a cursor.

    `lease` names who holds the origin lease: by key alone where that is the asker or
    this node, else by a packed contact. Empty where none was asked for or granted.
    """

    contacts: PackedContacts
    write_token: Token
    total: Annotated[int, Meta(ge=0, le=PROVIDERS_PER_KEY_MAX + 1)]
    cursor: Annotated[int, Meta(ge=0, lt=1 << 32)]
    providers: Annotated[
        list[
            Annotated[
                bytes,
                Meta(min_length=PROVIDER_BYTES_MIN, max_length=PROVIDER_BYTES_MAX),
            ]
        ],
        Meta(max_length=PROVIDERS_PER_REPLY_MAX),
    ]
    lease: Annotated[bytes, Meta(max_length=LEASE_BYTES_MAX)] = b""


class Announced(MessageBody, frozen=True):
    """What became of the node record, and of each slice.

    Where a summary was asked for: the XOR of the content ids of the sender's slices
    that are kept in the region, and when the newest of them was issued.
    """

    status: StatusCode
    statuses: Annotated[list[StatusCode], Meta(max_length=SLICES_PER_ANNOUNCE_MAX)]
    content: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 0
    newest: Annotated[int, Meta(ge=0, lt=1 << 48)] = 0


class RecordFound(MessageBody, frozen=True):
    """The record that was asked for, or nothing."""

    contacts: PackedContacts
    write_token: Token
    record: RecordBytes


class RecordStored(MessageBody, frozen=True):
    """What became of the record; `record` is the one that stood in its way."""

    status: StatusCode
    record: RecordBytes = b""


class Notified(MessageBody, frozen=True):
    """It has arrived. The same for everybody: it tells nothing of what is held."""


REQUEST_KINDS: Final[dict[int, type[MessageBody]]] = {
    1: Ping,
    2: FindNode,
    3: FindProviders,
    4: Announce,
    5: FindRecord,
    6: StoreRecord,
    7: Notify,
    8: DialBack,
    9: Reserve,
    10: Call,
    11: Called,
}
REPLY_KINDS: Final[dict[int, type[MessageBody]]] = {
    1: Pong,
    2: Nodes,
    3: Providers,
    4: Announced,
    5: RecordFound,
    6: RecordStored,
    7: Notified,
    8: DialedBack,
    9: Reserved,
    10: Introduced,
    11: CallTaken,
}
_KIND_OF: Final[dict[type[MessageBody], int]] = {
    **{body: kind for kind, body in REQUEST_KINDS.items()},
    **{body: kind + REPLY for kind, body in REPLY_KINDS.items()},
}


class Request(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """A question."""

    version: Literal[1]
    kind: int
    transaction: Transaction
    sender: Key
    flags: Flags
    token: Token
    body: Any
    padding: Annotated[bytes, Meta(max_length=DATAGRAM_BYTES_MAX)] = b""
    proof: Annotated[bytes, Meta(max_length=REQUEST_PROOF_BYTES)] = b""


class Reply(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """An answer."""

    version: Literal[1]
    kind: int
    transaction: Transaction
    hint: Annotated[bytes, Meta(min_length=HINT_BYTES, max_length=HINT_BYTES)]
    observed: PackedAddress
    token: Token
    flags: Flags
    body: Any
    proof: Annotated[bytes, Meta(max_length=REPLY_PROOF_BYTES)] = b""


def kind_of(body: MessageBody) -> int:
    """Return the number of a message's kind."""
    return _KIND_OF[type(body)]


def decode(packed: bytes) -> Request | Reply:
    """Read one message; raises `DatagramError` with the reason it is refused."""
    raw = unpack(packed)
    if type(raw) is not list or len(raw) != 9:
        raise DatagramError("shape")
    version, kind = raw[0], raw[1]
    if version != VERSION or type(version) is not int:
        raise DatagramError("version")
    if type(kind) is not int:
        raise DatagramError("shape")
    reply = kind >= REPLY
    body_type = (REPLY_KINDS if reply else REQUEST_KINDS).get(kind & ~REPLY)
    if body_type is None or kind not in (kind & 63, (kind & 63) + REPLY):
        raise DatagramError("kind")
    place = 7 if reply else 6
    raw[place] = convert(raw[place], body_type)
    message: Request | Reply = convert(raw, Reply) if reply else convert(raw, Request)
    proof_bytes = REPLY_PROOF_BYTES if reply else REQUEST_PROOF_BYTES
    if len(message.proof) not in (0, proof_bytes):
        raise DatagramError("proof")
    return message


def proved_part(packed: bytes, proof: bytes) -> bytes:
    """Return the bytes that a message's proof is of; raises `DatagramError`.

    They are everything before the last element, which must be encoded in the short
    form (bin 8), so that there is one way only to cut the message.
    """
    size = len(proof)
    if packed[-size - 2 : -size] != bytes([0xC4, size]):
        raise DatagramError("proof")
    return packed[: -size - 2]


def encode_unproved(message: Request | Reply) -> bytes:
    """Return the bytes of a message up to its proof."""
    head = (message.version, message.kind, message.transaction)
    body = astuple(message.body)
    tail: tuple[Any, ...]
    if isinstance(message, Request):
        tail = (message.sender, message.flags, message.token, body, message.padding)
    else:
        hint, observed = message.hint, message.observed
        tail = (hint, observed, message.token, message.flags, body)
    # An array of nine whose last element, the proof, is still to come.
    return b"\x99" + pack(head + tail)[1:]


def add_proof(part: bytes, proof: bytes = b"") -> bytes:
    """Return a whole message from its part before the proof."""
    return part + bytes([0xC4, len(proof)]) + proof


def encode(message: Request | Reply) -> bytes:
    """Return the bytes of a message, with the proof that it holds."""
    return add_proof(encode_unproved(message), message.proof)
