"""Bencode, the encoding of BitTorrent (BEP 3), with bounds on everything.

Values are int, bytes, list and dict with bytes as keys. Decoding raises `ValueError`
and nothing else.
"""

from __future__ import annotations

from typing import Any, Final

MESSAGE_BYTES_MAX: Final = 2048
DEPTH_MAX: Final = 6
DIGITS_MAX: Final = 20


def encode(value: Any) -> bytes:
    """Return the bytes of a value; keys are sorted."""
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(encode, value)) + b"e"
    if isinstance(value, dict):
        pairs = (encode(key) + encode(each) for key, each in sorted(value.items()))
        return b"d" + b"".join(pairs) + b"e"
    raise TypeError(f"{type(value).__name__} has no bencode")


def decode(data: bytes) -> Any:
    """Read one value that fills `data`; raises `ValueError`."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise ValueError("too long")
    value, end = _read(data, 0, DEPTH_MAX)
    if end != len(data):
        raise ValueError("something follows the value")
    return value


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """Return the value at a place and the place behind it."""
    kind = data[at : at + 1]
    if kind == b"i":
        return _read_number(data, at + 1, b"e")
    if kind.isdigit():
        length, start = _read_number(data, at, b":")
        end = start + length
        if end > len(data):
            raise ValueError("a text is cut off")
        return data[start:end], end
    if kind not in (b"l", b"d") or not depth:
        raise ValueError("no value, or one too deep")
    values = []
    at += 1
    while data[at : at + 1] != b"e":
        value, at = _read(data, at, depth - 1)
        values.append(value)
    if kind == b"l":
        return values, at + 1
    keys = values[::2]
    if len(values) % 2 or not all(isinstance(key, bytes) for key in keys):
        raise ValueError("a dictionary has keys that are no texts")
    return dict(zip(keys, values[1::2], strict=True)), at + 1


def _read_number(data: bytes, at: int, end: bytes) -> tuple[int, int]:
    stop = data.find(end, at, at + DIGITS_MAX + 2)
    digits = data[at:stop] if stop >= 0 else b""
    if not digits.removeprefix(b"-").isdigit():
        raise ValueError("a number is none")
    return int(digits), stop + 1
