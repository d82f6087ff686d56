"""Recovery: bring files and rows together again after a crash."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.content.digest import ALGORITHM_BYTES, NAME_ALGORITHM, Digest
from transfer.errors import FullError
from transfer.store.commit import Staged
from transfer.store.fs import store_errors
from transfer.store.index import SHELVES
from transfer.store.integrity import contents_of

if TYPE_CHECKING:
    from transfer.store.commit import Committer
    from transfer.store.fs import Fs

log = logging.getLogger(__name__)

_NAME_CHARACTERS = 2 * ALGORITHM_BYTES[NAME_ALGORITHM]
_HEXADECIMAL = re.compile("[0-9a-fA-F]+")


def make_shelves(fs: Fs, folder: Path) -> None:
    """Make a store's folder with all folders that artifacts will lie in."""
    fs.make_folder(folder)
    for number in range(SHELVES):
        (folder / f"{number:02x}").mkdir(exist_ok=True)
    fs.sync_folder(folder)


def recover(committer: Committer) -> None:
    """Undo what a crash left half done, by the rules of commit.py.

    Unfinished copies are removed. A row without a file is dropped. A file
    without a row is verified and listed, or removed.
    """
    with store_errors(committer.folder):
        for leftover in committer.staging.glob("*.new"):
            committer.fs.remove(leftover)
    # Shelf by shelf: the names of all files at once may not fit into the memory.
    for shelf in range(SHELVES):
        folder = committer.artifacts / f"{shelf:02x}"
        with store_errors(committer.folder):
            names = {raw.hex() for raw in committer.index.names_on(shelf)}
            files = _files(folder)
        for name in names - files:
            lost = committer.index.find(Digest(NAME_ALGORITHM, bytes.fromhex(name)))
            if lost is not None:
                committer.drop_lost(lost)
        for name in files - names:
            if _HEXADECIMAL.fullmatch(name):  # others are no artifacts
                digest = Digest(NAME_ALGORITHM, bytes.fromhex(name))
                _adopt(committer, digest, folder / name)


def _files(shelf: Path) -> set[str]:
    """Return the names on a shelf that may be artifacts'; the shelf may be missing."""
    if shelf.is_symlink() or not shelf.is_dir():
        return set()
    names = os.listdir(shelf)  # noqa: PTH208 (a million texts, no objects)
    return {name for name in names if len(name) == _NAME_CHARACTERS}


def _adopt(committer: Committer, name: Digest, path: Path) -> None:
    """List a file without a row, through a new commit."""
    temporary = committer.staging / f"adopt-{name.hex}.new"
    with store_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            contents = contents_of(descriptor, os.fstat(descriptor).st_size)
            committer.fs.rename(path, temporary)
            if contents.name != name:
                log.warning("%s held other bytes and was removed", path)
                committer.fs.remove(temporary)
                return
            try:
                committer.commit(
                    [Staged(temporary, descriptor, contents, keeps_mode=True)]
                )
            except FullError:
                log.warning("%s was never listed, and there is no room for it", path)
                committer.fs.remove(temporary)
        finally:
            os.close(descriptor)
