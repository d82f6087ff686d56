"""Strict msgpack: the one place of the DHT that packs and unpacks it.

msgpack is not canonical and its errors are of six types, so every length is
bounded while reading, every failure becomes one `DatagramError`, and signatures are
checked over bytes as they were received, never over a second encoding.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack  # type: ignore[import-untyped]
import msgspec

from dht.errors import DatagramError
from dht.limits import DATAGRAM_BYTES_MAX

T = TypeVar("T")


def pack(value: object) -> bytes:
    """Return the msgpack bytes of plain lists, integers, bytes and text."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(packed: bytes | memoryview, *, text: bool = False) -> Any:
    """Return the plain value of msgpack bytes; maps and extensions are refused.

    `text` allows strings, which only records hold. Raises `DatagramError`.
    """
    try:
        return msgpack.unpackb(
            packed,
            max_bin_len=DATAGRAM_BYTES_MAX,
            max_str_len=DATAGRAM_BYTES_MAX if text else 0,
            max_array_len=16,
            max_map_len=0,
            max_ext_len=0,
        )
    except Exception as error:
        # msgpack raises ValueError, its own FormatError, StackError and ExtraData,
        # UnicodeDecodeError and TypeError for what a stranger may send.
        raise DatagramError("msgpack") from error


def convert(value: Any, kind: type[T]) -> T:
    """Return a plain value as a typed struct; raises `DatagramError`."""
    try:
        # With bytes as a builtin type, text is not taken for base64 of bytes.
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise DatagramError("shape") from error
