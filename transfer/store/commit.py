"""Commit: how verified bytes become artifacts of the store.

A `Committer` is the only way into the store, and the only way out of it. Its rules:

1. Bytes are written under a fresh name in `partial/`. A name below `store/` is only
   ever given to a file whose bytes have that digest.
2. Room is reserved before anything is renamed, and only for bytes that are verified;
   a size that a peer claims reserves nothing and evicts nothing.
3. The order on disk: sync each file, rename it, sync each folder that gained a name,
   then write all rows in one transaction. A crash leaves a file in `partial/`, which
   recovery removes, or a whole file without a row, which recovery verifies and
   lists. No row names a file that a power cut could take away.
4. On the way out the file goes before its row. A crash in between leaves a row
   without a file, which recovery drops; what was removed never comes back.
5. Nothing is renamed over. If the content is held already, the staged copy goes.
6. A group is listed whole or not at all: if its transaction fails, the files that
   were renamed are removed again.
7. `lock` is held while names and rows change together, so that no two threads act on
   one name at a time. Writing, hashing and syncing of staged files, and making room,
   happen outside it.
8. A file in `partial/` can be read by its owner alone. At its commit others get the
   right to read it, unless the artifact is private.
9. A file's signature (inode, size, times) is trusted from its commit on, because
   its bytes were hashed as they were written. It is dropped before the row is. Only
   the newest signatures are remembered: without one a file is hashed again before it
   is sent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from transfer.content.artifact import Artifact
from transfer.content.digest import ALIAS_ALGORITHMS, NAME_ALGORITHM
from transfer.errors import StoreError
from transfer.limits import SIGNATURES_MAX
from transfer.store.fs import store_errors
from transfer.store.integrity import is_named, signature_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _typeshed import ReadableBuffer

    from transfer.content.digest import Digest
    from transfer.content.hashing import Contents
    from transfer.content.manifest import Manifest
    from transfer.store.fs import Fs
    from transfer.store.index import Index
    from transfer.store.integrity import Signature
    from transfer.store.room import Room

log = logging.getLogger(__name__)


class Staged(NamedTuple):
    """A verified file in `partial/`."""

    path: str | Path
    descriptor: int
    contents: Contents
    keeps_mode: bool = False
    """Whether its mode says who may read it: it was in the store before."""


class Committer:
    """Gives verified files their names and rows, and takes them away again."""

    def __init__(
        self,
        *,
        fs: Fs,
        index: Index,
        folder: Path,
        room: Room,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.fs = fs
        self.index = index
        self.room = room
        self.lock = threading.Lock()
        self.folder = folder
        self.artifacts = folder / "store" / NAME_ALGORITHM
        self.staging = folder / "partial"
        self._artifacts_text = str(self.artifacts)
        self._quarantine = folder / "quarantine"
        self._clock = clock
        self._signatures: dict[bytes, Signature] = {}
        self._signing = threading.Lock()
        self.is_private: Callable[[Digest], bool] = lambda _: False
        """Asked, in any thread, whether only the owner may read an artifact."""

    def place_of(self, name: Digest) -> str:
        """Return where the artifact with this SHA-256 lies, held or not."""
        hexadecimal = name.raw.hex()
        return f"{self._artifacts_text}/{hexadecimal[:2]}/{hexadecimal}"

    @contextlib.contextmanager
    def staged(self) -> Iterator[tuple[Path, int]]:
        """Give a fresh file in `partial/`, removed at the end unless committed."""
        path = self.staging / f"add-{secrets.token_hex(8)}.new"
        with store_errors(self.folder):
            descriptor = self.fs.create(path)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self.fs.remove(path)

    def commit(self, staged: Sequence[Staged]) -> list[Artifact]:
        """Make verified files artifacts of the store, all of them or none.

        Return the artifacts in the order of `staged`; what was held stays. Raise
        StoreError. The caller closes the descriptors.
        """
        held = self._held(staged)
        fresh = {
            one.contents.name.raw: one.contents.manifest.size
            for one in staged
            if one.contents.name.raw not in held
        }
        size = sum(fresh.values())
        # Not under the lock: making room removes artifacts, which takes it.
        self.room.reserve(size)
        fresh_count = fresh_size = 0
        try:
            # Before any is renamed: a name must never point to bytes that a power cut
            # can take. Others may commit meanwhile.
            with store_errors(self.folder):
                for one in staged:
                    self.fs.sync(one.descriptor)
            with self.lock:
                entered, fresh_count, fresh_size = self._enter(staged)
        finally:
            self.room.end_reservation(size, count=fresh_count, held=fresh_size)
        return [entered[one.contents.name.raw] for one in staged]

    def remove(self, artifact: Artifact) -> None:
        """Remove an artifact; open descriptors go on reading it."""
        with self.lock, store_errors(self.folder):
            # The file first: after a crash in between, the row is dropped.
            self.fs.remove(self.place_of(artifact.digest))
            self._forget(artifact)

    def quarantine(self, artifact: Artifact, descriptor: int) -> bool:
        """Set a damaged file aside and drop its row; False if it lost its name.

        `descriptor` is the damaged file: another one may have taken its name in
        the meantime, and that one stays.
        """
        aside = self._quarantine / f"{artifact.digest.hex}-{time.time_ns()}"
        place = self.place_of(artifact.digest)
        with self.lock, store_errors(self.folder):
            if not is_named(descriptor, place):
                return False
            self.fs.make_folder(self._quarantine)
            self.fs.rename(place, aside)
            self._forget(artifact)
        log.warning("%s is damaged and was set aside", artifact.digest)
        return True

    def drop_lost(self, artifact: Artifact) -> bool:
        """Drop the row of an artifact whose file was removed behind our back."""
        with self.lock:
            if (
                Path(self.place_of(artifact.digest)).exists()
                or self.index.find(artifact.digest) is None
            ):
                return False
            self._forget(artifact)
        log.warning("%s has lost its file and is no longer listed", artifact.digest)
        return True

    def set_private(self, artifact: Artifact, *, private: bool) -> None:
        """Let only the owner read an artifact that is held, or everybody again.

        Raise StoreError.
        """
        place = self.place_of(artifact.digest)
        with self.lock, store_errors(self.folder):
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            try:
                is_trusted = self.is_trusted(artifact.digest, signature_of(descriptor))
                self.fs.set_private(descriptor, private=private)
                if is_trusted:  # the change of its mode is no change of its bytes
                    self.trust(artifact.digest, signature_of(descriptor))
            finally:
                os.close(descriptor)

    def trust(self, name: Digest, signature: Signature) -> None:
        """Record that the file with this signature has been checked."""
        with self._signing:
            self._signatures[name.raw] = signature
            if len(self._signatures) > SIGNATURES_MAX:
                del self._signatures[next(iter(self._signatures))]

    def is_trusted(self, name: Digest, signature: Signature) -> bool:
        """Whether the file with this signature was checked since the node started."""
        return self._signatures.get(name.raw) == signature

    def distrust(self, name: Digest) -> None:
        """Have the artifact checked when it is opened next."""
        with self._signing:
            self._signatures.pop(name.raw, None)

    def _enter(
        self, staged: Sequence[Staged]
    ) -> tuple[dict[bytes, Artifact], int, int]:
        """Rename, sync the folders, write the rows; under the lock.

        Return the artifacts by name, and how many and how many bytes are new.
        """
        # Again, now under the lock: another thread may have committed the same since.
        entered = self._held(staged)
        fresh: list[tuple[Artifact, Manifest]] = []
        folders: set[str] = set()
        try:
            with store_errors(self.folder):
                for one in staged:
                    name = one.contents.name
                    if name.raw in entered:
                        self.fs.remove(one.path)
                        continue
                    entered[name.raw] = artifact = _artifact(
                        one.contents, self._clock()
                    )
                    fresh.append((artifact, one.contents.manifest))
                    target = self.place_of(name)
                    if not one.keeps_mode:
                        names = one.contents.digests.values()
                        is_private = any(map(self.is_private, names))
                        self.fs.set_private(one.descriptor, private=is_private)
                    # The signature comes last: rights and name change the file's ctime.
                    self._rename(one.path, target)
                    self.trust(name, signature_of(one.descriptor))
                    folders.add(os.path.dirname(target))  # noqa: PTH120 (text is quicker)
                for folder in folders:
                    self.fs.sync_folder(folder)
            # Last: from here on it is listed, served and announced.
            self.index.insert(fresh, self._clock())
        except StoreError:
            for artifact, _ in fresh:
                self.distrust(artifact.digest)
                with contextlib.suppress(OSError):
                    self.fs.remove(self.place_of(artifact.digest))
            raise
        return entered, len(fresh), sum(artifact.size for artifact, _ in fresh)

    def _held(self, staged: Sequence[Staged]) -> dict[bytes, Artifact]:
        names = [one.contents.name.raw for one in staged]
        return self.index.find_many(NAME_ALGORITHM, names)

    def _rename(self, temporary: str | Path, target: str) -> None:
        try:
            self.fs.rename(temporary, target)
        except FileNotFoundError:
            self.fs.make_folder(Path(target).parent)
            self.fs.rename(temporary, target)

    def _forget(self, artifact: Artifact) -> None:
        # Its signature goes before its row: a file that comes under this name later
        # must not be taken for the one that was checked.
        self.distrust(artifact.digest)
        if self.index.delete(artifact.digest):
            self.room.release(artifact.size)


class CommitGroup:
    """Small artifacts that are committed together; use it as a context manager.

    What was not committed by its end leaves nothing behind.
    """

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._staged: list[Staged] = []
        self._prefix = f"{committer.staging}/add-{secrets.token_hex(8)}"

    def __len__(self) -> int:
        return len(self._staged)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        staged, self._staged = self._staged, []
        for one in staged:
            os.close(one.descriptor)
            with contextlib.suppress(OSError):
                self._committer.fs.remove(one.path)

    def add(self, data: ReadableBuffer, contents: Contents) -> None:
        """Write verified bytes to a file that the commit will name."""
        committer = self._committer
        path = f"{self._prefix}-{len(self._staged)}.new"
        with store_errors(committer.folder):
            descriptor = committer.fs.create(path)
            try:
                committer.fs.write(descriptor, data, 0)
            except OSError:
                os.close(descriptor)
                with contextlib.suppress(OSError):
                    committer.fs.remove(path)
                raise
        self._staged.append(Staged(path, descriptor, contents))

    def commit(self) -> list[Artifact]:
        """Commit all files with one transaction, in the order of adding.

        All of them or, with StoreError, none are listed.
        """
        try:
            entered = self._committer.commit(self._staged)
        except BaseException:
            self.__exit__()
            raise
        for one in self._staged:
            os.close(one.descriptor)
        self._staged = []
        return entered


def _artifact(contents: Contents, now: float) -> Artifact:
    aliases = {
        name: contents.digests[name]
        for name in ALIAS_ALGORITHMS
        if name in contents.digests
    }
    manifest = contents.manifest
    return Artifact(contents.name, manifest.size, manifest.digest, aliases, now)
