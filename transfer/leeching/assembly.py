"""Putting one artifact together: schedule, file and digest of the whole.

What is done on disk here blocks and belongs in a thread.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from transfer.content.digest import NAME_ALGORITHM, Digest
from transfer.content.hashing import Contents
from transfer.errors import FalseManifestError, StoreError
from transfer.leeching.chunk_receiver import ChunkReceiver, PeerRequest
from transfer.leeching.picker import ChunkPicker
from transfer.leeching.prefix import PrefixHasher

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from transfer.connection.peer import Peer
    from transfer.connection.rate_limit import RateLimiter
    from transfer.content.artifact import Artifact
    from transfer.content.manifest import Manifest
    from transfer.leeching.asking import Offered
    from transfer.leeching.peer_state import PeerState
    from transfer.limits import LeecherLimits
    from transfer.store.partial import Partial
    from transfer.store.store import Store

Whole = dict[str, Digest] | OSError


class Assembly:
    """The chunks of one download, from the first to the verified whole."""

    def __init__(
        self,
        store: Store,
        digest: Digest,
        limits: LeecherLimits,
        rate: RateLimiter,
        hash_pool: Executor,
        ended: Callable[[PrefixHasher, Whole], None],
        hear_pex: Callable[[Peer, bytes], None],
    ) -> None:
        self.schedule = ChunkPicker(limits)
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.chunk_at = time.monotonic()
        """When the last chunk was written."""
        self.partial: Partial | None = None
        self.hasher: PrefixHasher | None = None
        self._store = store
        self._digest = digest
        self._limits = limits
        self._rate = rate
        self._hash_pool = hash_pool
        self._ended = ended
        self._hear_pex = hear_pex
        self._prefix = 0

    def resume(self) -> Manifest | None:
        """Take up what an earlier run left; its manifest, or None. Blocks."""
        if not self._store.partials.exists(self._digest):
            return None
        partial = self._open()
        if not partial.resume(self.over) or partial.manifest is None:
            return None
        self._favour(partial.manifest, partial.verified())
        return partial.manifest

    def favour(self, manifest: Manifest) -> None:
        """Put the file together after this manifest from now on. Blocks.

        Raises StoreError, also where the store has no room for that much.
        """
        self._store.room.check(manifest.size)
        self._favour(manifest, self._open().adopt(manifest))

    def reception(self) -> ChunkReceiver:
        """Return what threads need to receive chunks."""
        return ChunkReceiver(
            self.schedule,
            self._open(),
            self.lock,
            self.over,
            self._rate,
            self._limits,
            self.advanced,
            lambda: self.hasher,
            self._hear_pex,
        )

    def join(self, offered: Offered) -> PeerRequest:
        """Take in a peer; FalseManifestError where its manifest proved false."""
        with self.lock:
            if offered.manifest.digest in self.schedule.false:
                raise FalseManifestError
            connection = offered.connection
            lane = self.schedule.join(
                connection.peer.source, offered.manifest, offered.have
            )
            lane.round_trip = connection.round_trip
        if offered.have is not None:
            self.meet_company()
        return PeerRequest(connection, lane, offered.number)

    def meet_company(self) -> None:
        """Learn that others download the same at this time."""
        with self.lock:
            self.schedule.meet_company()

    def advanced(self) -> None:
        """Let the whole file's digest follow the chunks from the first on."""
        self.chunk_at = time.monotonic()
        with self.lock:
            favoured, hasher = self.schedule.favoured, self.hasher
            before = self._prefix
            self._prefix = prefix = self.schedule.prefix(before)
        if favoured is None or hasher is None:
            return
        if prefix > before or prefix == favoured.count:
            hasher.advance(min(prefix * favoured.chunk_size, favoured.size))

    def commit(self, digests: dict[str, Digest]) -> Artifact:
        """Make the verified file an artifact of the store. Blocks."""
        partial = self._open()
        if partial.manifest is None:
            raise StoreError("There is nothing to commit.")
        contents = Contents(digests, partial.manifest)
        artifact = self._store.commit(partial.path, partial.descriptor, contents)
        partial.forget_manifest()
        return artifact

    def recheck(self) -> bool:
        """Look whether the disk gave back what was written. Blocks.

        False where chunks were damaged here: they are missing again, and no
        peer is to blame.
        """
        partial = self._open()
        sound = partial.recheck(self.over)
        if all(sound) or partial.manifest is None:
            return True
        self._favour(partial.manifest, sound)
        return False

    def reject(self) -> list[PeerState]:
        """Learn that the favoured manifest is false; lanes to be closed."""
        with self.lock:
            return self.schedule.reject_favoured()

    def next_manifest(self) -> Manifest | None:
        """Return the manifest to go on with, or None until one is named."""
        with self.lock:
            manifest = self.schedule.candidate(time.monotonic())
            if manifest is None:
                self.schedule.unfavour()
            return manifest

    def close(self, *, discard: bool) -> None:
        """Close the file, and remove it where it is of no more use. Blocks."""
        if self.hasher is not None:
            self.hasher.stop()
        if self.partial is not None:
            self._store.partials.end(self.partial, discard=discard)
            self.partial = None

    def _open(self) -> Partial:
        if self.partial is None:
            self.partial = self._store.partials.begin(self._digest)
        return self.partial

    def _favour(self, manifest: Manifest, done: bytearray) -> None:
        if self.hasher is not None:
            self.hasher.stop()
        hasher = PrefixHasher(
            self._open().descriptor,
            manifest.size,
            (NAME_ALGORITHM, self._digest.algorithm),
            self._hash_pool,
            self._ended,
        )
        with self.lock:
            self.schedule.favour(manifest, done)
            self.hasher = hasher
            self._prefix = 0
        self.advanced()
