"""The folder list: the files of a shared folder, as one artifact with one digest.

JSON in one encoding, `{"caravan-folder":1,"files":[{"name","digest","size"}, ...]}`
sorted by name, with a line feed at its end. It is not signed: its digest vouches for
the digests of all its files. Names come from strangers, so each part of one is checked
as a plain file name before it becomes a path.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import msgspec

from node.errors import RefusedError
from node.model.names import is_file_name

MARKER = b'{"caravan-folder":'
FORMAT = 1
BYTES_MAX = 4 * 1024 * 1024
FILES_MAX = 10_000
DEPTH_MAX = 16

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


class FolderFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a folder; `name` is its path there, with slashes."""

    name: str
    digest: str
    size: int


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int = msgspec.field(name="caravan-folder")
    files: list[FolderFile]


def is_folder_list(content: bytes) -> bool:
    """Tell whether `content` says of itself that it is a folder list."""
    return len(content) <= BYTES_MAX and content.startswith(MARKER)


def is_path(name: str) -> bool:
    """Tell whether `name` is safe below any folder, on every platform."""
    parts = name.split("/")
    return len(parts) <= DEPTH_MAX and all(map(is_file_name, parts))


def write_folder_list(files: list[FolderFile]) -> bytes:
    """Return the folder list of `files`; RefusedError where it breaks a rule."""
    document = _Document(FORMAT, sorted(files, key=lambda one: one.name))
    _check(document)
    content = msgspec.json.encode(document) + b"\n"
    if len(content) > BYTES_MAX:
        raise RefusedError("the list of this folder is larger than 4 MiB")
    return content


def read_folder_list(content: bytes) -> list[FolderFile]:
    """Return the files that a folder list names; RefusedError says why it is none."""
    if not is_folder_list(content):
        raise RefusedError("this is no folder list")
    try:
        document = msgspec.json.decode(content, type=_Document)
        encoded = msgspec.json.encode(document) + b"\n"
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"this folder list is damaged: {error}") from error
    if encoded != content:
        raise RefusedError("this folder list is not in its only encoding")
    _check(document)
    return document.files


def _check(document: _Document) -> None:
    files = document.files
    names = [one.name for one in files]
    folded = {name.casefold() for name in names}
    parents = {str(parent) for name in folded for parent in PurePosixPath(name).parents}
    if document.format != FORMAT:
        raise RefusedError("this folder list is of another version of Caravan")
    if not 0 < len(files) <= FILES_MAX:
        raise RefusedError(f"a folder list names 1 to {FILES_MAX:,} files")
    for one in files:
        if not is_path(one.name):
            raise RefusedError(f"{one.name!r} cannot be the name of a file in a folder")
        if not _SHA256.fullmatch(one.digest) or not 0 <= one.size < 2**50:
            raise RefusedError(f"the entry of {one.name!r} in this folder is malformed")
    if names != sorted(names) or len(folded) != len(names) or folded & parents:
        raise RefusedError("two files of this folder have the same name")
