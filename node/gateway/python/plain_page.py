"""Pages of the simple API as most indexes write them, read without steps for each file.

A popular project has thousands of files, and an installer waits for its page. Such a
page is plain where each file has a plain name, one SHA-256 and an absolute URL. What
is checked of its files is checked of all of them at once, by one regular expression.
"""

from __future__ import annotations

import re
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
    except msgspec.MsgspecError:
        return None
    files = document.files
    if (
        not document.meta.api_version.startswith("1.")
        or len(files) > limits.FILES_PER_PAGE_MAX
    ):
        return None
    names = [one.filename for one in files]
    urls = [one.url for one in files]
    digests = [one.hashes.sha256 for one in files]
    sizes = [-1 if one.size is None else one.size for one in files]
    for one in files:
        one.dist_info_metadata = one.core_metadata = (
            one.core_metadata or one.dist_info_metadata
        )
    apart = [
        said.sha256 if isinstance(said := one.core_metadata, _Hashes) else ""
        for one in files
    ]
    if not (
        _are_names(names)
        and _are_urls(urls)
        and _are_sha256(digests)
        and _are_sha256(list(filter(None, apart)))
    ):
        return None
    for one, digest in zip(files, digests, strict=True):
        one.url = f"../../files/sha256/{digest}/{one.filename}"
    has_all = bool(document.versions) and min(sizes, default=0) >= 0
    document.meta.api_version = "1.1" if has_all else "1.0"  # PEP 700 wants both
    document.versions = document.versions if has_all else []
    document.name = name
    lines = [
        f"{file}\t{'' if size < 0 else size}\tsha256:{digest}\t{name}\t{url}\n"
        for file, size, digest, url in zip(names, sizes, digests, urls, strict=True)
    ]
    lines += [
        f"sha256:{digest}{METADATA}\t\tsha256:{own}\t{name}\t{url}{METADATA}\n"
        for digest, own, url in zip(digests, apart, urls, strict=True)
        if own
    ]
    text = "".join(["\n", *lines]).encode()
    return NamedFiles(upstream, text), msgspec.json.encode(document)


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
