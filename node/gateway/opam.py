"""The opam repository: read only to learn where archives are, and their digests.

opam asks its mirrors for an archive by the first checksum of the opam file, which is
often an MD5. The repository's index says which stronger digests belong to it.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import tarfile
from collections.abc import Iterator

from node.gateway import limits
from node.gateway.ledger import NamedFile, strongest_first
from node.gateway.pages import PageMissingError, Pages, UnreachableError
from node.gateway.upstreams import Upstreams
from transfer import Digest, DigestError

UPSTREAM = "opam"
INDEX = "index.tar.gz"
_OPAM_FILE = re.compile(r"(?:\./)?packages/(?:[^/]+/)?([^/]+)/opam")
_SECTION = re.compile(r'\b(?:url|extra-source\s+"[^"]*")\s*\{([^}]*)\}')
_SOURCE = re.compile(r'\b(?:src|archive):\s*\[?\s*"([^"]+)"')
_CHECKSUM = re.compile(r'"?\b(md5|sha1|sha256|sha512)=([0-9a-fA-F]+)"?')


class ArchiveIndex:
    """Knows the archives of the configured opam repository."""

    def __init__(self, upstreams: Upstreams, pages: Pages) -> None:
        self._upstreams = upstreams
        self._pages = pages
        self._learned_at = float("-inf")

    async def learn(self) -> None:
        """Read the repository's index, if that was not done just now.

        Does nothing where no repository is configured or it cannot be asked.
        """
        now = asyncio.get_running_loop().time()
        upstream = self._upstreams.get(UPSTREAM)
        if upstream is None or now - self._learned_at < limits.PAGE_FRESH_SECONDS:
            return
        try:
            await self._pages.get(
                upstream, INDEX, accept="*/*", read=lambda page: read_index(page.body)
            )
        except (PageMissingError, UnreachableError):
            return
        self._learned_at = now


def read_index(body: bytes) -> list[NamedFile]:
    """Return the archives that a packed repository names; ValueError if it is none."""
    files: list[NamedFile] = []
    unpacked = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(body)))
    try:
        with tarfile.open(fileobj=unpacked, mode="r|") as archive:
            for count, member in enumerate(archive):
                if count > limits.ARCHIVE_MEMBERS_MAX:
                    raise ValueError("it has too many members")
                match = _OPAM_FILE.fullmatch(member.name)
                if match is None or not member.isfile():
                    continue
                if member.size > limits.ARCHIVE_MEMBER_BYTES_MAX:
                    continue
                if (file := archive.extractfile(member)) is not None:
                    text = file.read().decode("utf-8", "replace")
                    files += archives_of(match[1], text)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ValueError(f"it is no packed repository: {error}") from error
    return files


def archives_of(package: str, text: str) -> Iterator[NamedFile]:
    """Yield the archives that an opam file names with at least one digest."""
    for section in _SECTION.findall(text):
        source = _SOURCE.search(section)
        digests = digests_in(section)
        if source is not None and digests:
            name = source[1].rpartition("/")[2]
            yield NamedFile(UPSTREAM, package, name, source[1], digests)


def digests_in(text: str) -> tuple[Digest, ...]:
    """Return every checksum that a part of an opam file lists, the strongest first."""
    found = set()
    for algorithm, value in _CHECKSUM.findall(text):
        try:
            found.add(Digest.parse(f"{algorithm}:{value}"))
        except DigestError:
            continue
    return strongest_first(found)


class _Bounded(io.RawIOBase):
    """A stream that ends with an error where it unpacks to more than is allowed."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        super().__init__()
        self._stream = stream
        self._left = limits.ARCHIVE_BYTES_MAX

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if 0 <= size <= self._left else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError("it unpacks to too much")
        return data
