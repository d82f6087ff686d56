"""Partial files: downloads under way, and which of their chunks are verified.

Nothing is synced while a download runs, and no list of verified chunks is kept
on disk: on resuming, every chunk is hashed against the manifest that lies
beside the data, which costs less and also finds what a power loss forgot.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from typing import TYPE_CHECKING

from transfer.content import bitmap
from transfer.content.hashing import sound_chunks
from transfer.content.manifest import Manifest
from transfer.store.fs import Fs, store_errors

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed import ReadableBuffer

    from transfer.content.digest import Digest
    from transfer.store.room import Room


class Partial:
    """The file of one download, shared with the seeder that offers it on."""

    def __init__(self, path: Path, digest: Digest, *, fs: Fs, room: Room) -> None:
        self.digest = digest
        self._room = room
        self.path = path
        self.manifest: Manifest | None = None
        self.version = 0
        """Grows with every change of what is verified."""
        self._fs = fs
        self._lock = threading.Lock()
        self._verified = bytearray()
        with store_errors(self.path):
            exists = self.path.exists()
            self.descriptor = fs.reopen(self.path) if exists else fs.create(self.path)
            fs.set_private(self.descriptor, private=True)

    @staticmethod
    def path_in(folder: Path, digest: Digest) -> Path:
        """Return where the bytes of a download of `digest` lie."""
        return folder / f"{digest.algorithm}-{digest.hex}.data"

    @property
    def _manifest_path(self) -> Path:
        return self.path.with_suffix(".manifest")

    def resume(self, stop: threading.Event) -> int:
        """Resume what an earlier run left; return how many chunks are sound."""
        try:
            manifest = Manifest.decode(self._manifest_path.read_bytes())
        except (OSError, ValueError):
            return 0
        with store_errors(self.path):
            verified = sound_chunks(self.descriptor, manifest, stop)
        with self._lock:
            self.manifest = manifest
            self._verified = verified
            self.version += 1
        return verified.count(1)

    def adopt(self, manifest: Manifest) -> bytearray:
        """Switch to another manifest; return which chunks stay verified.

        Chunks that both manifests name alike, at the same place, are kept.
        """
        with self._lock:
            kept = bytearray(manifest.count)
            old = self.manifest
            if old is not None and old.chunk_size == manifest.chunk_size:
                for index in range(min(old.count, manifest.count)):
                    alike = old.chunk(index) == manifest.chunk(index)
                    kept[index] = alike and self._verified[index]
            self.manifest = manifest
            self._verified = kept
            self.version += 1
        return bytearray(kept)

    def cut(self, size: int) -> None:
        """Give the file exactly this size; it has grown with its chunks alone."""
        with store_errors(self.path):
            if os.fstat(self.descriptor).st_size != size:
                self._fs.set_length(self.descriptor, size)

    def recheck(self, stop: threading.Event) -> bytearray:
        """Hash the file against its manifest again; return what is sound."""
        if self.manifest is None:
            return bytearray()
        with store_errors(self.path):
            verified = sound_chunks(self.descriptor, self.manifest, stop)
        with self._lock:
            self._verified = verified
            self.version += 1
        return bytearray(verified)

    def write(self, offset: int, data: ReadableBuffer) -> None:
        """Write bytes that are not yet, or already, verified."""
        self._room.make_disk_room(memoryview(data).nbytes)
        with store_errors(self.path):
            self._fs.write(self.descriptor, data, offset)

    def mark(self, index: int) -> None:
        """Mark the chunk at `index` as verified and written."""
        with self._lock:
            self._verified[index] = 1
            self.version += 1

    def verified(self) -> bytearray:
        """Return, for each chunk, 1 where it is verified."""
        with self._lock:
            return bytearray(self._verified)

    def have(self, manifest_digest: bytes) -> bytes | None:
        """Return the wire's bitmap, or None where the manifest is another."""
        with self._lock:
            if self.manifest is None or self.manifest.digest != manifest_digest:
                return None
            return bitmap.pack(self._verified)

    def has(self, manifest_digest: bytes, index: int) -> bool:
        """Whether that manifest's chunk at `index` is verified."""
        with self._lock:
            return (
                self.manifest is not None
                and self.manifest.digest == manifest_digest
                and bool(self._verified[index])
            )

    def rename(self, path: Path) -> None:
        """Give the file another name in its folder."""
        with store_errors(self.path):
            self._fs.rename(self.path, path)
        self.path = path

    def close(self) -> None:
        """Close the file and leave it for a later run."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def discard(self) -> None:
        """Close the file and remove it with its manifest."""
        self.close()
        with store_errors(self.path):
            self._fs.remove(self.path)
            self._fs.remove(self._manifest_path)

    def forget_manifest(self) -> None:
        """Remove the manifest's file; the data file has moved into the store."""
        with contextlib.suppress(OSError):
            self._fs.remove(self._manifest_path)

    def save_manifest(self) -> None:
        """Write the manifest beside the file, for a later run."""
        manifest = self.manifest
        if manifest is None or manifest.count <= 1:
            return
        fresh = self._manifest_path.with_suffix(f".{secrets.token_hex(4)}.new")
        with store_errors(self.path):
            descriptor = self._fs.create(fresh)
            try:
                try:
                    self._fs.write(descriptor, manifest.encode(), 0)
                finally:
                    os.close(descriptor)
                self._fs.rename(fresh, self._manifest_path)
            except OSError:
                with contextlib.suppress(OSError):
                    self._fs.remove(fresh)
                raise


class Partials:
    """The downloads under way, by digest, shared with the seeder."""

    def __init__(self, folder: Path, fs: Fs, room: Room) -> None:
        self.folder = folder
        self._fs = fs
        self._room = room
        self._lock = threading.Lock()
        self._open: dict[Digest, Partial] = {}

    def begin(self, digest: Digest, *, rival: bool = False) -> Partial:
        """Open the file of a download; `end` closes it.

        A rival is a further file of the same download, which is shown to nobody and
        not left for a later run.
        """
        if rival:
            return Partial(self._fresh(), digest, fs=self._fs, room=self._room)
        path = Partial.path_in(self.folder, digest)
        partial = Partial(path, digest, fs=self._fs, room=self._room)
        with self._lock:
            self._open[digest] = partial
        return partial

    def swap(self, leading: Partial, rival: Partial) -> None:
        """Let a rival take the name of the leading file, and be shown instead."""
        with self._lock:
            place = leading.path
            leading.rename(self._fresh())
            rival.rename(place)
            self._open[rival.digest] = rival

    def _fresh(self) -> Path:
        return self.folder / f"rival-{secrets.token_hex(8)}.new"

    def exists(self, digest: Digest) -> bool:
        """Whether an earlier download left a file for this digest."""
        return Partial.path_in(self.folder, digest).exists()

    def end(self, partial: Partial, *, discard: bool = False) -> None:
        """Close a download's file: leave it for a later run, or remove it."""
        with self._lock:
            if self._open.get(partial.digest) is partial:
                del self._open[partial.digest]
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
        """Remove the files of a download, unless it is under way."""
        with self._lock:
            if digest in self._open:
                return
            path = Partial.path_in(self.folder, digest)
            for leftover in (path, path.with_suffix(".manifest")):
                self._fs.remove(leftover)
