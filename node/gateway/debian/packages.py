"""The index files of a Debian archive: Release, Packages and Sources, read fast.

They are control files of stanzas and fields (Debian policy 5.1, and the wiki's
"DebianRepository/Format"). Debian's own Packages has 63,000 stanzas.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO
from urllib.parse import quote

from node.gateway import limits
from node.gateway.named_files import NamedFiles

# What nearly every path consists of.
_PLAIN = re.compile(r"[!$&'()*+,./:;=@_~A-Za-z0-9-]++")
_DOTS_AND_SLASHES = ("%2e", "%2f", "%5c", "%00")
# A field that matters, or the empty line between two stanzas.
_FIELDS = re.compile(
    r"^(?:(Filename|SHA256|SHA512|SHA1|Size):[ \t]*+(.*+)|[ \t\r]*+)$", re.MULTILINE
)
# Upper and lower case are equal (policy 5.1), but nearly all write as above, which is
# found in half the time.
_FIELDS_IN_ANY_CASE = re.compile(_FIELDS.pattern, re.MULTILINE | re.IGNORECASE)
_SLASHES = re.compile(r"[/\\]")
_HEX = re.compile(r"[0-9a-f]{40,128}")
_SUMS = {"md5sum": "md5", "sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}
_SOURCE_SUMS = {"checksums-sha256": "sha256", "checksums-sha512": "sha512"}
_OF_SOURCES = re.compile(
    r"^(?:Directory|Checksums-Sha\d+):", re.MULTILINE | re.IGNORECASE
)
_READ_BYTES = 1024 * 1024
_LINE_BYTES_MAX = 4 * 1024 * 1024
_FILES_OF_SOURCE_MAX = 10_000


def is_path(text: str) -> bool:
    """Return whether a text is a path below an archive's root.

    A percent sign is part of a name, as in the epoch of "x_1%3a2.0_all.deb", but none
    that hides a way out.
    """
    if _PLAIN.fullmatch(text) is None:
        if not text.isprintable():
            return False
        if "%" in text and any(part in text.lower() for part in _DOTS_AND_SLASHES):
            return False
    is_file = bool(plain_path(text)) and not text.endswith("/")
    return is_file and ".." not in _SLASHES.split(text)


def plain_path(path: str) -> str:
    """Return a path without what stands for nothing in it: "./" and empty parts."""
    if "//" not in path and "./" not in path and not path.startswith("/"):
        return path if path != "." else ""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def escaped(path: str) -> str:
    """Return a path as a URL has it."""
    if _PLAIN.fullmatch(path) is not None:
        return path
    return quote(path, safe="!$&'()*+,/:;=@[]^~")


@dataclass(frozen=True, slots=True)
class ReleasedFile:
    """One index file, as a Release file lists it."""

    path: str
    """Below the folder of the Release file."""
    digest: str
    """As ALGORITHM:HEX, the strongest that is listed."""
    size: int


def read_release(body: bytes) -> list[ReleasedFile]:
    """Return the files that a Release or InRelease lists; ValueError if it is none."""
    text = body.decode("utf-8", "replace")
    found: dict[str, ReleasedFile] = {}
    algorithm = ""
    for line in _lines(text):
        if not line.startswith((" ", "\t")):
            algorithm = _SUMS.get(line.partition(":")[0].lower(), "")
            continue
        if not algorithm:
            continue
        parts = line.split(maxsplit=2)
        if len(parts) != 3 or not parts[1].isdecimal() or len(parts[1]) > 15:
            continue
        value, size, path = parts[0].lower(), parts[1], plain_path(parts[2].strip())
        known = found.get(path)
        if is_path(path) and not (known and known.digest.startswith("sha256")):
            found[path] = ReleasedFile(path, f"{algorithm}:{value}", int(size))
    if not found and "Codename:" not in text and "Suite:" not in text:
        raise ValueError("it is no Release file")
    return list(found.values())


def read_packages(file: IO[bytes], upstream: str, base: str) -> NamedFiles:
    """Return the packages of a Packages or Sources file, packed or not. Blocks.

    Raises ValueError, OSError, EOFError or an error of the packer.
    """
    texts = _texts(unpacked(file))
    first = next(texts, "")
    read = _sources if _OF_SOURCES.search(first) else _binaries
    parts = [b"\n"]
    left = limits.INDEX_TEXT_BYTES_MAX
    for line in read(itertools.chain([first], texts), base):
        part = f"{line}\n".encode("utf-8", "replace")
        left -= len(part)
        if left < 0:
            raise ValueError("it names too much")
        parts.append(part)
    return NamedFiles(upstream, b"".join(parts))


def _texts(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of a file in pieces that end with a line, or with the file.

    The whole at once would take several times its length: one character outside of
    the basic plane makes Python use four bytes for each.
    """
    rest = b""
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if not end and len(rest) > _LINE_BYTES_MAX:
            raise ValueError("a line in it is too long")
        if end:
            yield (rest + block[:end]).decode("utf-8", "replace")
            rest = b""
        rest += block[end:]
    if rest:
        yield rest.decode("utf-8", "replace")


def _binaries(texts: Iterable[str], base: str) -> Iterator[str]:
    """Yield one line of `NamedFiles` for each package."""
    fields: dict[str, str] = {}
    for text in texts:
        usual = "\nFilename:" in text or text.startswith("Filename:")
        pattern = _FIELDS if usual else _FIELDS_IN_ANY_CASE
        # Behind the last newline is no empty line.
        for match in pattern.finditer(text.removesuffix("\n")):
            name, value = match.groups()
            if name is not None:
                fields.setdefault(name.lower(), value.strip())
            elif fields:
                if line := _line(fields, base):
                    yield line
                fields = {}
    if line := _line(fields, base):
        yield line


def _line(fields: dict[str, str], base: str) -> str:
    path = fields.get("filename", "")
    digests = " ".join(
        f"{name}:{value}"
        for name in ("sha256", "sha512", "sha1")
        if _HEX.fullmatch(value := fields.get(name, "").lower())
    )
    size = fields.get("size", "")
    if not digests or not is_path(path):
        return ""
    length = size if size.isdecimal() and len(size) < 16 else ""
    path = plain_path(path)
    return f"{path}\t{length}\t{digests}\tpool\t{base}{escaped(path)}"


def _sources(texts: Iterable[str], base: str) -> Iterator[str]:
    """Yield one line of `NamedFiles` for each file of the source packages."""
    folder, algorithm = "", ""
    found: dict[str, tuple[str, str]] = {}
    # The empty line behind the last stanza may be missing.
    for line in itertools.chain(
        itertools.chain.from_iterable(map(_lines, texts)), [""]
    ):
        if line.startswith((" ", "\t")) and algorithm:
            parts = line.lower().split(maxsplit=2)
            if len(parts) == 3 and parts[1].isdecimal() and _HEX.fullmatch(parts[0]):
                name = line.split(maxsplit=2)[2].strip()
                found.setdefault(name, (parts[1], f"{algorithm}:{parts[0]}"))
                if len(found) > _FILES_OF_SOURCE_MAX:
                    raise ValueError("a package in it has too many files")
            continue
        field, _, value = line.partition(":")
        algorithm = _SOURCE_SUMS.get(field.lower(), "")
        if field.lower() == "directory":
            folder = value.strip()
        elif not line.strip():
            for name, (size, digest) in found.items():
                path = plain_path(f"{folder}/{name}")
                if is_path(path):
                    yield f"{path}\t{size}\t{digest}\tpool\t{base}{escaped(path)}"
            folder, found = "", {}


def _lines(text: str) -> Iterator[str]:
    return (line.removesuffix("\n") for line in io.StringIO(text, newline="\n"))


def unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of a packed file; ValueError where it is too much. Blocks."""
    start = file.read(6)
    most = limits.unpacked_bytes_max(file.seek(0, io.SEEK_END))
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return _bounded(gzip.GzipFile(fileobj=file), most)
    if start.startswith(b"BZh"):
        return _bounded(bz2.BZ2File(file), most)
    if start.startswith((b"\xfd7zXZ", b"\x5d\x00\x00")):
        return _unpacked_lzma(file, most)
    return _bounded(file, most)


def _bounded(
    file: IO[bytes] | gzip.GzipFile | bz2.BZ2File, left: int
) -> Iterator[bytes]:
    try:
        while part := file.read(min(_READ_BYTES, left + 1)):
            left -= len(part)
            if left < 0:
                raise ValueError("it unpacks to too much")
            yield part
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error


def _unpacked_lzma(file: IO[bytes], left: int) -> Iterator[bytes]:
    """Unpack with a bound on the memory that the file asks for, too."""
    unpacker = lzma.LZMADecompressor(memlimit=limits.LZMA_MEMORY_BYTES_MAX)
    try:
        while not unpacker.eof:
            packed = file.read(_READ_BYTES) if unpacker.needs_input else b""
            if unpacker.needs_input and not packed:
                raise ValueError("it ends too early")
            part = unpacker.decompress(packed, min(_READ_BYTES, left + 1))
            left -= len(part)
            if left < 0:
                raise ValueError("it unpacks to too much")
            yield part
    except lzma.LZMAError as error:
        raise ValueError(f"it cannot be unpacked: {error}") from error
