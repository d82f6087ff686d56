"""The downloads under way, by what they download."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from transfer.store.partial import Partial

if TYPE_CHECKING:
    from pathlib import Path

    from transfer.content.digest import Digest
    from transfer.store.fs import Fs


class Partials:
    """Opens the files of downloads, and shows them to the seeder."""

    def __init__(self, folder: Path, fs: Fs) -> None:
        self.folder = folder
        self._fs = fs
        self._lock = threading.Lock()
        self._open: dict[Digest, Partial] = {}

    def begin(self, digest: Digest) -> Partial:
        """Open the file of a download; `end` closes it."""
        partial = Partial(self.folder, digest, self._fs)
        with self._lock:
            self._open[digest] = partial
        return partial

    def exists(self, digest: Digest) -> bool:
        """Whether an earlier download of this left something."""
        return Partial.path_in(self.folder, digest).exists()

    def end(self, partial: Partial, *, discard: bool = False) -> None:
        """End a download's file: keep it for a later run, or remove it."""
        with self._lock:
            self._open.pop(partial.digest, None)
            if discard:
                partial.discard()
            else:
                partial.close()

    def borrow(self, digest: Digest) -> tuple[Partial, int] | None:
        """Return a download under way with a descriptor to be closed, or None."""
        with self._lock:
            partial = self._open.get(digest)
            return None if partial is None else (partial, os.dup(partial.descriptor))

    def under_way(self, digest: Digest) -> Partial | None:
        """Return a download under way, or None."""
        with self._lock:
            return self._open.get(digest)

    def is_open(self, digest: Digest) -> bool:
        """Whether a download of this is under way."""
        with self._lock:
            return digest in self._open

    def forget(self, digest: Digest) -> None:
        """Remove what a download left that is not under way and not needed any more."""
        with self._lock:
            if digest in self._open:
                return
            path = Partial.path_in(self.folder, digest)
            for leftover in (path, path.with_suffix(".manifest")):
                self._fs.remove(leftover)
