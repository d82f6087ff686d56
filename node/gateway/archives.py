"""Archives of strangers: one small file out of a .tar.gz, with a bound on everything.

Nothing is ever unpacked to disk. An archive that unpacks to too much, has too many
members or giant ones, or has a link where a file should be, is refused.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from node.gateway import limits

_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def read_member(path: Path, wanted: str) -> bytes:
    """Return the file called `wanted` in a .tar.gz; ValueError says why not. Blocks.

    It must be there once: which of two counts would depend on who unpacks them.
    """
    found: list[bytes] = []
    with path.open("rb") as file:
        for member, archive in members_of(file):
            if member.name.removeprefix("./") != wanted:
                continue
            if not member.isfile():
                raise ValueError(f"its {wanted} is not a plain file")
            if member.size > limits.ARCHIVE_MEMBER_BYTES_MAX:
                raise ValueError(f"its {wanted} is too long")
            content = archive.extractfile(member)
            found.append(content.read() if content is not None else b"")
    if len(found) != 1:
        raise ValueError(f"it has {len(found) or 'no'} {wanted}")
    return found[0]


def members_of(packed: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Yield the members of a .tar.gz in order; ValueError where it is none. Blocks."""
    size = packed.seek(0, io.SEEK_END)
    packed.seek(0)
    stream = _Bounded(gzip.GzipFile(fileobj=packed), size)
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            for count, member in enumerate(archive):
                _check(count, archive)
                yield member, archive
                archive.members = []  # type: ignore[attr-defined] # it would keep all
    except ValueError:
        raise
    except Exception as error:  # tarfile has many for what strangers write
        raise ValueError(f"it is no .tar.gz: {error}") from error


def _check(count: int, archive: tarfile.TarFile) -> None:
    if count > limits.ARCHIVE_MEMBERS_MAX:
        raise ValueError("it has too many members")
    if len(archive.pax_headers) > limits.ARCHIVE_GLOBALS_MAX:
        raise ValueError("too much holds for all its members")


class _Member(tarfile.TarInfo):
    """A member whose headers are short: they are held in memory while read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header block; ValueError where an extension of it is too long."""
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError("its members have holes")
        is_extension = member.type in _EXTENSIONS
        if is_extension and member.size > limits.ARCHIVE_HEADER_BYTES_MAX:
            raise ValueError("a header of its members is too long")
        return member

    def _refuse_holes(self, *_arguments: object) -> None:
        """Refuse a map of holes, which may take a gigabyte out of 50 kB."""
        raise ValueError("its members have holes")

    # What `tarfile` calls where an extended header announces such a map.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_holes


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where it unpacks to more than is allowed."""

    def __init__(self, stream: gzip.GzipFile, packed: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = limits.unpacked_bytes_max(packed)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it unpacks to too much")
        return data
