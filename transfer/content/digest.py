"""Digests: the names of artifacts, in every form that lockfiles write them.

SHA-256 is the name of an artifact; the other algorithms are aliases, computed
here from verified bytes. Forms: prefixed and bare hex, pip's `sha256=`,
Subresource Integrity (W3C SRI) and RFC 6920 `ni` URIs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from transfer.errors import DigestError
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from _typeshed import ReadableBuffer

NAME_ALGORITHM = "sha256"
ALGORITHM_BYTES = {
    "sha256": 32,
    "sha512": 64,
    "blake2b-256": 32,
    "sha1": 20,
    "md5": 16,
}
ALIAS_ALGORITHMS = tuple(name for name in ALGORITHM_BYTES if name != NAME_ALGORITHM)
FORMS = (
    "sha256:<hex>, bare hex (64 digits sha256, 128 sha512, 40 sha1, 32 md5), "
    "sha256=<hex>, sha256-<base64> and ni:///sha-256;<base64url>"
)

_BARE_HEX = {64: "sha256", 128: "sha512", 40: "sha1", 32: "md5"}
_NI_NAMES = {"sha-256": "sha256", "sha-512": "sha512", "blake2b-256": "blake2b-256"}
_HEX = re.compile(r"[0-9a-fA-F]+\Z", re.ASCII)
_ALGORITHM = "|".join(sorted(ALGORITHM_BYTES, key=len, reverse=True))
_PREFIXED = re.compile(rf"({_ALGORITHM})([:=])(.*)\Z", re.ASCII | re.IGNORECASE)
_INTEGRITY = re.compile(rf"({_ALGORITHM})-(.*)\Z", re.ASCII | re.IGNORECASE)
_NI = re.compile(r"ni:///([a-z0-9-]+);(.*)\Z", re.ASCII | re.IGNORECASE)


class Hash(Protocol):
    """What hashlib's objects can do, as far as it is used here."""

    def update(self, data: ReadableBuffer, /) -> None:
        """Take in more bytes."""

    def digest(self) -> bytes:
        """Return the digest of what was taken in."""


_NEW: dict[str, Callable[[], Hash]] = {
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "blake2b-256": lambda: hashlib.blake2b(digest_size=32),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
}


def new_hash(algorithm: str) -> Hash:
    """Return a fresh hash of `algorithm`, one of `ALGORITHM_BYTES`."""
    return _NEW[algorithm]()


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """An algorithm and the bytes of a hash of an artifact."""

    algorithm: str
    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != ALGORITHM_BYTES.get(self.algorithm):
            raise DigestError(
                f"{self.algorithm!r} with {len(self.raw)} bytes is no digest."
            )

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.raw.hex()}"

    @property
    def hex(self) -> str:
        """The digest in lower-case hexadecimal, without its algorithm."""
        return self.raw.hex()

    def short(self) -> str:
        """Return the first ten hexadecimal digits, for people."""
        return self.raw[:5].hex()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read a digest in any of the accepted forms; raise `DigestError`.

        >>> digest = Digest.parse("sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=")
        >>> digest == Digest.of(b"hello") == Digest.parse(digest.hex)
        True
        """
        found = _read(text)
        if found is None or len(found[1]) != ALGORITHM_BYTES[found[0]]:
            shown = text if len(text) <= 80 else text[:77] + "..."
            raise DigestError(f"{shown!r} is not a digest; the forms are {FORMS}.")
        return cls(*found)

    @classmethod
    def of(cls, data: ReadableBuffer, algorithm: str = NAME_ALGORITHM) -> Digest:
        """Return the digest of bytes that are in memory."""
        state = new_hash(algorithm)
        state.update(data)
        return cls(algorithm, state.digest())

    @classmethod
    def of_file(cls, path: Path, algorithm: str = NAME_ALGORITHM) -> Digest:
        """Return the digest of a file; raises OSError where it cannot be read."""
        state = new_hash(algorithm)
        buffer = memoryview(bytearray(BUFFER_BYTES))
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                state.update(buffer[:count])
        return cls(algorithm, state.digest())


def _read(text: str) -> tuple[str, bytes] | None:
    """Return algorithm and bytes, whatever their number, or None."""
    if match := _PREFIXED.match(text):
        raw = _from_hex(match[3])
        return None if raw is None else (match[1].lower(), raw)
    if match := _NI.match(text):
        algorithm = _NI_NAMES.get(match[1].lower())
        raw = _from_base64(match[2].replace("-", "+").replace("_", "/"), pad=True)
        return None if algorithm is None or raw is None else (algorithm, raw)
    if match := _INTEGRITY.match(text):
        raw = _from_base64(match[2], pad=False)
        return None if raw is None else (match[1].lower(), raw)
    raw = _from_hex(text)
    algorithm = _BARE_HEX.get(len(text))
    return None if algorithm is None or raw is None else (algorithm, raw)


def _from_hex(text: str) -> bytes | None:
    if len(text) % 2 or not _HEX.match(text):
        return None
    return bytes.fromhex(text)


def _from_base64(text: str, *, pad: bool) -> bytes | None:
    """Decode strictly: another spelling of the same bytes is refused."""
    padded = text + "=" * (-len(text) % 4) if pad else text
    if pad and "=" in text:
        return None
    try:
        raw = base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == padded else None
