"""What keeps a store whole: recovery after a crash, checks, copies outwards."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.content.digest import ALGORITHM_BYTES, NAME_ALGORITHM, Digest, new_hash
from transfer.content.hashing import Contents, ContentsHasher, blocks
from transfer.errors import StoreError
from transfer.limits import ARTIFACT_BYTES_MAX
from transfer.store.fs import store_errors

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from transfer.content.artifact import Artifact
    from transfer.store.fs import Fs
    from transfer.store.store import Store

log = logging.getLogger(__name__)

Signature = tuple[int, int, int, int]
"""Inode, size, and times of the last changes of content and inode."""

_NAME_CHARACTERS = 2 * ALGORITHM_BYTES[NAME_ALGORITHM]


def make_shelves(fs: Fs, folder: Path) -> None:
    """Make a store's folder with all those that artifacts will lie in."""
    fs.make_folder(folder)
    for number in range(256):
        (folder / f"{number:02x}").mkdir(exist_ok=True)
    fs.sync_folder(folder)


def recover(store: Store) -> None:
    """Bring files and rows together again after a crash.

    Unfinished copies are removed. A row without a file is dropped. A file
    without a row, left by a crash between renaming and writing the row, is
    verified and entered, or set aside.
    """
    with store_errors(store.folder):
        for leftover in store.partials.folder.glob("*.new"):
            store.fs.remove(leftover)
        names = store.index.names()
        files = _files(store.path_of(Digest.of(b"")).parent.parent)
    for raw in names - files.keys():
        log.warning("%s has lost its file and is no longer listed", raw.hex())
        store.index.delete(Digest(NAME_ALGORITHM, raw))
    for raw in files.keys() - names:
        _adopt(store, Digest(NAME_ALGORITHM, raw), files[raw])


def _files(folder: Path) -> dict[bytes, Path]:
    found: dict[bytes, Path] = {}
    for shelf in os.scandir(folder):
        if not shelf.is_dir(follow_symlinks=False):
            continue
        for entry in os.scandir(shelf.path):
            try:
                raw = bytes.fromhex(entry.name)
            except ValueError:
                continue
            if len(entry.name) == _NAME_CHARACTERS:
                found[raw] = Path(entry.path)
    return found


def _adopt(store: Store, name: Digest, path: Path) -> None:
    """Take a file without a row into the index through a new commit."""
    temporary = store.partials.folder / f"adopt-{name.hex}.new"
    with store_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            contents = contents_of(descriptor, os.fstat(descriptor).st_size)
            store.fs.rename(path, temporary)
            if contents.name == name:
                store.commit(temporary, descriptor, contents)
            else:
                log.warning("%s held other bytes and was removed", path)
                store.fs.remove(temporary)
        finally:
            os.close(descriptor)


def contents_of(
    descriptor: int, size: int, stop: threading.Event | None = None
) -> Contents:
    """Compute all digests and the manifest of an open file."""
    with ContentsHasher(size) as hasher:
        for part in blocks(descriptor, size, stop):
            hasher.update(part)
        return hasher.contents()


def matches(
    descriptor: int,
    artifact: Artifact,
    progress: Callable[[int, int | None], None] | None,
) -> bool:
    """Whether an open file has the artifact's SHA-256."""
    if os.fstat(descriptor).st_size != artifact.size:
        return False
    state = new_hash(NAME_ALGORITHM)
    done = 0
    try:
        for part in blocks(descriptor, artifact.size):
            state.update(part)
            done += len(part)
            if progress is not None:
                progress(done, artifact.size)
    except OSError as error:
        log.warning("%s cannot be read: %s", artifact.digest, error)
        return False
    return state.digest() == artifact.digest.raw


def regular_size(descriptor: int, path: Path) -> int:
    """Return the size of an open file; StoreError where it is not a file."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise StoreError(f"{path} is not a regular file.")
    return status.st_size


def signature_of(descriptor: int) -> Signature:
    """Return what changes when somebody writes to an open file."""
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_named(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def copy_in(
    store: Store,
    source: int,
    path: Path,
    target: int,
    size: int,
    progress: Callable[[int, int | None], None] | None,
) -> Contents:
    """Copy an open file into a fresh one of the store, hashing it meanwhile."""
    if size > ARTIFACT_BYTES_MAX:
        raise StoreError(f"{path} is larger than any artifact may be.")
    cloned = store.fs.clone(source, target)
    if cloned:
        source, size = target, os.fstat(target).st_size
    done = 0
    with ContentsHasher(size) as hasher, store_errors(path):
        for part in blocks(source, size):
            if not cloned:
                with store_errors(store.folder):
                    store.fs.write(target, part, done)
            hasher.update(part)
            done += len(part)
            if progress is not None:
                progress(done, size)
        if done != size:
            raise StoreError(f"{path} became shorter while it was read.")
        return hasher.contents()


def copy_out(fs: Fs, source: int, size: int, fresh: Path, target: Path) -> None:
    """Copy an open file to `fresh` and then give it the name `target`."""
    descriptor = fs.create(fresh)
    try:
        if not fs.clone(source, descriptor):
            offset = 0
            for part in blocks(source, size):
                fs.write(descriptor, part, offset)
                offset += len(part)
            if offset != size:
                raise StoreError(f"The stored copy of {target.name} is too short.")
        fs.sync(descriptor)
    finally:
        os.close(descriptor)
    fs.rename(fresh, target)
    fs.sync_folder(target.parent)
