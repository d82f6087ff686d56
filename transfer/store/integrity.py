"""Integrity: checks, digests and copies of files that somebody may have changed."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING

from transfer.content.digest import NAME_ALGORITHM, new_hash
from transfer.content.hashing import Contents, ContentsHasher, blocks, sound_chunks
from transfer.errors import StoreError
from transfer.limits import ARTIFACT_BYTES_MAX
from transfer.store.fs import store_errors

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from transfer.content.artifact import Artifact
    from transfer.content.manifest import Manifest
    from transfer.store.fs import Fs

    Progress = Callable[[int, int | None], None]

log = logging.getLogger(__name__)

Signature = tuple[int, int, int, int]
"""Inode, size, and times of the last changes of content and inode."""


def signature_of(descriptor: int) -> Signature:
    """Return what changes when somebody writes to an open file."""
    status = os.fstat(descriptor)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_named(descriptor: int, path: str | Path) -> bool:
    """Whether the open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))  # noqa: PTH116
    except FileNotFoundError:
        return False


def open_regular(path: Path) -> int:
    """Open a regular file for reading; raise StoreError for anything else.

    A pipe or a device is refused at once: without O_NONBLOCK the opening itself
    could wait for a writer.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    with store_errors(path):
        if stat.S_ISREG(path.stat().st_mode):
            descriptor = os.open(path, flags)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return descriptor
            os.close(descriptor)
    raise StoreError(f"{path} is not a regular file.")


def read_small(path: Path, size_max: int) -> bytes | None:
    """Return the bytes of a regular file, or None if there are more than that."""
    descriptor = open_regular(path)
    try:
        with store_errors(path):
            data = os.pread(descriptor, size_max + 1, 0)
    finally:
        os.close(descriptor)
    return data if len(data) <= size_max else None


def contents_of(
    descriptor: int, size: int, stop: threading.Event | None = None
) -> Contents:
    """Compute all digests and the manifest of an open file."""
    with ContentsHasher(size) as hasher:
        for part in blocks(descriptor, size, stop, buffers=2):
            hasher.feed(part)
        return hasher.contents()


def has_digest(
    descriptor: int, artifact: Artifact, progress: Progress | None = None
) -> bool:
    """Whether an open file has the artifact's size and SHA-256."""
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


def matches_manifest(
    descriptor: int,
    artifact: Artifact,
    *,
    manifest: Manifest | None,
    stop: threading.Event | None,
) -> bool:
    """Whether an open file matches its manifest, or without one its SHA-256."""
    if os.fstat(descriptor).st_size != artifact.size:
        return False
    if manifest is None or manifest.size != artifact.size:
        return has_digest(descriptor, artifact)
    try:
        return all(sound_chunks(descriptor, manifest, stop))
    except OSError:
        return False


def copy_in(
    fs: Fs,
    *,
    source: int,
    target: int,
    path: Path,
    folder: Path,
    progress: Progress | None,
    algorithms: Iterable[str],
) -> Contents:
    """Copy an open file, `path`, into a staged one of `folder`, and hash it.

    The blocks are shared where the file system can. Raise StoreError, also if
    the file becomes shorter meanwhile.
    """
    size = os.fstat(source).st_size
    if size > ARTIFACT_BYTES_MAX:
        raise StoreError(f"{path} is larger than any artifact may be.")
    cloned = fs.clone(source, target)
    if cloned:
        source, size = target, os.fstat(target).st_size
    done = 0
    with ContentsHasher(size, algorithms) as hasher, store_errors(path):
        for part in blocks(source, size, buffers=2):
            if not cloned:
                with store_errors(folder):
                    fs.write(target, part, done)
            hasher.feed(part)
            done += len(part)
            if progress is not None:
                progress(done, size)
        if done != size:
            raise StoreError(f"{path} became shorter while it was read.")
        return hasher.contents()


def copy_out(fs: Fs, *, source: int, size: int, fresh: Path, target: Path) -> None:
    """Copy an open file to `fresh` and then give it the name `target`."""
    descriptor = fs.create(fresh)
    try:
        fs.set_private(descriptor, private=False)
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
