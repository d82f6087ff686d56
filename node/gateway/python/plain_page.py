"""Pages of the simple API as most indexes write them, read without steps for each file.

A popular project has thousands of files, and an installer waits for its page. Such a
page is plain where each file has a plain name, one SHA-256 and an absolute URL. What
is checked of its files is checked of all of them at once, by one regular expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import msgspec

from node.gateway import limits
from node.gateway.named_files import NamedFiles
from node.gateway.origin import OriginPage

METADATA = ".metadata"
_SIZE_MAX = 2**60
_NAMES = re.compile(r"(?:(?!\.)[A-Za-z0-9_.+!-]{1,250}+\n)*+")
_SCHEMES = ("https://", "http://")


class _Hashes(msgspec.Struct, gc=False, frozen=True, forbid_unknown_fields=True):
    sha256: str


class _Entry(
    msgspec.Struct,
    omit_defaults=True,
    gc=False,
    rename={
        "requires_python": "requires-python",
        "upload_time": "upload-time",
        "core_metadata": "core-metadata",
        "dist_info_metadata": "dist-info-metadata",
    },
):
    """One file of a page, with what is passed on of it."""

    filename: str
    url: str
    hashes: _Hashes
    size: Annotated[int, msgspec.Meta(ge=0, lt=_SIZE_MAX)] | None = None
    requires_python: str | None = None
    yanked: bool | str = False
    upload_time: str | None = None
    core_metadata: bool | _Hashes = False
    dist_info_metadata: bool | _Hashes = False


class _Meta(msgspec.Struct, rename={"api_version": "api-version"}):
    api_version: str = "1.0"


class _Document(msgspec.Struct, omit_defaults=True):
    files: list[_Entry]
    meta: _Meta
    name: str = ""
    versions: list[str] = []


# Made once, with the module: the first page of a node's life need not wait for it.
_DECODER = msgspec.json.Decoder(_Document)


def read_plain(
    upstream: str, name: str, page: OriginPage
) -> tuple[NamedFiles, bytes] | None:
    """Return the files that a page in JSON names, and our page; None for others.

    Blocks.
    """
    try:
        document = _DECODER.decode(page.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    columns = _Columns.of(document)
    if columns is None:
        return None
    _make_ours(document, name, columns)
    text = columns.index(name)
    return NamedFiles(upstream, text), msgspec.json.encode(document)


@dataclass(frozen=True, slots=True)
class _Columns:
    """What a page says of its files, in the order of the files."""

    names: list[str]
    urls: list[str]
    digests: list[str]
    sizes: list[int]
    """-1 where the page gives none."""
    metadata: list[str]
    """SHA-256 of the metadata that stands beside a file, "" where there is none."""

    @classmethod
    def of(cls, document: _Document) -> _Columns | None:
        """Read them off a page; None where one of its files is not plain."""
        files = document.files
        if not document.meta.api_version.startswith("1."):
            return None
        if len(files) > limits.FILES_PER_PAGE_MAX:
            return None
        columns = cls(
            names=[one.filename for one in files],
            urls=[one.url for one in files],
            digests=[one.hashes.sha256 for one in files],
            sizes=[-1 if one.size is None else one.size for one in files],
            metadata=[_metadata_of(one) for one in files],
        )
        is_plain = (
            _are_names(columns.names)
            and _are_urls(columns.urls)
            and _are_sha256(columns.digests)
            and _are_sha256(list(filter(None, columns.metadata)))
        )
        return columns if is_plain else None

    def index(self, name: str) -> bytes:
        """Return the lines of `NamedFiles` for the files and their metadata."""
        lines = [
            f"{file}\t{'' if size < 0 else size}\tsha256:{digest}\t{name}\t{url}\n"
            for file, size, digest, url in zip(
                self.names, self.sizes, self.digests, self.urls, strict=True
            )
        ]
        lines += [
            f"sha256:{digest}{METADATA}\t\tsha256:{own}\t{name}\t{url}{METADATA}\n"
            for digest, own, url in zip(
                self.digests, self.metadata, self.urls, strict=True
            )
            if own
        ]
        return "".join(["\n", *lines]).encode()


def _metadata_of(entry: _Entry) -> str:
    """Return the SHA-256 of a file's metadata (PEP 658, PEP 714), or ""."""
    said = entry.core_metadata or entry.dist_info_metadata
    return said.sha256 if isinstance(said, _Hashes) else ""


def _make_ours(document: _Document, name: str, columns: _Columns) -> None:
    """Let a page lead to this gateway, and claim no newer version than it has."""
    for one, digest in zip(document.files, columns.digests, strict=True):
        one.url = f"../../files/sha256/{digest}/{one.filename}"
        one.dist_info_metadata = one.core_metadata = (
            one.core_metadata or one.dist_info_metadata
        )
    has_all = bool(document.versions) and min(columns.sizes, default=0) >= 0
    document.meta.api_version = "1.1" if has_all else "1.0"  # PEP 700 wants both
    document.versions = document.versions if has_all else []
    document.name = name


def _are_names(texts: list[str]) -> bool:
    """Tell whether all can be names of files."""
    lines = "\n".join([*texts, ""])
    return lines.count("\n") == len(texts) and _NAMES.fullmatch(lines) is not None


def _are_urls(texts: list[str]) -> bool:
    """Tell whether all are absolute URLs of ASCII characters, without fragments."""
    joined = "".join(texts)
    return (
        joined.isascii()
        and joined.isprintable()
        and " " not in joined
        and "#" not in joined
        and all(one.startswith(_SCHEMES) for one in texts)
    )


def _are_sha256(texts: list[str]) -> bool:
    """Tell whether all are SHA-256 digests in lower case."""
    if not texts:
        return True
    joined = "".join(texts)
    if set(map(len, texts)) != {64} or joined.lower() != joined:
        return False
    try:
        # It skips spaces, so the length is compared too.
        return len(bytes.fromhex(joined)) == 32 * len(texts)
    except ValueError:
        return False
