"""An opam repository of what followed publishers have published.

A package published with an opam file beside its archive appears here; opam is told of
this repository once. Its opam file is the published one, with the archive at this
node. What is refused is left out, and `opam update` shows why.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import tarfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from node.errors import NodeError
from node.gateway import limits
from node.gateway.index import IndexContext, PublishedQuery
from node.gateway.opam.opam_file import field, without_section
from node.gateway.published import (
    ClashError,
    NothingNamedError,
    PublishedPackage,
    UpstreamSays,
)
from node.model.packages import ArtifactEntry
from transfer import Digest

_NAME = re.compile(r"[0-9_+-]*+[A-Za-z][A-Za-z0-9_+-]*+")
_VERSION = re.compile(r"[A-Za-z0-9._+~-]+")
_ARCHIVES = (".tar.gz", ".tgz", ".tbz", ".tar.bz2", ".tar.xz", ".zip")


@dataclass(frozen=True, slots=True)
class Repository:
    """The opam files by their paths, and why packages are not among them."""

    files: dict[str, str]
    refused: dict[str, NodeError]


class PublishedRepository:
    """Answers what opam asks a repository."""

    def __init__(
        self,
        context: IndexContext,
        upstream: str,
        says: Callable[[str], Awaitable[UpstreamSays]],
    ) -> None:
        self._context = context
        self._upstream = upstream
        self._says = says

    async def packed(self, base: str) -> bytes:
        """Return the repository as opam fetches it, archives at `base`."""
        repository = await self._read(base)
        return await asyncio.to_thread(pack, repository)

    async def opam_file(self, path: str, base: str) -> str:
        """Return one opam file; the error says why there is none of its name."""
        repository = await self._read(base)
        if path in repository.files:
            return repository.files[path]
        name = path.removeprefix("packages/").partition("/")[0]
        if name in repository.refused:
            raise repository.refused[name]
        raise NothingNamedError(
            f"no publisher that is followed here has published {name} for opam"
        )

    async def _read(self, base: str) -> Repository:
        """Return what can be had in time; what cannot is refused, and named."""
        ends_at = asyncio.get_running_loop().time() + limits.MISS_SECONDS_MAX
        found = await self._context.published.packages(
            lambda name: _NAME.fullmatch(name) is not None,
            lambda package: opam_file_of(package) is not None,
        )
        names = sorted({one.name for one in found})

        async def entry(name: str) -> tuple[str, str] | NodeError | None:
            try:
                async with asyncio.timeout_at(ends_at):
                    return await self._entry(name, base)
            except NodeError as error:
                return error
            except TimeoutError:
                return NodeError(f"{name} could not be had in time; try again later")

        repository = Repository({}, {})
        entries = await asyncio.gather(*map(entry, names))
        for name, one in zip(names, entries, strict=True):
            if isinstance(one, NodeError):
                repository.refused[name] = one
            elif one is not None:
                repository.files[one[0]] = one[1]
        return repository

    async def _entry(self, name: str, base: str) -> tuple[str, str] | None:
        """Return the path and the text of a package's opam file, None for no such."""
        query = PublishedQuery(
            name,
            lambda spelling: spelling,
            lambda package: opam_file_of(package) is not None,
            lambda: self._says(name),
        )
        package = await self._context.meant(query)
        entry = None if package is None else opam_file_of(package)
        if package is None or entry is None:
            return None
        version = package.version

        def read(file: Path) -> str:
            return checked(_text_of(file), name, version)

        text = await self._context.metadata.read(entry, self._upstream, read)
        if (archive := archive_of(package)) is not None:
            text = with_archive(text, archive, base)
        return f"packages/{name}/{name}.{version}/opam", text


def opam_file_of(package: PublishedPackage) -> ArtifactEntry | None:
    """Return the opam file among a package's files, or None."""
    if not _NAME.fullmatch(package.name) or not _VERSION.fullmatch(package.version):
        return None
    names = ("opam", f"{package.name}.opam")
    return next((one for one in package.artifacts if one.file in names), None)


def archive_of(package: PublishedPackage) -> ArtifactEntry | None:
    """Return the one archive among a package's files, or None."""
    found = [one for one in package.artifacts if one.file.endswith(_ARCHIVES)]
    if len(found) > 1:
        raise ClashError(f"{package.name} was published with more than one archive")
    return found[0] if found else None


def checked(text: str, name: str, version: str) -> str:
    """Return an opam file that may say its name and version; ValueError."""
    for key, wanted in (("name", name), ("version", version)):
        if field(text, key) not in (None, wanted):
            raise ValueError(f"its {key} is not {wanted}")
    if field(text, "opam-version") is None:
        raise ValueError("it has no opam-version")
    return text


def with_archive(text: str, archive: ArtifactEntry, base: str) -> str:
    """Return an opam file whose source is an archive at this node; ValueError."""
    digest = Digest.parse(archive.digest)
    src = f"{base}/blob/sha256/{digest.hex}/{archive.file}"
    section = f'url {{\n  src: "{src}"\n  checksum: "sha256={digest.hex}"\n}}\n'
    return without_section(text, "url").rstrip() + "\n" + section


def pack(repository: Repository) -> bytes:
    """Return a repository as index.tar.gz. Blocks."""
    lines = ['opam-version: "2.0"']
    if repository.refused:
        words = " ".join(
            f'"{_quoted(str(one))}"' for one in repository.refused.values()
        )
        lines.append(f"announce: [{words}]")
    files = {"repo": "\n".join([*lines, ""]), **repository.files}
    stream = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path, text in files.items():
            content = text.encode()
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _text_of(file: Path) -> str:
    if file.stat().st_size > limits.ARCHIVE_MEMBER_BYTES_MAX:
        raise ValueError("it is too long")
    return file.read_bytes().decode("utf-8")
