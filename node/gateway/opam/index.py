"""The opam repository: read to learn where archives are, their digests, and names.

opam asks its mirrors for an archive by the first checksum of the opam file, which is
often an MD5. The repository's index says which stronger digests belong to it.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from hashlib import sha256

from node.gateway import limits
from node.gateway.archives import members_of
from node.gateway.page_cache import NamedFile, StoredPage, strongest_first
from node.gateway.pages import PageMissingError, Pages, UnreachableError
from node.gateway.published import UpstreamSays
from node.gateway.upstreams import Upstream, Upstreams
from transfer import Digest, DigestError

UPSTREAM = "opam"
INDEX = "index.tar.gz"
_OPAM_FILE = re.compile(r"(?:\./)?packages/(?:[^/]+/)?([^/]+)/opam")
_SECTION = re.compile(r'\b(?:url|extra-source\s+"[^"]*")\s*\{([^}]*)\}')
_SOURCE = re.compile(r'\b(?:src|archive):\s*\[?\s*"([^"]+)"')
_CHECKSUM = re.compile(r'"?\b(md5|sha1|sha256|sha512)=([0-9a-fA-F]+)"?')


class ArchiveIndex:
    """Knows the archives and the names of the configured opam repository."""

    def __init__(self, upstreams: Upstreams, pages: Pages) -> None:
        self._upstreams = upstreams
        self._pages = pages
        self._learned_at = float("-inf")
        self._names: tuple[bytes, frozenset[str]] = (b"", frozenset())

    async def learn(self) -> None:
        """Read the repository's index, if that was not done just now.

        Does nothing where no repository is configured or it cannot be asked. Waits
        for a while only, and once: opam goes to the origin meanwhile.
        """
        now = asyncio.get_running_loop().time()
        upstream = self._upstreams.get(UPSTREAM)
        if upstream is None or now - self._learned_at < limits.PAGE_FRESH_SECONDS:
            return
        try:
            async with asyncio.timeout(limits.LEARN_SECONDS_MAX):
                await self._page(upstream)
        except (PageMissingError, UnreachableError, TimeoutError):
            pass
        self._learned_at = asyncio.get_running_loop().time()

    async def says(self, name: str) -> UpstreamSays:
        """Say whether the repository has a package of this name, in any version."""
        upstream = self._upstreams.get(UPSTREAM)
        if upstream is None:
            return "has it not"
        try:
            page = await self._page(upstream)
            names = await asyncio.to_thread(self._names_in, page.body)
        except (PageMissingError, UnreachableError, ValueError):
            return "nothing"
        if name in names:
            return "has it"
        is_old = self._pages.age(page) > limits.ABSENT_SECONDS
        return "nothing" if is_old else "has it not"

    async def _page(self, upstream: Upstream) -> StoredPage:
        return await self._pages.get(
            upstream,
            INDEX,
            accept="*/*",
            read=lambda page: read_index(page.body),
            seconds=limits.INDEX_SECONDS_MAX,
        )

    def _names_in(self, body: bytes) -> frozenset[str]:
        """Return the names in an index, read once. Blocks."""
        mark = sha256(body).digest()
        if self._names[0] != mark:
            self._names = (mark, names_in(body))
        return self._names[1]


def read_index(body: bytes) -> list[NamedFile]:
    """Return the archives that a packed repository names; ValueError if it is none."""
    files: list[NamedFile] = []
    for member, archive in members_of(io.BytesIO(body)):
        match = _OPAM_FILE.fullmatch(member.name)
        if match is None or not member.isfile():
            continue
        if member.size > limits.ARCHIVE_MEMBER_BYTES_MAX:
            continue
        if (file := archive.extractfile(member)) is not None:
            files += archives_of(match[1], file.read().decode("utf-8", "replace"))
    return files


def names_in(body: bytes) -> frozenset[str]:
    """Return the names of all packages of a packed repository; ValueError."""
    found = (
        _OPAM_FILE.fullmatch(member.name) for member, _ in members_of(io.BytesIO(body))
    )
    return frozenset(match[1].partition(".")[0] for match in found if match)


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
