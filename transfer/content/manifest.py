"""Manifests: an artifact as a list of chunks, each with its BLAKE3 digest.

The manifest follows from the bytes alone, so that all honest peers give the
same one. Its digest is the SHA-256 of this encoding: the 18 bytes
`caravan manifest 1`, size (8 bytes, big endian), chunk size (4 bytes, big
endian), then 32 bytes for each chunk in order.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from blake3 import blake3

from transfer.errors import ManifestError
from transfer.limits import (
    ARTIFACT_BYTES_MAX,
    CHUNK_BYTES_LARGE_MIN,
    CHUNK_BYTES_SMALL,
    CHUNKS_MAX,
    SMALL_ARTIFACT_BYTES_MAX,
)

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK_DIGEST_BYTES = 32
_PREFIX = b"caravan manifest 1"
_HEAD = struct.Struct(">18sQI")


def chunk_size_of(size: int) -> int:
    """Return the chunk size, in bytes, of an artifact of `size` bytes.

    >>> chunk_size_of(1_000_000), chunk_size_of(512 * 2**20), chunk_size_of(64 * 2**30)
    (262144, 1048576, 4194304)
    """
    if size <= SMALL_ARTIFACT_BYTES_MAX:
        return CHUNK_BYTES_SMALL
    chunk_size = CHUNK_BYTES_LARGE_MIN
    while chunk_size * CHUNKS_MAX < size:
        chunk_size *= 2
    return chunk_size


def chunk_digest(data: ReadableBuffer) -> bytes:
    """Return the BLAKE3 digest of one chunk."""
    return blake3(data).digest()


@dataclass(frozen=True)
class Manifest:
    """Size, chunk size and the digest of each chunk of an artifact."""

    size: int
    chunk_size: int
    chunks: bytes
    """The chunk digests, one after the other."""

    def __post_init__(self) -> None:
        if not 0 <= self.size <= ARTIFACT_BYTES_MAX:
            raise ManifestError(f"No artifact has {self.size} bytes.")
        if self.chunk_size != chunk_size_of(self.size):
            raise ManifestError("The manifest has the wrong chunk size.")
        if len(self.chunks) != self.count * CHUNK_DIGEST_BYTES:
            raise ManifestError("The manifest has the wrong number of chunks.")

    @property
    def count(self) -> int:
        """How many chunks there are; none for an empty artifact."""
        return -(-self.size // self.chunk_size)

    @cached_property
    def digest(self) -> bytes:
        """The SHA-256 of the encoding."""
        return hashlib.sha256(self.encode()).digest()

    def chunk(self, index: int) -> bytes:
        """Return the digest of the chunk at `index`."""
        start = index * CHUNK_DIGEST_BYTES
        return self.chunks[start : start + CHUNK_DIGEST_BYTES]

    def offset(self, index: int) -> int:
        """Return where the chunk at `index` begins, in bytes."""
        return index * self.chunk_size

    def length(self, index: int) -> int:
        """Return how many bytes the chunk at `index` has."""
        return min(self.chunk_size, self.size - index * self.chunk_size)

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        return _HEAD.pack(_PREFIX, self.size, self.chunk_size) + self.chunks

    @classmethod
    def decode(cls, encoded: bytes) -> Manifest:
        """Read an encoding; raise `ManifestError` for anything else."""
        if len(encoded) < _HEAD.size:
            raise ManifestError("The manifest is cut short.")
        prefix, size, chunk_size = _HEAD.unpack_from(encoded)
        if prefix != _PREFIX:
            raise ManifestError
        return cls(size, chunk_size, encoded[_HEAD.size :])

    @classmethod
    def of(cls, data: bytes | memoryview) -> Manifest:
        """Return the manifest of bytes that are in memory."""
        if 0 < len(data) <= CHUNK_BYTES_SMALL:
            return cls(len(data), CHUNK_BYTES_SMALL, blake3(data).digest())
        hasher = ManifestHasher(len(data))
        hasher.update(data)
        return hasher.manifest()


class ManifestHasher:
    """Computes the manifest of a stream of known size, in one pass."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chunk_size = chunk_size_of(size)
        self._state = blake3()
        self._room = self._chunk_size
        self._digests: list[bytes] = []

    def update(self, data: ReadableBuffer) -> None:
        """Take in the next bytes."""
        view = memoryview(data)
        while view:
            part = view[: self._room]
            self._state.update(part)
            self._room -= len(part)
            view = view[len(part) :]
            if not self._room:
                self._close_chunk()

    def manifest(self) -> Manifest:
        """Return the manifest; ManifestError where bytes were lost or added."""
        if self._room < self._chunk_size:
            self._close_chunk()
        return Manifest(self._size, self._chunk_size, b"".join(self._digests))

    def _close_chunk(self) -> None:
        self._digests.append(self._state.digest())
        self._state = blake3()
        self._room = self._chunk_size
