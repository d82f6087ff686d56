"""Which chunks somebody has: one byte each in memory, one bit each on the wire.

On the wire the chunk at `index` is bit `index % 8`, the least significant first,
of byte `index // 8`; bits beyond the last chunk are zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

from transfer.errors import WireError

_TO_DIGITS = bytes.maketrans(b"\x00\x01", b"01")
_FROM_DIGITS = bytes.maketrans(b"01", b"\x00\x01")


def pack(flags: bytes | bytearray) -> bytes:
    """Return the wire form of flags that are 0 or 1 each."""
    if not flags:
        return b""
    value = int(flags[::-1].translate(_TO_DIGITS), 2)
    return value.to_bytes(-(-len(flags) // 8), "little")


def unpack(packed: bytes, count: int) -> bytearray:
    """Return `count` flags; WireError where the wire form does not fit them."""
    if len(packed) != -(-count // 8):
        raise WireError("The bitmap has the wrong length.")
    value = int.from_bytes(packed, "little")
    if value >> count:
        raise WireError("The bitmap has bits beyond the last chunk.")
    if not count:
        return bytearray()
    digits = format(value, f"0{count}b").encode()
    return bytearray(digits.translate(_FROM_DIGITS)[::-1])


def sums(flags: Sequence[bytearray], count: int) -> list[int]:
    """Add up flags of `count` chunks place by place."""
    return list(map(sum, zip(*flags, strict=True))) if flags else [0] * count
