"""Zip archives of strangers: the directory and one small member, with bounds on all.

`zipfile` unpacks a bzip2 or LZMA member in one piece, whatever its directory says, so
682 bytes can take a gigabyte. Here only stored and deflated members are read, never
more of them than is allowed, and the directory's size is bounded as well. The format is
PKWARE's APPNOTE.TXT; numbers in square brackets are its sections.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from node.gateway import limits

_END = struct.Struct("<4sHHHHIIH")  # [4.3.16]
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")  # [4.3.12]
_LOCAL = struct.Struct("<4sHHHHHIIIHH")  # [4.3.7]
_COMMENT_BYTES_MAX = 65_535
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1


class Seekable(Protocol):
    """A binary file, or the part of one that has been fetched."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to an offset."""

    def read(self, count: int, /) -> bytes:
        """Return up to `count` bytes."""


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One member, as the directory describes it."""

    name: str
    method: int
    flags: int
    packed: int
    unpacked: int
    offset: int


def entries(file: Seekable, size: int) -> Iterator[ZipEntry]:
    """Yield the members that the directory names; ValueError where there is none."""
    count, length, offset = _end_of(file, size)
    file.seek(offset)
    directory = file.read(length)
    place = 0
    for _ in range(count):
        if len(directory) - place < _ENTRY.size:
            raise ValueError("its directory ends too early")
        entry = _ENTRY.unpack_from(directory, place)
        if entry[0] != b"PK\1\2":
            raise ValueError("its directory is damaged")
        name_length, extra, comment = entry[10:13]
        start = place + _ENTRY.size
        name = directory[start : start + name_length].decode("utf-8", "replace")
        place = start + name_length + extra + comment
        yield ZipEntry(name, entry[4], entry[3], entry[8], entry[9], entry[16])


def read_member(
    file: Seekable, size: int, is_wanted: Callable[[str], bool]
) -> bytes | None:
    """Return the first member that is wanted, or None; ValueError if it cannot be.

    It is stored or deflated, and unpacks to METADATA_BYTES_MAX at most.
    """
    wanted = next((one for one in entries(file, size) if is_wanted(one.name)), None)
    if wanted is None:
        return None
    if wanted.method not in (_STORED, _DEFLATED) or wanted.flags & _ENCRYPTED:
        raise ValueError("its member is neither stored nor deflated")
    if max(wanted.packed, wanted.unpacked) > limits.METADATA_BYTES_MAX:
        raise ValueError("its member is too long")
    file.seek(wanted.offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise ValueError("its member is not where the directory says")
    name_length, extra = _LOCAL.unpack(header)[9:11]
    file.seek(wanted.offset + _LOCAL.size + name_length + extra)
    packed = file.read(wanted.packed)
    if len(packed) != wanted.packed:
        raise ValueError("its member ends too early")
    return _unpacked(packed, wanted)


def _unpacked(packed: bytes, entry: ZipEntry) -> bytes:
    data = packed
    if entry.method == _DEFLATED:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = unpacker.decompress(packed, limits.METADATA_BYTES_MAX + 1)
        except zlib.error as error:
            raise ValueError(f"its member cannot be unpacked: {error}") from error
        if not unpacker.eof:
            raise ValueError("its member is longer than the directory says")
    if len(data) != entry.unpacked:
        raise ValueError("its member has another length than the directory says")
    return data


def _end_of(file: Seekable, size: int) -> tuple[int, int, int]:
    """Return (number of entries, length, offset) of the directory."""
    count = min(size, _COMMENT_BYTES_MAX + _END.size)
    file.seek(size - count)
    tail = file.read(count)
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise ValueError("it is no zip archive")
    end = _END.unpack_from(tail, place)
    entries_, length, offset = end[4], end[5], end[6]
    if entries_ > limits.ZIP_ENTRIES_MAX or length > limits.ZIP_DIRECTORY_BYTES_MAX:
        raise ValueError("its directory is too long")
    if offset + length > size:
        raise ValueError("its directory lies beyond the end")
    return entries_, length, offset
