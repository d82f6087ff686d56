"""Files that a person names on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.errors import NodeError
from node.model.paths import path_text
from node.settings import home

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE_FILE_SUFFIX = ".caravan"


def absolute(path: str) -> str:
    """Return `path` as the node, which has another working folder, can read it."""
    return path_text(str(home.absolute(path)))


def target_text(target: str) -> str:
    """Return a TARGET as the node reads it: a package file by its absolute path."""
    return absolute(target) if target.endswith(PACKAGE_FILE_SUFFIX) else target


def write_new(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read; NodeError if it is there already."""
    from node.model.keyfiles import write_secret

    try:
        write_secret(path, content)
    except FileExistsError as error:
        raise NodeError(f"{path} exists already, and was left as it is") from error
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error
