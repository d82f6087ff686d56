"""All writes to disk go through one small object, so that faults can be injected.

Reads are left out: they cannot lose anything. A test passes a subclass that
fails at the n-th call, or that forgets what was not synced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING

from transfer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _typeshed import ReadableBuffer

    Name = str | Path
    """Text where a thousand small files a second are named: a Path costs more."""

_FICLONE = 0x40049409  # ioctl of Linux: share all blocks of another file
_FILE_MODE = 0o644
_PRIVATE_MODE = 0o600
_UMASK = os.umask(0o077)
os.umask(_UMASK)  # there is no other way to read it


class Fs:
    """The real file system."""

    def make_folder(self, path: Path) -> None:
        """Make a folder, durably, where it does not exist yet."""
        if path.is_dir():
            return
        path.mkdir(parents=True, exist_ok=True)
        self.sync_folder(path.parent)

    def create(self, path: Name) -> int:
        """Create a new file, open for reading and writing; its descriptor.

        Only its owner can read it until `set_private` says otherwise.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(path, flags, _PRIVATE_MODE)

    def set_private(self, descriptor: int, *, private: bool) -> None:
        """Let only the owner, or everybody whom the umask allows, read a file."""
        os.fchmod(descriptor, _PRIVATE_MODE if private else _FILE_MODE & ~_UMASK)

    def reopen(self, path: Path) -> int:
        """Open an existing file for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def write(self, descriptor: int, data: ReadableBuffer, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            count = os.pwrite(descriptor, view, offset)
            view = view[count:]
            offset += count

    def clone(self, source: int, target: int) -> bool:
        """Let `target` share the blocks of `source`; False where it cannot."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError:
            return False
        return True

    def set_length(self, descriptor: int, length: int) -> None:
        """Cut or extend a file to `length` bytes."""
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Wait until the file's bytes are on the medium."""
        os.fsync(descriptor)

    def sync_folder(self, path: Name) -> None:
        """Wait until the folder's entries are on the medium."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Name, target: Name) -> None:
        """Give a file a new name; what had that name is replaced."""
        os.replace(source, target)  # noqa: PTH105 (names may be text)

    def remove(self, path: Name) -> None:
        """Remove a file where it exists."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 (names may be text)


_SENTENCES = {
    errno.ENOSPC: "The disk of {} is full; free some space and try again.",
    errno.EDQUOT: "The quota for {} is used up; free some space and try again.",
    errno.EROFS: "{} is on a file system that cannot be written.",
    errno.EACCES: "{} may not be read or written by this user.",
    errno.EPERM: "{} may not be read or written by this user.",
    errno.ENOENT: "{} does not exist.",
    errno.EISDIR: "{} is a folder, not a file.",
    errno.EMFILE: "Too many files are open; raise the limit (ulimit -n).",
    errno.EIO: "The disk of {} reports an input/output error; check the disk.",
}


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn an OSError about `path` into a `StoreError` of one sentence."""
    try:
        yield
    except OSError as error:
        sentence = _SENTENCES.get(error.errno or 0)
        if sentence is None:
            raise StoreError(f"{path} failed: {error.strerror or error}.") from error
        raise StoreError(sentence.format(path)) from error
