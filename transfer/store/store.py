"""The store: artifacts on disk, named by their SHA-256, whole after every crash.

How files enter and leave is written in commit.py. All methods block and may be
called in any thread; one that serves an event loop calls them in a worker thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

from transfer.content.artifact import Artifact
from transfer.content.digest import (
    ALGORITHM_BYTES,
    ALIAS_ALGORITHMS,
    NAME_ALGORITHM,
    Digest,
)
from transfer.content.hashing import Contents, ContentsHasher, blocks, digests_of
from transfer.content.manifest import ManifestHasher, chunk_digest
from transfer.errors import DamagedError, ManifestError, NotHeldError, StoreError
from transfer.limits import (
    CHECK_AGAIN_SECONDS,
    EAGER_BYTES_MAX,
    FOUND_MAX,
    GROUP_ARTIFACTS_MAX,
    READ_BYTES_MAX,
)
from transfer.store import integrity
from transfer.store.commit import CommitGroup, Committer, Staged
from transfer.store.database import Database
from transfer.store.fs import Fs, store_errors
from transfer.store.index import Index
from transfer.store.locks import KeyedLocks
from transfer.store.partial import Partials
from transfer.store.quiet import Activity
from transfer.store.recovery import make_shelves, recover
from transfer.store.room import Room

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from transfer.content.manifest import Manifest
    from transfer.store.integrity import Progress, Signature
    from transfer.store.quiet import Pauses

log = logging.getLogger(__name__)

_GROUPS_AT_ONCE = 2


class Store:
    """All artifacts of one node, under `folder`; `with Store(folder)` closes it."""

    def __init__(
        self,
        folder: Path,
        *,
        fs: Fs | None = None,
        bytes_max: int | None = None,
        clock: Callable[[], float] = time.time,
        database: Database | None = None,
    ) -> None:
        """`database` is the open catalogue, which its owner closes; None to open it."""
        self.folder = folder
        self.on_quarantine: Callable[[Artifact], None] | None = None
        """Called, in any thread, with an artifact that was just set aside."""
        self.on_aliases: Callable[[Artifact], None] | None = None
        """Called, in any thread, with an artifact whose aliases are now known."""
        self.activity = Activity()
        """Whether content comes or goes now, by commands or peers."""
        self._alias_locks = KeyedLocks()
        self._found: dict[Digest, Artifact] = {}
        self._found_before = 0  # deletions until then are known to `_found`
        self.fs = fs = fs or Fs()
        self.clock = clock
        with store_errors(folder):
            fs.make_folder(folder)
        self._own_database = database is None
        self.database = database or Database(folder / "catalogue.sqlite")
        try:
            self.index = Index(self.database)
            self.room = Room(*self.index.totals(), bytes_max)
            self.committer = Committer(
                fs=fs, index=self.index, folder=folder, room=self.room, clock=clock
            )
            self.partials = Partials(self.committer.staging, fs, self.room)
            with store_errors(folder):
                if not self.committer.artifacts.is_dir():
                    make_shelves(fs, self.committer.artifacts)
                fs.make_folder(self.committer.staging)
            recover(self.committer)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Store in {self.folder}>"

    def close(self) -> None:
        """Close the catalogue, unless it was given; twice does no harm."""
        if self._own_database:
            self.database.close()

    def add(
        self,
        path: Path,
        progress: Progress | None = None,
        *,
        algorithms: Iterable[str] = ALGORITHM_BYTES,
    ) -> Artifact:
        """Copy a file into the store and return its artifact.

        Later changes of `path` do not matter. The same content twice is one
        artifact. Of its digests, those of `algorithms` are computed at once, SHA-256
        among them. Raises StoreError, also where the file changes meanwhile.
        """

        def report(done: int, total: int | None) -> None:
            self.activity.mark()
            if progress is not None:
                progress(done, total)

        source = integrity.open_regular(path)
        try:
            self.room.check(os.fstat(source).st_size)
            with self.committer.staged() as (temporary, descriptor):
                contents = integrity.copy_in(
                    self.fs,
                    source=source,
                    target=descriptor,
                    path=path,
                    folder=self.folder,
                    progress=report,
                    algorithms=algorithms,
                )
                return self.commit(temporary, descriptor, contents)
        finally:
            os.close(source)

    def add_many(
        self, paths: Sequence[Path], progress: Progress | None = None
    ) -> list[Artifact | StoreError]:
        """Copy files into the store; each ends as an artifact or an error.

        Small ones are committed in groups, so a thousand of them need few syncs. While
        one group waits for its commit, the next is read. `progress(done, total)` counts
        files.
        """
        outcomes: list[Artifact | StoreError] = []
        size = GROUP_ARTIFACTS_MAX
        groups = [paths[start : start + size] for start in range(0, len(paths), size)]
        with ThreadPoolExecutor(_GROUPS_AT_ONCE, "caravan-add") as pool:
            self.activity.mark()
            for done in pool.map(self._add_group_of, groups):
                outcomes += done
                self.activity.mark()
                if progress is not None:
                    progress(len(outcomes), len(paths))
        return outcomes

    def _add_group_of(self, paths: Sequence[Path]) -> list[Artifact | StoreError]:
        small: dict[Path, tuple[bytes, Contents]] = {}
        outcomes: dict[Path, Artifact | StoreError] = {}
        for path in paths:
            try:
                data = integrity.read_small(path, EAGER_BYTES_MAX)
            except StoreError as error:
                outcomes[path] = error
                continue
            if data is not None:
                with ContentsHasher(len(data)) as hasher:
                    hasher.update(data)
                    small[path] = data, hasher.contents()
        try:
            artifacts = self.add_group(list(small.values()))
            outcomes |= zip(small, artifacts, strict=True)
        except StoreError:
            pass  # each gets an error, or room, of its own
        for path in paths:
            if path not in outcomes:
                try:
                    # The aliases of what is not small follow when nobody waits.
                    outcomes[path] = self.add(path, algorithms=(NAME_ALGORITHM,))
                except StoreError as error:
                    outcomes[path] = error
        return [outcomes[path] for path in paths]

    def add_bytes(self, data: bytes) -> Artifact:
        """Put bytes that are in memory into the store."""
        with ContentsHasher(len(data)) as hasher:
            hasher.update(data)
            return self.add_verified(data, hasher.contents())

    def add_verified(self, data: bytes, contents: Contents) -> Artifact:
        """Put bytes into the store whose contents have been computed already."""
        if held := self.find(contents.name):
            return held
        return self.add_group([(data, contents)])[0]

    def add_group(self, entries: Sequence[tuple[bytes, Contents]]) -> list[Artifact]:
        """Put several small artifacts into the store with one transaction.

        All of them or, with StoreError, none are listed.
        """
        with CommitGroup(self.committer) as group:
            for data, contents in entries:
                group.add(data, contents)
            return group.commit()

    def commit(self, temporary: Path, descriptor: int, contents: Contents) -> Artifact:
        """Make a verified file of `partial/` an artifact of the store."""
        return self.committer.commit([Staged(temporary, descriptor, contents)])[0]

    def find(self, digest: Digest) -> Artifact | None:
        """Return the artifact that `digest`, of any algorithm, names, or None."""
        return self.index.find(digest)

    async def find_soon(self, digest: Digest) -> Artifact | None:
        """Return the same on an event loop, which goes on meanwhile.

        What was found is remembered until anything is deleted.
        """
        if digest.algorithm == NAME_ALGORITHM and not self.index.may_hold(digest.raw):
            return None
        deletions = self.index.deletions
        if self._found_before != deletions or len(self._found) >= FOUND_MAX:
            self._found.clear()
            self._found_before = deletions
        if (known := self._found.get(digest)) is not None:
            return known
        found = self.database.submit_read(lambda: self.find(digest))
        held = await asyncio.wrap_future(found)
        if held is not None and deletions == self.index.deletions:
            self._found[digest] = held
        if held is not None or digest.algorithm == NAME_ALGORITHM:
            return held
        return await asyncio.to_thread(self.find_pending, digest)

    def find_pending(self, digest: Digest) -> Artifact | None:
        """Return what `digest` names, also by an alias that is not computed yet."""
        held = self.find(digest)
        if held is not None or digest.algorithm == NAME_ALGORITHM:
            return held
        for name in self.index.lacking(digest.algorithm):
            try:
                artifact = self.with_aliases(name)
            except (NotHeldError, DamagedError):
                continue
            except StoreError:
                return None  # aliases cannot be noted: the disk is full
            if digest in artifact.digests:
                return artifact
        return None

    def find_many(self, algorithm: str, raws: Sequence[bytes]) -> dict[bytes, Artifact]:
        """Return the artifacts that these digests name, by digest; for few at once."""
        return self.index.find_many(algorithm, raws)

    def artifacts(self) -> list[Artifact]:
        """Return all artifacts, the oldest first."""
        return self.index.artifacts()

    def page(self, after: bytes, count: int) -> list[Artifact]:
        """Return the artifacts that follow a SHA-256, in order; none at the end."""
        return self.index.page(after, count)

    @property
    def count(self) -> int:
        """The number of artifacts."""
        return self.room.count

    @property
    def bytes_held(self) -> int:
        """The sizes of all artifacts together, in bytes."""
        return self.room.held

    def path(self, artifact: Artifact) -> Path:
        """Return where the artifact lies; do not write there."""
        return Path(self.committer.place_of(artifact.digest))

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

    def read_small(self, artifact: Artifact) -> bytes:
        """Return the same of an artifact of one chunk, with one opening and reading.

        It is hashed only if its file was not checked since the node started.
        """
        name = artifact.digest
        with contextlib.suppress(OSError):
            descriptor = os.open(
                self.committer.place_of(name), os.O_RDONLY | os.O_CLOEXEC
            )
            try:
                signature = integrity.signature_of(descriptor)
                data = os.pread(descriptor, artifact.size + 1, 0)
            finally:
                os.close(descriptor)
            if len(data) == artifact.size:
                if self.committer.is_trusted(name, signature):
                    return data
                if Digest.of(data, NAME_ALGORITHM) == name:
                    self.committer.trust(name, signature)
                    return data
        return self.read(artifact)  # which finds out what is wrong, and acts on it

    def export(self, artifact: Artifact, target: Path) -> None:
        """Write a verified copy to `target`, replacing it atomically."""
        descriptor = self.open_checked(artifact)
        # Of its own, for the target's may be as long as a name can be.
        fresh = target.with_name(f".caravan-{secrets.token_hex(8)}.part")
        try:
            with store_errors(target):
                integrity.copy_out(
                    self.fs,
                    source=descriptor,
                    size=artifact.size,
                    fresh=fresh,
                    target=target,
                )
        finally:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                self.fs.remove(fresh)

    def remove(self, digest: Digest) -> None:
        """Remove an artifact; open descriptors go on reading it."""
        artifact = self.find(digest)
        if artifact is None:
            raise NotHeldError
        self.committer.remove(artifact)

    def set_private(self, artifact: Artifact, *, private: bool) -> None:
        """Let only the owner of the node read the file, or everybody again."""
        self.committer.set_private(artifact, private=private)

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
            signature = integrity.signature_of(descriptor)
            sound = integrity.has_digest(descriptor, artifact, progress)
            return self._checked(artifact, descriptor, signature, sound=sound)
        finally:
            os.close(descriptor)

    def check_chunk(self, artifact: Artifact, index: int) -> bool:
        """Hash one chunk; False, and all of it quarantined, where it is damaged."""
        manifest = self.manifest(artifact)
        if index >= manifest.count:
            return True
        descriptor = self._open(artifact)
        try:
            length = manifest.length(index)
            data = os.pread(descriptor, length, manifest.offset(index))
            if chunk_digest(data) == manifest.chunk(index):
                return True
            self.quarantine(artifact, descriptor)
        except OSError:
            self.quarantine(artifact, descriptor)
        finally:
            os.close(descriptor)
        return False

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
            signature = integrity.signature_of(descriptor)
            if self.committer.is_trusted(artifact.digest, signature):
                return descriptor
            manifest = self.index.manifest(artifact.manifest_digest)
            sound = integrity.matches_manifest(
                descriptor, artifact, manifest=manifest, stop=stop
            )
            if not self._checked(artifact, descriptor, signature, sound=sound):
                raise DamagedError  # noqa: TRY301 (the descriptor is closed below)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def distrust(self, name: Digest) -> None:
        """Have the artifact checked when it is opened next."""
        self.committer.distrust(name)

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
        self,
        digest: Digest,
        stop: threading.Event | None = None,
        pauses: Pauses | None = None,
    ) -> Artifact:
        """Return the artifact with all aliases, computing those not yet known.

        With `pauses` it takes them, until somebody else wants the same.
        """
        artifact = self.find(digest)
        if artifact is None:
            raise NotHeldError
        # One thread computes what several ask for.
        with self._alias_locks.hold(artifact.digest):
            return self._with_aliases(artifact.digest, stop, pauses)

    def _with_aliases(
        self, digest: Digest, stop: threading.Event | None, pauses: Pauses | None
    ) -> Artifact:
        def pause() -> None:
            if pauses is not None:
                pauses.pause(lambda: self._alias_locks.is_awaited(digest))

        artifact = self.find(digest)
        if artifact is None:
            raise NotHeldError
        if artifact.has_all_aliases:
            return artifact
        lacking = [name for name in ALIAS_ALGORITHMS if name not in artifact.aliases]
        descriptor = self.open_checked(artifact, stop)
        try:
            aliases = digests_of(
                descriptor, artifact.size, lacking, stop=stop, pause=pause
            )
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
        if self.committer.quarantine(artifact, descriptor):
            self._report_loss(artifact)

    def _open(self, artifact: Artifact) -> int:
        try:
            return os.open(self.path(artifact), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if self.committer.drop_lost(artifact):
                self._report_loss(artifact)
            raise NotHeldError from error
        except OSError:
            with store_errors(self.path(artifact)):
                raise

    def _report_loss(self, artifact: Artifact) -> None:
        if self.on_quarantine is not None:
            self.on_quarantine(artifact)

    def _checked(
        self, artifact: Artifact, descriptor: int, signature: Signature, *, sound: bool
    ) -> bool:
        """Act on the outcome of a check, and return it."""
        if not sound:
            self.quarantine(artifact, descriptor)
            return False
        self.committer.trust(artifact.digest, signature)
        # When it was checked is good to know, and no reason to fail on a full disk:
        # what is held can be read and served without writing anything.
        with contextlib.suppress(StoreError):
            self.index.set_checked(artifact.digest, self.clock())
        return True
