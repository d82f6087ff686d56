"""The Debian archive: signed index files passed through, packages by their digests.

apt asks for index files by digest (by-hash) and for packages by path. The digest of a
package is in the Packages file that apt fetched before, through here. What this cannot
answer gets 404, at which apt goes on to the next mirror of its list.
"""

from __future__ import annotations

import asyncio
import gzip
import lzma
import re
from collections.abc import Iterator
from typing import IO

from node.gateway import limits
from node.gateway.page_cache import NamedFile, PageCache, StoredPage
from node.gateway.pages import PageMissingError, Pages
from node.gateway.upstreams import Upstream, Upstreams
from transfer import Artifact, Digest, Store

UPSTREAM = "debian"
POOL = "pool"
_PATH = re.compile(r"(?:dists|pool)(?:/[A-Za-z0-9_~+:-][A-Za-z0-9._~+:-]*)+")
_SIGNED = ("InRelease", "Release", "Release.gpg")
_BY_HASH = re.compile(r"(dists/.+)/by-hash/SHA256/([0-9a-f]{64})")
_BINARY = re.compile(r"dists/.+/binary-[a-z0-9-]+")
_FIELDS = re.compile(r"^(Filename|SHA256|Size): *(\S+)$", re.MULTILINE)


class PackageArchive:
    """Answers what apt asks a mirror."""

    def __init__(
        self,
        upstreams: Upstreams,
        pages: Pages,
        ledger: PageCache,
        store: Store,
    ) -> None:
        self._upstreams = upstreams
        self._pages = pages
        self._ledger = ledger
        self._store = store
        self._read: set[Digest] = set()

    async def signed(self, path: str) -> StoredPage | None:
        """Return a page that apt verifies by its signature; None for another path.

        Raises PageMissingError, UnreachableError.
        """
        upstream = self._upstream(path)
        if path.startswith("dists/") and path.rpartition("/")[2] in _SIGNED:
            return await self._pages.get(
                upstream, path, accept="*/*", read=lambda _page: []
            )
        return None

    async def named(self, path: str) -> NamedFile:
        """Return what is known of an index file or a package; PageMissingError."""
        upstream = self._upstream(path)
        if match := _BY_HASH.fullmatch(path):
            digest = Digest.parse(f"sha256:{match[2]}")
            url = upstream.url + path
            return NamedFile(UPSTREAM, match[1], match[2], url, (digest,))
        named = self._ledger.find_file(UPSTREAM, POOL, path)
        if named is None:
            raise PageMissingError
        return named

    async def learn(self, path: str, artifact: Artifact) -> None:
        """Read a Packages file, once, so that packages are found by their paths."""
        match = _BY_HASH.fullmatch(path)
        if match is None or not _BINARY.fullmatch(match[1]):
            return
        if artifact.digest in self._read or artifact.size > limits.ARCHIVE_BYTES_MAX:
            return
        self._read.add(artifact.digest)
        upstream = self._upstream(path)
        found = await asyncio.to_thread(self._packages, artifact, upstream.url)
        await self._pages.name(found)

    def _upstream(self, path: str) -> Upstream:
        upstream = self._upstreams.get(UPSTREAM)
        if upstream is None or not _PATH.fullmatch(path):
            raise PageMissingError
        return upstream

    def _packages(self, artifact: Artifact, base: str) -> list[NamedFile]:
        try:
            with self._store.path(artifact).open("rb") as file:
                return list(read_packages(file, base))
        except (OSError, EOFError, lzma.LZMAError, ValueError):
            return []


def read_packages(file: IO[bytes], base: str) -> Iterator[NamedFile]:
    """Yield the packages that a Packages file, packed or not, names."""
    text = _unpacked(file).decode("utf-8", "replace")
    for count, stanza in enumerate(text.split("\n\n")):
        if count > limits.ARCHIVE_MEMBERS_MAX:
            raise ValueError("it names too many packages")
        fields = dict(_FIELDS.findall(stanza))
        path, digest = fields.get("Filename", ""), fields.get("SHA256", "")
        path = path.removeprefix("./")
        if not _PATH.fullmatch(path) or not re.fullmatch("[0-9a-f]{64}", digest):
            continue
        size = int(fields["Size"]) if fields.get("Size", "").isdigit() else None
        named = (Digest.parse(f"sha256:{digest}"),)
        yield NamedFile(UPSTREAM, POOL, path, base + path, named, size)


def _unpacked(file: IO[bytes]) -> bytes:
    start = file.read(6)
    file.seek(0)
    most = limits.ARCHIVE_BYTES_MAX + 1
    if start.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as packed:
            data = packed.read(most)
    elif start.startswith(b"\xfd7zXZ"):
        with lzma.LZMAFile(file) as packed:
            data = packed.read(most)
    else:
        data = file.read(most)
    if len(data) == most:
        raise ValueError("it unpacks to too much")
    return data
