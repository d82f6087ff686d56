"""Which artifacts this node has announced, and under which keys: 32 bytes for each.

An artifact that is to be withdrawn may be gone from the store, and its aliases with it,
so the keys are kept here: of each alias the first eight bytes of its key, which is all
that the DHT needs to withdraw it. Objects in place of bytes would take ten times the
memory of a store with a million files.

1. A record is the first 16 bytes of an artifact's SHA-256, then a prefix for each alias
   algorithm, zeros where the alias is not announced.
2. Records lie in buckets by the first twelve bits of the SHA-256.
3. One thread changes them; any thread may ask whether there is one. So a record enters,
   changes and leaves its bucket in one step of the interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence

NAME_BYTES = 16
PREFIX_BYTES = 8


class AnnouncedKeys:
    """The key prefixes of announced artifacts, by their SHA-256."""

    def __init__(self, aliases: int) -> None:
        """`aliases` is the number of alias algorithms."""
        self._aliases = aliases
        self._record_bytes = NAME_BYTES + PREFIX_BYTES * aliases
        self._buckets: dict[int, bytearray] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, sha256: bytes) -> bool:
        return self._find(sha256)[1] >= 0

    def prefixes(self, sha256: bytes) -> tuple[bytes, ...] | None:
        """Return the key prefixes of an artifact's aliases; None if not announced.

        That of an alias which is not announced is empty.
        """
        bucket, at = self._find(sha256)
        if at < 0:
            return None
        starts = range(at + NAME_BYTES, at + self._record_bytes, PREFIX_BYTES)
        found = (bytes(bucket[start : start + PREFIX_BYTES]) for start in starts)
        return tuple(one if any(one) else b"" for one in found)

    def put(self, sha256: bytes, prefixes: Sequence[bytes]) -> None:
        """Note an artifact as announced, with its aliases' key prefixes or b""."""
        tails = (one[:PREFIX_BYTES].ljust(PREFIX_BYTES, b"\0") for one in prefixes)
        record = sha256[:NAME_BYTES] + b"".join(tails)
        bucket, at = self._find(sha256)
        if at < 0:
            self._count += 1
            bucket += record
        else:
            bucket[at : at + self._record_bytes] = record

    def drop(self, sha256: bytes) -> None:
        """Note an artifact as announced no more."""
        bucket, at = self._find(sha256)
        if at >= 0:
            self._count -= 1
            del bucket[at : at + self._record_bytes]

    def _find(self, sha256: bytes) -> tuple[bytearray, int]:
        """Return an artifact's bucket and the place of its record, -1 without one."""
        bucket = self._buckets.setdefault(sha256[0] << 4 | sha256[1] >> 4, bytearray())
        name = sha256[:NAME_BYTES]
        at = bucket.find(name)
        while at >= 0 and at % self._record_bytes:
            at = bucket.find(name, at + 1)
        return bucket, at
