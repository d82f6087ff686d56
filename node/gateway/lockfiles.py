"""Lockfiles: what a project was locked to, by digest.

Each form is read as far as digests go; nothing in it is believed beyond that. URLs in
a lockfile are never fetched: where a file's origin is, the upstream's own page says.
What is locked without a digest is left out, and said.
"""

from __future__ import annotations

import codecs
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from node.errors import UsageError
from node.gateway import limits
from node.gateway.ecosystems import ecosystems
from node.gateway.locked import Locked, LockEntry, LockfileReader

_CODING = re.compile(rb"coding[:=]\s*+([-\w.]++)")
_ENCODINGS = ("utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252", "cp1251", "koi8-r")
_HEAD_BYTES = 1000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_lockfile(name: str, content: bytes) -> Locked:
    """Return the files that a lockfile called `name` names, each once. Blocks.

    Raises UsageError where it cannot be read, or names no digest.
    """
    reader = _reader_of(name)
    try:
        locked = reader(decode(content))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from error
    found = {entry.digest: entry for entry in locked.files}
    if not found:
        raise UsageError(f"{name} names no digests; expected {_forms()}")
    if len(found) > limits.LOCKFILE_ENTRIES_MAX:
        raise UsageError(
            f"{name} names {len(found)} files; split it, at most "
            f"{limits.LOCKFILE_ENTRIES_MAX} are read"
        )
    return Locked(list(found.values()), locked.left_out)


def content_of(path: Path) -> bytes:
    """Return a lockfile's bytes; OSError, UsageError. Blocks.

    A pipe is refused at once: nobody may ever write to it.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UsageError(f"{path} is no regular file")
        content = file.read(limits.LOCKFILE_BYTES_MAX + 1)
    if len(content) > limits.LOCKFILE_BYTES_MAX:
        raise UsageError(f"{path} is too long for a lockfile")
    return content


def decode(content: bytes) -> str:
    """Return the text of a file that may say its encoding; ValueError.

    By a byte order mark or, as pip reads it, a comment in its first lines (PEP 263).
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    for line in content[:_HEAD_BYTES].split(b"\n", 2)[:2]:
        if line.startswith(b"#") and (match := _CODING.search(line)):
            return content.decode(_encoding(match[1].decode("ascii")))
    return content.decode("utf-8")


def _encoding(name: str) -> str:
    """Return an encoding that costs no more than the text is long; ValueError."""
    try:
        found = codecs.lookup(name).name
    except LookupError:
        found = ""
    if found not in _ENCODINGS:
        raise ValueError(f"its encoding {name!r} is not read; save it as UTF-8")
    return found


def usable(entries: Iterable[LockEntry]) -> list[LockEntry]:
    """Return what this machine would install.

    Of a release of which a machine uses one file, the one that fits best.
    """
    chosen: dict[object, tuple[int, LockEntry]] = {}
    for entry in entries:
        ecosystem = ecosystems()[entry.ecosystem]
        rank = ecosystem.fit(entry)
        if rank is None:
            continue
        release = (entry.ecosystem, entry.name, entry.version)
        key: object = release if ecosystem.one_file_per_release else entry.digest
        if key not in chosen or rank < chosen[key][0]:
            chosen[key] = (rank, entry)
    return [entry for _, entry in chosen.values()]


def _reader_of(name: str) -> LockfileReader:
    for ecosystem in ecosystems().values():
        if (reader := ecosystem.lockfile_reader(name)) is not None:
            return reader
    raise UsageError(f"{name} is no known lockfile; expected {_forms()}")


def _forms() -> str:
    *most, last = filter(None, (one.lockfiles for one in ecosystems().values()))
    return f"{', '.join(most)} or {last}"
