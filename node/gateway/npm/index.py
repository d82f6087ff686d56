"""The npm registry: packuments with our own tarball URLs.

Beside the upstream's packages are those that were published in the network.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from node.gateway import limits
from node.gateway.file_metadata import FileMetadata
from node.gateway.npm.published import read_manifest, tarball_of, write_packument
from node.gateway.page_cache import NamedFile, PageCache, StoredPage, strongest_first
from node.gateway.pages import PageMissingError, Pages, UnreachableError
from node.gateway.published import (
    Published,
    PublishedPackage,
    UpstreamSays,
    settle,
)
from node.gateway.upstreams import Upstreams
from node.settings import Winner
from transfer import Digest, DigestError

UPSTREAM = "npm"
SHORT_TYPE = "application/vnd.npm.install-v1+json"
FULL_TYPE = "application/json"
_NAME = re.compile(r"(@[A-Za-z0-9~._-]{1,100}/)?[A-Za-z0-9~_-][A-Za-z0-9~._-]{0,213}")
_FILE = re.compile(r"[A-Za-z0-9_~@-][A-Za-z0-9~@._+-]{0,250}")
_TARBALL = re.compile(r"(.+)/-/([^/]+)")


class PackageIndex:
    """Answers what npm asks a registry."""

    def __init__(
        self,
        upstreams: Upstreams,
        pages: Pages,
        ledger: PageCache,
        published: Published,
        derive: FileMetadata,
        winners: Mapping[str, Winner],
    ) -> None:
        self._upstreams = upstreams
        self._pages = pages
        self._ledger = ledger
        self._published = published
        self._derive = derive
        self._winners = winners

    async def packument(self, name: str, base: str, *, short: bool) -> bytes:
        """Return a package's document, its tarballs at `base`.

        Raises PageMissingError, UnreachableError; ClashError and AbsentError where
        something of that name was published.
        """
        package = await self._meant(name)
        if package is not None:
            return await self._derived(package, base, short=short)
        page = await self._page(name, short=short)
        return await asyncio.to_thread(rewrite, page.body, name, base)

    async def tarball(self, name: str, file: str) -> tuple[Digest, list[NamedFile]]:
        """Return the digest of a tarball, whose URL holds none, and its origins."""
        package = await self._meant(name)
        if package is not None:
            entry = tarball_of(package)
            if entry is None or entry.file != file:
                raise PageMissingError
            return Digest.parse(entry.digest), []
        named = self._ledger.find_file(UPSTREAM, name, file)
        if named is None:
            await self._page(name, short=True)
            named = self._ledger.find_file(UPSTREAM, name, file)
        if named is None:
            raise PageMissingError
        return named.strong, [named]

    async def learn(self, name: str) -> None:
        """Read a package's document; PageMissingError, UnreachableError."""
        await self._page(name, short=True)

    async def _meant(self, name: str) -> PublishedPackage | None:
        """Return the published package that a name means, None for the upstream's."""
        if not is_package_name(name):
            raise PageMissingError
        packages = await self._published.packages(
            lambda followed: followed == name,
            lambda package: tarball_of(package) is not None,
        )
        winner = self._winners.get(name)
        if not packages and winner != "network":
            return None
        return settle(name, await self._says(name), packages, winner)

    async def _says(self, name: str) -> UpstreamSays:
        if self._upstreams.get(UPSTREAM) is None:
            return "has it not"
        try:
            await self._page(name, short=True)
        except PageMissingError:
            return "has it not"
        except UnreachableError:
            return "nothing"
        return "has it"

    async def _derived(
        self, package: PublishedPackage, base: str, *, short: bool
    ) -> bytes:
        entry = tarball_of(package)
        if entry is None:
            raise PageMissingError

        def read(tarball: Path) -> dict[str, Any]:
            return read_manifest(tarball, package.name, package.version)

        manifest = await self._derive.read(entry, UPSTREAM, read)
        digests = await self._derive.digests(entry)
        url = f"{base}/npm/{package.name}/-/{entry.file}"
        return write_packument(manifest, url, digests, short=short)

    async def _page(self, name: str, *, short: bool) -> StoredPage:
        upstream = self._upstreams.get(UPSTREAM)
        if upstream is None or not is_package_name(name):
            raise PageMissingError
        path = quote(name, safe="@")
        return await self._pages.get(
            upstream,
            path,
            accept=f"{SHORT_TYPE}, {FULL_TYPE};q=0.8" if short else FULL_TYPE,
            read=lambda page: read_packument(page.body, name),
            key=f"{path} {'short' if short else 'full'}",
        )


def is_package_name(name: str) -> bool:
    """Tell whether npm could have a package of this name."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def split_path(raw_path: str) -> tuple[str, str | None]:
    """Split a path below the registry into (package, tarball or None)."""
    path = unquote(raw_path)
    if match := _TARBALL.fullmatch(path):
        return match[1], match[2]
    return path, None


def read_packument(body: bytes, name: str) -> list[NamedFile]:
    """Return the tarballs that a packument names; ValueError where it is none."""
    files = []
    versions = _versions(_decoded(body))
    if len(versions) > limits.FILES_PER_PAGE_MAX:
        raise ValueError("it names too many versions")
    for version in versions.values():
        dist = version.get("dist") if isinstance(version, dict) else None
        if not isinstance(dist, dict) or not isinstance(dist.get("tarball"), str):
            continue
        digests, file = _digests(dist), _file_of(dist["tarball"])
        if digests and file:
            files.append(NamedFile(UPSTREAM, name, file, dist["tarball"], digests))
    return files


def rewrite(body: bytes, name: str, base: str) -> bytes:
    """Return a packument whose tarballs, those with a digest, are at `base`."""
    document = _decoded(body)
    for version in _versions(document).values():
        dist = version.get("dist") if isinstance(version, dict) else None
        if isinstance(dist, dict) and isinstance(dist.get("tarball"), str):
            file = _file_of(dist["tarball"])
            if file and _digests(dist):
                dist["tarball"] = f"{base}/npm/{name}/-/{file}"
    return msgspec.json.encode(document)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def _versions(document: dict[str, Any]) -> dict[str, Any]:
    versions = document.get("versions", {})
    return versions if isinstance(versions, dict) else {}


def _file_of(tarball: str) -> str:
    file = unquote(urlsplit(tarball).path.rpartition("/")[2])
    return file if _FILE.fullmatch(file) else ""


def _digests(dist: dict[str, Any]) -> tuple[Digest, ...]:
    texts = str(dist.get("integrity") or "").split()
    if isinstance(dist.get("shasum"), str):
        texts.append(f"sha1:{dist['shasum']}")
    found = set()
    for text in texts:
        try:
            found.add(Digest.parse(text.partition("?")[0]))
        except DigestError:
            continue
    return strongest_first(found)
