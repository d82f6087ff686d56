"""The transfer wire: messages, frames and the first bytes of a connection.

A frame is a length of four bytes (big endian) and a msgpack array that begins
with the message's number. Decoding is strict: fixed shapes, bounds on every
length, nothing unknown. The payload of a chunk, or of a whole small artifact,
follows its frame raw. The whole protocol is written down in
docs/protocol-transfer.md.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Annotated

import msgspec
from msgspec import Meta

from transfer.content.digest import Digest
from transfer.errors import DigestError, WireError
from transfer.limits import (
    ARTIFACT_BYTES_MAX,
    BITMAP_BYTES_MAX,
    BUSY_SECONDS_MAX,
    CHUNK_BYTES_MAX,
    CHUNKS_MAX,
    EAGER_BYTES_MAX,
    FILE_NAME_CHARACTERS_MAX,
    FOLLOW_PART_BYTES_MAX,
    PEX_ENTRY_BYTES,
    PEX_PEERS_PER_MESSAGE_MAX,
    REASON_CHARACTERS_MAX,
    REPLY_FRAME_BYTES_MAX,
)

VERSION = 1
MAGIC_TLS = b"caravan\x01"
MAGIC_PLAINTEXT = b"caravan\x02"
MAGIC_DIAL_BACK = b"caravan\x03"
MAGIC_REVERSE = b"caravan\x04"
MAGIC_RELAY = b"caravan\x05"
MAGIC_MEET = b"caravan\x06"
# These open no conversation with the seeder; so many bytes follow, and then whatever
# the two ends have agreed on elsewhere.
OPENING_BYTES = {
    MAGIC_DIAL_BACK: 8,
    MAGIC_REVERSE: 16,
    MAGIC_RELAY: 16,
    MAGIC_MEET: 16,
}
LENGTH_BYTES = 4

_LENGTH = struct.Struct(">I")
_LEECHER_ROLE = b"caravan transfer leecher 1"
_SEEDER_ROLE = b"caravan transfer seeder 1"

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
OptionalKey = Annotated[bytes, Meta(max_length=32)]
Number = Annotated[int, Meta(ge=0, le=2**32 - 1)]
ChunkIndex = Annotated[int, Meta(ge=0, lt=CHUNKS_MAX)]
# Printable ASCII without the slash: no path, and nothing that drives a terminal.
FileName = Annotated[
    str, Meta(max_length=FILE_NAME_CHARACTERS_MAX, pattern=r"\A[ -.0-~]*\Z")
]


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all messages share."""


class AboutArtifact(Message, frozen=True):
    """What leechers' messages about an artifact begin with."""

    number: Number
    algorithm: Annotated[str, Meta(max_length=16)]
    digest: Annotated[bytes, Meta(min_length=16, max_length=64)]

    @property
    def name(self) -> Digest:
        """The digest as a value; WireError for an unknown algorithm."""
        try:
            return Digest(self.algorithm, self.digest)
        except DigestError as error:
            raise WireError(str(error)) from error


class Hello(Message, frozen=True, tag=0):
    """The first message of either end; a seeder's carries its network proof."""

    version: Annotated[int, Meta(ge=1, le=255)]
    public_key: Key
    nonce: Key
    proof: OptionalKey


class Proof(Message, frozen=True, tag=1):
    """A leecher's network proof, in a private network only."""

    proof: Key


class Want(AboutArtifact, frozen=True, tag=2):
    """A leecher asks for an artifact and gives its request a number.

    `manifest` is empty, or the digest of the manifest that the leecher has.
    `port` is where it serves what it has verified meanwhile, 0 if it does not.
    """

    manifest: OptionalKey
    port: Annotated[int, Meta(ge=0, le=65_535)]


class Listing(Message, frozen=True, tag=3):
    """A seeder gives the manifest of what is wanted."""

    number: Number
    encoded: Annotated[bytes, Meta(max_length=REPLY_FRAME_BYTES_MAX)]


class Have(Message, frozen=True, tag=4):
    """A seeder has the whole, or the chunks of the bitmap, of this manifest."""

    number: Number
    manifest: Key
    whole: bool
    bitmap: Annotated[bytes, Meta(max_length=BITMAP_BYTES_MAX)]


class Get(Message, frozen=True, tag=5):
    """A leecher asks for one chunk, without its first `start` bytes."""

    number: Number
    index: ChunkIndex
    start: Annotated[int, Meta(ge=0, lt=CHUNK_BYTES_MAX)]


class Chunk(Message, frozen=True, tag=6):
    """A seeder sends a chunk from where it was asked to; `length` bytes follow."""

    number: Number
    index: ChunkIndex
    length: Annotated[int, Meta(ge=0, le=CHUNK_BYTES_MAX)]


class Absent(Message, frozen=True, tag=7):
    """A seeder does not have, or no longer has, what is wanted."""

    number: Number
    partial: bool
    """Whether it is downloading it, and serves who names the same manifest."""


class Lacking(Message, frozen=True, tag=8):
    """A seeder cannot send this one chunk."""

    number: Number
    index: ChunkIndex


class Busy(Message, frozen=True, tag=9):
    """A seeder drops all unanswered requests; ask again after `seconds`."""

    seconds: Annotated[int, Meta(ge=0, le=BUSY_SECONDS_MAX)]


class Bye(Message, frozen=True, tag=10):
    """Either end closes the connection, and says why."""

    reason: Annotated[str, Meta(max_length=REASON_CHARACTERS_MAX)]


class Complaint(Message, frozen=True, tag=11):
    """A leecher received a chunk that does not match the manifest."""

    number: Number
    index: ChunkIndex


class Done(Message, frozen=True, tag=12):
    """A leecher needs no more of this artifact."""

    number: Number


class Ask(AboutArtifact, frozen=True, tag=13):
    """A leecher asks for a whole artifact of at most `bytes_max` bytes.

    It opens no request: the number only ties the answer to it.
    """

    bytes_max: Annotated[int, Meta(ge=0, le=EAGER_BYTES_MAX)]


class Whole(Message, frozen=True, tag=14):
    """A seeder sends a whole artifact; `length` raw bytes follow this frame."""

    number: Number
    length: Annotated[int, Meta(ge=0, le=EAGER_BYTES_MAX)]


class Larger(Message, frozen=True, tag=15):
    """A seeder has what was asked for, but it is larger than that."""

    number: Number


class PeerExchange(Message, frozen=True, tag=16):
    """A seeder names others that download the same and serve meanwhile."""

    number: Number
    entries: Annotated[
        bytes,
        Meta(min_length=1, max_length=PEX_ENTRY_BYTES * PEX_PEERS_PER_MESSAGE_MAX),
    ]


class Redirect(Message, frozen=True, tag=17):
    """A seeder drops a get: others were just given the chunks of the bitmap."""

    number: Number
    index: ChunkIndex
    bitmap: Annotated[bytes, Meta(min_length=1, max_length=BITMAP_BYTES_MAX)]


class Follow(Message, frozen=True, tag=18):
    """A leecher asks for what the seeder brings in, from `start` on, as it comes.

    `kind` is the algorithm of the digest `name`, or something else that both know.
    """

    number: Number
    kind: Annotated[str, Meta(min_length=1, max_length=16)]
    name: Annotated[bytes, Meta(min_length=16, max_length=64)]
    start: Annotated[int, Meta(ge=0, le=ARTIFACT_BYTES_MAX)]

    @property
    def digest(self) -> Digest | None:
        """The digest that is followed; None for another kind."""
        try:
            return Digest(self.kind, self.name)
        except DigestError:
            return None


class Part(Message, frozen=True, tag=19):
    """A seeder sends what has come, unverified; `length` bytes follow this frame.

    `size` is the length of the whole, 0 while that is not known. `last` says that all
    of it was sent, and verified here.
    """

    number: Number
    size: Annotated[int, Meta(ge=0, le=ARTIFACT_BYTES_MAX)]
    length: Annotated[int, Meta(ge=0, le=FOLLOW_PART_BYTES_MAX)]
    last: bool


class NameOf(AboutArtifact, frozen=True, tag=20):
    """A leecher asks what file name the seeder knows for an artifact.

    It opens no request: the number only ties the answer to it.
    """


class Named(Message, frozen=True, tag=21):
    """A seeder answers with a file name, a hint; empty where it knows none."""

    number: Number
    name: FileName


AnyMessage = (
    Hello
    | Proof
    | Want
    | Listing
    | Have
    | Get
    | Chunk
    | Absent
    | Lacking
    | Busy
    | Bye
    | Complaint
    | Done
    | Ask
    | Whole
    | Larger
    | PeerExchange
    | Redirect
    | Follow
    | Part
    | NameOf
    | Named
)

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """Return the frame of a message, its length included."""
    body: bytes = _ENCODER.encode(message)
    return _LENGTH.pack(len(body)) + body


def body_length(head: bytes | bytearray | memoryview, bytes_max: int) -> int:
    """Return the length that a frame's first four bytes announce."""
    length: int = _LENGTH.unpack_from(head)[0]
    if not 0 < length <= bytes_max:
        raise WireError(f"The peer announced a frame of {length} bytes.")
    return length


def decode(body: bytes | bytearray | memoryview) -> AnyMessage:
    """Read the body of a frame; raise WireError for anything not allowed."""
    try:
        message: AnyMessage = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError("The peer sent a frame that cannot be read.") from error
    return message


def network_proof(
    secret: bytes, *, seeder: bool, leecher_hello: Hello, seeder_hello: Hello
) -> bytes:
    """Return the proof that one end knows the network's secret.

    HMAC-SHA-256 over the role, both nonces and both node keys, the leecher's
    before the seeder's; the seeder's key is that of its certificate.
    """
    text = b"".join(
        (
            _SEEDER_ROLE if seeder else _LEECHER_ROLE,
            leecher_hello.nonce,
            seeder_hello.nonce,
            leecher_hello.public_key,
            seeder_hello.public_key,
        )
    )
    return hmac.digest(secret, text, hashlib.sha256)
