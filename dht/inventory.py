"""Inventory slices: the keys that a node offers in one block of the key space.

1. A block is all keys that begin with the same `depth` bits, at most 32. `start` holds
   these bits as the highest of a 32-bit integer, the others being zero.
2. A slice lists the keys of a block that its node offers, at most
   `SLICE_ENTRIES_MAX`, each by an entry: the 32 bits of the key that follow the
   block's. So it costs 4 bytes a key, beside 75 for the slice.
3. A slice says all that its node offers in the block. A newer one (`issued_at`) of a
   block takes the place of every older one whose block it contains or lies in. Without
   entries it withdraws the block.
4. A slice is signed by the node key, and no keeper can invent one. It names no address
   and no end: a node record (`dht.providers`) says where the node is and until when
   its slices count. A slice is good for `SLICE_SECONDS` at most.
5. An entry is a hint. Another key may have the same 32 bits; then the node itself,
   asked for the content, answers that it has none.

Times here are milliseconds since 1970.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.errors import RecordError
from dht.limits import CLOCK_SKEW_SECONDS, SLICE_ENTRIES_MAX, SLICE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dht.identity import Signer, Verify

SLICE_PREFIX: Final = b"caravan slice 1"
DEPTH_MAX: Final = 32
ENTRY_BYTES: Final = 4
BLOCK_BYTES: Final = 5  # depth, start
ISSUED_BYTES: Final = 6
SLICE_HEAD_BYTES: Final = BLOCK_BYTES + ISSUED_BYTES + 64
SLICE_BYTES_MAX: Final = SLICE_HEAD_BYTES + ENTRY_BYTES * SLICE_ENTRIES_MAX
_MASK: Final = (1 << DEPTH_MAX) - 1


class Block(NamedTuple):
    """The keys that begin with the highest `depth` bits of `start`."""

    depth: int
    start: int

    @property
    def end(self) -> int:
        """The start of the next block of this depth."""
        return self.start + (1 << (DEPTH_MAX - self.depth))

    @property
    def packed(self) -> bytes:
        """Depth (1 byte) and start (4 bytes)."""
        return bytes([self.depth]) + self.start.to_bytes(4, "big")

    @property
    def code(self) -> int:
        """An integer that no other block has."""
        return self.depth << DEPTH_MAX | self.start

    @classmethod
    def unpack(cls, packed: bytes) -> Block:
        """Read a packed block; raise `RecordError`."""
        if len(packed) != BLOCK_BYTES or packed[0] > DEPTH_MAX:
            raise RecordError("The block of a slice is malformed.")
        block = cls(packed[0], int.from_bytes(packed[1:], "big"))
        if block.start & (_MASK >> block.depth):
            raise RecordError("The block of a slice is malformed.")
        return block

    @classmethod
    def of(cls, key: bytes, depth: int) -> Block:
        """Return the block of a depth in which a key lies."""
        return cls.around(int.from_bytes(key[:4], "big"), depth)

    @classmethod
    def around(cls, head: int, depth: int) -> Block:
        """Return the same by the first 32 bits of a key."""
        return cls(depth, head & ~(_MASK >> depth) & _MASK)

    def has(self, key: bytes) -> bool:
        """Whether a key lies in it."""
        return self.start <= int.from_bytes(key[:4], "big") < self.end

    def covers(self, other: Block) -> bool:
        """Whether another block is this one or lies in it."""
        return self.depth <= other.depth and self.start <= other.start < self.end


def prefix_of(key: bytes) -> int:
    """Return the first 64 bits of a key: all that a slice of any depth says of it."""
    return int.from_bytes(key[:8], "big")


def entry_of(key: bytes, depth: int) -> int:
    """Return a key's entry in a slice of a depth: the 32 bits that follow."""
    return prefix_of(key) >> (DEPTH_MAX - depth) & _MASK


def content_id(block: Block, entries: bytes) -> int:
    """Return 63 bits of the BLAKE2b digest of a block and its entries."""
    content = hashlib.blake2b(block.packed + entries, digest_size=8)
    return int.from_bytes(content.digest(), "big") >> 1


def has_entry(packed: bytes, entry: int) -> bool:
    """Whether a packed slice has the entry of the lowest 32 bits of a number."""
    wanted = (entry & _MASK).to_bytes(ENTRY_BYTES, "big")
    place = packed.find(wanted, SLICE_HEAD_BYTES)
    while place >= 0 and (place - SLICE_HEAD_BYTES) % ENTRY_BYTES:
        place = packed.find(wanted, place + 1)
    return place >= 0


def pack_entries(keys: Iterable[bytes], depth: int) -> bytes:
    """Return the sorted entries of keys, without repeats."""
    return pack_prefixes(map(prefix_of, keys), depth)


def pack_prefixes(prefixes: Iterable[int], depth: int) -> bytes:
    """Return the same by the first 64 bits of each key."""
    shift = DEPTH_MAX - depth
    entries = sorted({prefix >> shift & _MASK for prefix in prefixes})
    return struct.pack(f">{len(entries)}I", *entries)


@dataclass(frozen=True, slots=True)
class InventorySlice:
    """What a node offers in a block, signed by the node."""

    block: Block
    issued_at: int
    entries: bytes
    signature: bytes = field(repr=False)

    @property
    def packed(self) -> bytes:
        """Block, time of issue, signature and entries, as they travel."""
        issued = self.issued_at.to_bytes(ISSUED_BYTES, "big")
        return self.block.packed + issued + self.signature + self.entries

    @property
    def heads(self) -> list[int]:
        """The first 32 bits of each key, in order."""
        depth, start = self.block
        count = len(self.entries) // ENTRY_BYTES
        return [
            start | entry >> depth
            for entry in struct.unpack(f">{count}I", self.entries)
        ]

    @property
    def content_id(self) -> int:
        """63 bits that say what is offered, whenever it was signed."""
        return content_id(self.block, self.entries)

    def offers(self, key: bytes) -> bool:
        """Whether the key is listed, or another with the same bits."""
        entry = entry_of(key, self.block.depth)
        return self.block.has(key) and has_entry(self.packed, entry)

    @classmethod
    def sign(
        cls,
        signer: Signer,
        *,
        tag: bytes,
        block: Block,
        entries: bytes,
        issued_at: int,
    ) -> InventorySlice:
        """Return this node's slice of a block in the network with `tag`."""
        part = _signed_part(tag, block, issued_at, entries=entries)
        return cls(block, issued_at, entries, signer.sign(part))

    @classmethod
    def unpack(cls, packed: bytes) -> InventorySlice:
        """Read an unverified slice; raise `RecordError`.

        There is one way to write it: entries ascend, without repeats.
        """
        if not SLICE_HEAD_BYTES <= len(packed) <= SLICE_BYTES_MAX:
            raise RecordError("The slice is too long or too short.")
        block = Block.unpack(packed[:BLOCK_BYTES])
        entries = packed[SLICE_HEAD_BYTES:]
        count, rest = divmod(len(entries), ENTRY_BYTES)
        if rest:
            raise RecordError("The slice is malformed.")
        numbers = struct.unpack(f">{count}I", entries)
        if sorted(set(numbers)) != list(numbers):
            raise RecordError("The entries of the slice are not in order.")
        head = BLOCK_BYTES + ISSUED_BYTES
        issued_at = int.from_bytes(packed[BLOCK_BYTES:head], "big")
        return cls(block, issued_at, entries, packed[head:SLICE_HEAD_BYTES])

    def verify(
        self, tag: bytes, now: float, verify: Verify, *, public_key: bytes
    ) -> None:
        """Raise `RecordError` unless a node signed it and it holds.

        `now` is in seconds since 1970.
        """
        age = now - self.issued_at / 1000
        if age > SLICE_SECONDS:
            raise RecordError("The slice is too old.")
        if age < -CLOCK_SKEW_SECONDS:
            raise RecordError("The slice is dated in the future.")
        part = _signed_part(tag, self.block, self.issued_at, entries=self.entries)
        if not verify(public_key, self.signature, part):
            raise RecordError("The signature of the slice is wrong.")


def _signed_part(tag: bytes, block: Block, issued_at: int, *, entries: bytes) -> bytes:
    issued = issued_at.to_bytes(ISSUED_BYTES, "big")
    return SLICE_PREFIX + tag + block.packed + issued + entries
