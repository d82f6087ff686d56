"""The files that are being served: one descriptor and one manifest for each.

However many leechers want an artifact, it is opened once. Descriptors are bounded:
when too many are open, the one unused for longest is closed and opened again when
it is needed next.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.errors import NotHeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from transfer.content.artifact import Artifact
    from transfer.content.manifest import Manifest
    from transfer.store.partial import Partial
    from transfer.store.store import Store


@dataclass(slots=True, eq=False)
class ServedFile:
    """An artifact, or a download under way, that somebody wants."""

    key: Hashable
    manifest: Manifest
    reopen: Callable[[], int]
    descriptor: int
    """-1 while it is closed to spare descriptors."""
    wants: int = 1
    readers: int = 0


class ServedFiles:
    """All files that are being served; in any thread."""

    def __init__(
        self, store: Store, *, descriptors_max: int, stop: threading.Event
    ) -> None:
        self._store = store
        self._max = descriptors_max
        self._stop = stop
        self._lock = threading.Lock()
        self._files: dict[Hashable, ServedFile] = {}
        """By key, the one used last at the end."""
        self._open = 0

    def want_whole(self, artifact: Artifact) -> ServedFile:
        """Open an artifact, checked; raise NotHeldError or DamagedError."""

        def reopen() -> int:
            return self._store.open_checked(artifact, self._stop)

        file = self._files.get(artifact.digest)
        manifest = self._store.manifest(artifact) if file is None else file.manifest
        return self._want(artifact.digest, manifest, reopen)

    def want_partial(self, partial: Partial, manifest: Manifest) -> ServedFile:
        """Open a download under way; raise NotHeldError if it has ended."""

        def reopen() -> int:
            borrowed = self._store.partials.borrow(partial.digest)
            if borrowed is None:
                raise NotHeldError
            if borrowed[0] is not partial:
                os.close(borrowed[1])
                raise NotHeldError
            return borrowed[1]

        return self._want((partial, manifest.digest), manifest, reopen)

    def release(self, file: ServedFile) -> None:
        """Take back one want; with the last one the file is closed."""
        with self._lock:
            file.wants -= 1
            if file.wants:
                return
            if self._files.get(file.key) is file:
                del self._files[file.key]
            if not file.readers:
                self._close(file)

    @contextlib.contextmanager
    def descriptor(self, file: ServedFile) -> Iterator[int]:
        """Give a descriptor of a wanted file that stays open meanwhile.

        Raise NotHeldError or DamagedError if it has to be opened again and cannot.
        """
        with self._lock:
            file.readers += 1
            is_open = file.descriptor >= 0
            if self._files.get(file.key) is file:
                self._files[file.key] = self._files.pop(file.key)
        try:
            if not is_open:
                self._install(file, file.reopen())
            yield file.descriptor
        finally:
            with self._lock:
                file.readers -= 1
                if not file.wants and not file.readers:
                    self._close(file)

    def _want(
        self, key: Hashable, manifest: Manifest, reopen: Callable[[], int]
    ) -> ServedFile:
        """Share the file that is open, if it is still the one of the store."""
        descriptor = reopen()
        with self._lock:
            file = self._files.get(key)
            if file is not None and (
                file.descriptor < 0 or _is_same(descriptor, file.descriptor)
            ):
                file.wants += 1
            else:
                # What was replaced in the store stays open for those who want it.
                file = self._files[key] = ServedFile(key, manifest, reopen, -1)
        self._install(file, descriptor)
        return file

    def _install(self, file: ServedFile, descriptor: int) -> None:
        with self._lock:
            if file.descriptor >= 0:
                os.close(descriptor)
                return
            if self._open >= self._max:
                self._close_oldest()
            file.descriptor = descriptor
            self._open += 1

    def _close_oldest(self) -> None:
        for file in self._files.values():
            if file.descriptor >= 0 and not file.readers:
                self._close(file)
                return

    def _close(self, file: ServedFile) -> None:
        if file.descriptor >= 0:
            os.close(file.descriptor)
            file.descriptor = -1
            self._open -= 1


def _is_same(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))
