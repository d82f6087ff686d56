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
_SHA256S = re.compile(r"(?:[0-9a-f]{64}\n)*+")
_SHA256S_OR_NONE = re.compile(r"(?:(?:[0-9a-f]{64})?+\n)*+")
_URLS = re.compile(r"(?:https?://[!-\"$-~]++\n)*+")


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
    hashes: dict[str, str]
    size: Annotated[int, msgspec.Meta(ge=0, lt=_SIZE_MAX)] | None = None
    requires_python: str | None = None
    yanked: bool | str = False
    upload_time: str | None = None
    core_metadata: bool | dict[str, str] = False
    dist_info_metadata: bool | dict[str, str] = False


class _Meta(msgspec.Struct, rename={"api_version": "api-version"}):
    api_version: str = "1.0"


class _Document(msgspec.Struct, omit_defaults=True):
    files: list[_Entry]
    meta: _Meta
    name: str = ""
    versions: list[str] = []


def read_plain(
    upstream: str, name: str, page: OriginPage
) -> tuple[NamedFiles, bytes] | None:
    """Return the files that a page in JSON names, and our page; None for others.

    Blocks.
    """
    try:
        document = msgspec.json.decode(page.body, type=_Document)
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
    digests = [one.hashes.get("sha256", "") for one in files]
    sizes = [-1 if one.size is None else one.size for one in files]
    for one in files:
        one.core_metadata = one.core_metadata or one.dist_info_metadata
        one.dist_info_metadata = one.core_metadata
    apart = [
        said.get("sha256", "-") if isinstance(said := one.core_metadata, dict) else ""
        for one in files
    ]
    if (
        not all(len(one.hashes) == 1 for one in files)
        or not _are(_NAMES, names)
        or not _are(_SHA256S, digests)
        or not _are(_SHA256S_OR_NONE, apart)
        or not _are(_URLS, urls)
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


def _are(pattern: re.Pattern[str], texts: list[str]) -> bool:
    """Tell whether all of the texts fit a pattern of lines."""
    joined = "\n".join([*texts, ""])
    return joined.count("\n") == len(texts) and pattern.fullmatch(joined) is not None
