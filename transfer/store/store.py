"""The store: artifacts on disk, named by their SHA-256, whole after every crash.

An artifact gets a fresh temporary name, is verified, synced and renamed; then
the folder is synced and the index gets its row. Nothing is ever renamed over,
and what has no row is neither listed nor served. All methods block and may be
called from any thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING

from transfer.content.artifact import Artifact
from transfer.content.digest import ALIAS_ALGORITHMS, NAME_ALGORITHM, Digest
from transfer.content.hashing import (
    Contents,
    ContentsHasher,
    blocks,
    digests_of,
    sound_chunks,
)
from transfer.content.manifest import ManifestHasher
from transfer.errors import (
    DamagedError,
    FullError,
    ManifestError,
    NotHeldError,
    StoreError,
)
from transfer.limits import CHECK_AGAIN_SECONDS, READ_BYTES_MAX
from transfer.store import commit as entering
from transfer.store import recovery as upkeep
from transfer.store.commit import CommitGroup, Staged
from transfer.store.fs import Fs, store_errors
from transfer.store.index import Index
from transfer.store.partials import Partials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from transfer.content.manifest import Manifest
    from transfer.store.recovery import Signature

    Progress = Callable[[int, int | None], None]

log = logging.getLogger(__name__)


class Store:
    """All artifacts of one node, under `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        fs: Fs | None = None,
        bytes_max: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder
        self.fs = fs or Fs()
        self.bytes_max = bytes_max
        """No more bytes of artifacts are held than this; None for no bound."""
        self.make_room: Callable[[int], None] | None = None
        """Asked, in any thread, to remove things until so many bytes may come in."""
        self.on_quarantine: Callable[[Artifact], None] | None = None
        """Called, in any thread, with an artifact that was just set aside."""
        self.on_aliases: Callable[[Artifact], None] | None = None
        """Called, in any thread, with an artifact whose aliases are now known."""
        self._artifacts_folder = folder / "store" / NAME_ALGORITHM
        self._artifacts_text = str(self._artifacts_folder)
        self._quarantine_folder = folder / "quarantine"
        self.clock = clock
        self.committing = threading.Lock()
        """Held while files get or lose their names, with their rows."""
        self._signatures: dict[bytes, Signature] = {}
        self.partials = Partials(folder / "partial", self.fs)
        with store_errors(folder):
            if not self._artifacts_folder.is_dir():
                upkeep.make_shelves(self.fs, self._artifacts_folder)
            self.fs.make_folder(self.partials.folder)
        self.index = Index(folder / "catalogue.sqlite")
        upkeep.recover(self)

    def close(self) -> None:
        """Close the index; twice does no harm."""
        self.index.close()

    def add(self, path: Path, progress: Progress | None = None) -> Artifact:
        """Copy a file into the store and return its artifact.

        Later changes of `path` do not matter. The same content twice is one
        artifact. Raises StoreError, also where the file changes meanwhile.
        """
        with store_errors(path):
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with store_errors(path):
                size = upkeep.regular_size(source, path)
            with self._staged() as (temporary, descriptor):
                contents = upkeep.copy_in(
                    self, source, path, descriptor, size, progress
                )
                return self.commit(temporary, descriptor, contents)
        finally:
            os.close(source)

    def add_bytes(self, data: bytes) -> Artifact:
        """Put bytes that are in memory into the store."""
        with ContentsHasher(len(data)) as hasher:
            hasher.update(data)
            return self.add_verified(data, hasher.contents())

    def add_verified(self, data: bytes, contents: Contents) -> Artifact:
        """Put bytes into the store whose contents have been computed already."""
        if held := self.find(contents.name):
            return held
        with self._staged() as (temporary, descriptor):
            with store_errors(self.folder):
                self.fs.write(descriptor, data, 0)
            return self.commit(temporary, descriptor, contents)

    def add_group(self, entries: Sequence[tuple[bytes, Contents]]) -> list[Artifact]:
        """Put several small artifacts into the store with one transaction.

        All of them or, with StoreError, none are listed.
        """
        with CommitGroup(self) as group:
            for data, contents in entries:
                group.add(data, contents)
            return group.commit()

    def find(self, digest: Digest) -> Artifact | None:
        """Return the artifact that `digest`, of any algorithm, names, or None."""
        return self.index.find(digest)

    def artifacts(self) -> list[Artifact]:
        """Return all artifacts, the oldest first."""
        return self.index.artifacts()

    def ensure_room(self, size: int) -> None:
        """Have room made for `size` bytes; StoreError where that cannot be."""
        if self.has_room(size):
            return
        if self.make_room is not None:
            self.make_room(size)
        if not self.has_room(size):
            raise FullError(size, self.bytes_held, self.bytes_max)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more may be held."""
        return self.bytes_max is None or self.bytes_held + size <= self.bytes_max

    @property
    def bytes_held(self) -> int:
        """The sizes of all artifacts together."""
        return self.index.bytes_held()

    def path(self, artifact: Artifact) -> Path:
        """Return where the artifact lies; do not write there."""
        return self.path_of(artifact.digest)

    def place_of(self, name: Digest) -> str:
        """Return the same as text, for whoever needs many."""
        hexadecimal = name.raw.hex()
        return f"{self._artifacts_text}/{hexadecimal[:2]}/{hexadecimal}"

    def path_of(self, name: Digest) -> Path:
        """Return where the artifact with this SHA-256 would lie."""
        return self._artifacts_folder / name.hex[:2] / name.hex

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes of a small artifact, verified.

        Raises NotHeldError, DamagedError, or StoreError for one that is too
        large to be held in memory.
        """
        if artifact.size > READ_BYTES_MAX:
            raise StoreError(f"{artifact.digest} is too large to be read at once.")
        descriptor = self.open_checked(artifact)
        try:
            data = b"".join(bytes(part) for part in blocks(descriptor, artifact.size))
            if Digest.of(data) != artifact.digest:
                self.quarantine(artifact, descriptor)
                raise DamagedError
        finally:
            os.close(descriptor)
        return data

    def export(self, artifact: Artifact, target: Path) -> None:
        """Write a verified copy to `target`, replacing it atomically."""
        descriptor = self.open_checked(artifact)
        fresh = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part")
        try:
            with store_errors(target):
                upkeep.copy_out(self.fs, descriptor, artifact.size, fresh, target)
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self.fs.remove(fresh)

    def remove(self, digest: Digest) -> None:
        """Remove an artifact; whoever has its file open can still read it.

        The file goes before the row: a crash in between leaves a row without
        a file, which is dropped, and never a file that comes back.
        """
        artifact = self.find(digest)
        if artifact is None:
            raise NotHeldError
        with self.committing, store_errors(self.folder):
            self.fs.remove(self.path(artifact))
            self._forget(artifact)

    def check(self, digest: Digest, progress: Progress | None = None) -> bool:
        """Hash an artifact again; False, and quarantined, where it is damaged."""
        artifact = self.find(digest)
        if artifact is None:
            raise NotHeldError
        try:
            descriptor = self._open(artifact)
        except NotHeldError:
            return False
        try:
            signature = upkeep.signature_of(descriptor)
            sound = upkeep.matches(descriptor, artifact, progress)
            return self._settle(artifact, descriptor, signature, sound=sound)
        finally:
            os.close(descriptor)

    def open_checked(
        self, artifact: Artifact, stop: threading.Event | None = None
    ) -> int:
        """Open an artifact for reading, checked since the node started.

        It is hashed against its manifest when its inode, size or times are not
        those of the last check. Raises NotHeldError or DamagedError; the caller
        closes the descriptor.
        """
        descriptor = self._open(artifact)
        try:
            signature = upkeep.signature_of(descriptor)
            if self.is_trusted(artifact.digest, signature):
                return descriptor
            sound = self._is_sound(descriptor, artifact, stop)
            if not self._settle(artifact, descriptor, signature, sound=sound):
                raise DamagedError  # noqa: TRY301 (the descriptor is closed below)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def distrust(self, name: Digest) -> None:
        """Make the next opening of this artifact check it first."""
        self._signatures.pop(name.raw, None)

    def manifest(self, artifact: Artifact) -> Manifest:
        """Return the manifest; computed again where the index has lost it."""
        manifest = self.index.manifest(artifact.manifest_digest)
        if manifest is not None:
            return manifest
        descriptor = self._open(artifact)
        try:
            hasher = ManifestHasher(artifact.size)
            for part in blocks(descriptor, artifact.size):
                hasher.update(part)
            with contextlib.suppress(ManifestError):
                manifest = hasher.manifest()
            if manifest is None or manifest.digest != artifact.manifest_digest:
                self.quarantine(artifact, descriptor)
                raise DamagedError
        finally:
            os.close(descriptor)
        if manifest.count > 1:
            self.index.insert([(artifact, manifest)], self.clock())
        return manifest

    def with_aliases(
        self, digest: Digest, stop: threading.Event | None = None
    ) -> Artifact:
        """Return the artifact with all aliases, computing those not yet known."""
        artifact = self.find(digest)
        if artifact is None:
            raise NotHeldError
        if artifact.has_all_aliases:
            return artifact
        lacking = [name for name in ALIAS_ALGORITHMS if name not in artifact.aliases]
        descriptor = self.open_checked(artifact, stop)
        try:
            aliases = digests_of(descriptor, artifact.size, lacking, stop)
        finally:
            os.close(descriptor)
        self.index.set_aliases({artifact.digest: aliases})
        complete = self.find(artifact.digest)
        if complete is None:
            raise NotHeldError
        if self.on_aliases is not None:
            self.on_aliases(complete)
        return complete

    def lacking_aliases(self) -> list[Digest]:
        """Return the names of artifacts whose aliases are not all computed."""
        return self.index.lacking_aliases()

    def due_for_check(self) -> Digest | None:
        """Return the artifact that has gone longest without a check, if too long."""
        return self.index.due_for_check(self.clock() - CHECK_AGAIN_SECONDS)

    def quarantine(self, artifact: Artifact, descriptor: int) -> None:
        """Set a damaged artifact aside: it is no longer listed or served.

        `descriptor` is the damaged file; where another one has taken its name
        in the meantime, that one stays.
        """
        aside = self._quarantine_folder / f"{artifact.digest.hex}-{time.time_ns()}"
        with self.committing, store_errors(self.folder):
            if not upkeep.is_named(descriptor, self.path(artifact)):
                return
            self.fs.make_folder(self._quarantine_folder)
            self.fs.rename(self.path(artifact), aside)
            self._forget(artifact)
        log.warning("%s is damaged and was set aside", artifact.digest)
        if self.on_quarantine is not None:
            self.on_quarantine(artifact)

    def commit(self, temporary: Path, descriptor: int, contents: Contents) -> Artifact:
        """Make a verified file of `partial/` an artifact of the store."""
        if self.find(contents.name) is None:
            self.ensure_room(contents.manifest.size)
        with store_errors(self.folder):
            self.fs.sync(descriptor)
        with self.committing:
            return entering.enter(self, [Staged(temporary, descriptor, contents)])[0]

    def trust(self, name: Digest, signature: Signature) -> None:
        """Take a file that looks like this for checked."""
        self._signatures[name.raw] = signature

    def is_trusted(self, name: Digest, signature: Signature) -> bool:
        """Whether a file that looks like this was checked since the node started."""
        return self._signatures.get(name.raw) == signature

    @contextlib.contextmanager
    def _staged(self) -> Iterator[tuple[Path, int]]:
        """Give a fresh file in `partial/`, removed again unless committed."""
        temporary = self.partials.folder / f"add-{secrets.token_hex(8)}.new"
        with store_errors(self.folder):
            descriptor = self.fs.create(temporary)
        try:
            yield temporary, descriptor
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self.fs.remove(temporary)

    def _open(self, artifact: Artifact) -> int:
        try:
            return os.open(self.path(artifact), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            self._drop_lost(artifact)
            raise NotHeldError from error
        except OSError:
            with store_errors(self.path(artifact)):
                raise

    def _drop_lost(self, artifact: Artifact) -> None:
        """Forget an artifact whose file somebody removed behind our back."""
        with self.committing:
            if self.path(artifact).exists() or self.find(artifact.digest) is None:
                return
            self._forget(artifact)
        log.warning("%s has lost its file and is no longer listed", artifact.digest)
        if self.on_quarantine is not None:
            self.on_quarantine(artifact)

    def _forget(self, artifact: Artifact) -> None:
        self._signatures.pop(artifact.digest.raw, None)
        self.index.delete(artifact.digest)

    def _is_sound(
        self, descriptor: int, artifact: Artifact, stop: threading.Event | None
    ) -> bool:
        manifest = self.index.manifest(artifact.manifest_digest)
        if os.fstat(descriptor).st_size != artifact.size:
            return False
        if manifest is None or manifest.size != artifact.size:
            return upkeep.matches(descriptor, artifact, None)
        try:
            return all(sound_chunks(descriptor, manifest, stop))
        except OSError:
            return False

    def _settle(
        self, artifact: Artifact, descriptor: int, signature: Signature, *, sound: bool
    ) -> bool:
        if not sound:
            self.quarantine(artifact, descriptor)
            return False
        self.trust(artifact.digest, signature)
        self.index.set_checked(artifact.digest, self.clock())
        return True
