"""One download: peers send, the assembly puts together, until the artifact is whole.

It runs on the event loop and joins the parts: the swarm says whom to talk to, the
assembly what is held and what a whole file is. Here it is decided when to give up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from transfer.content.digest import NAME_ALGORITHM, Digest
from transfer.content.hashing import Contents
from transfer.content.manifest import Manifest
from transfer.errors import FalseManifestError, FullError, NoPeerError, WrongBytesError
from transfer.growing_file import GrowingFile
from transfer.leeching.assembly import Assembly
from transfer.leeching.outcome import WholeVerdict
from transfer.leeching.result import Downloaded, DownloadProgress, Source
from transfer.leeching.swarm import Swarm
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from transfer.connection.peer import Peer
    from transfer.content.artifact import Artifact
    from transfer.leeching.bans import Banned
    from transfer.leeching.contenders import Whole
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.prefix import PrefixHasher
    from transfer.leeching.wanted import Wanted

    T = TypeVar("T")
    Progress = Callable[[int, int | None], None]
    OnFile = Callable[[GrowingFile], None]

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.1


class Download:
    """One artifact on its way here."""

    def __init__(self, context: LeecherContext, wanted: Wanted, banned: Banned) -> None:
        self.banned = banned
        self._progress: list[Progress] = []
        self._on_file: list[OnFile] = []
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._limits = context.limits
        self._wanted = wanted
        self._assembly = Assembly(
            context,
            wanted,
            on_hashed=self._hashed_in_thread,
            on_rival_whole=self._rival_whole_in_thread,
        )
        self._swarm = Swarm(
            context=context,
            wanted=wanted,
            assembly=self._assembly,
            banned=banned,
            owner=self,
        )
        self._outcome: asyncio.Future[Artifact] = self._loop.create_future()
        self._file: GrowingFile | None = None
        self._file_lock = asyncio.Lock()
        """Held while contenders change, and while the whole is settled."""
        self._began = self._asking_since = time.monotonic()

    def add_peers(self, peers: Iterable[Peer] | AsyncIterator[Peer]) -> None:
        """Use these peers as well, as they come."""
        self._swarm.add(peers)

    def read_in_order(self) -> None:
        """Bring the lower chunks first from now on: somebody reads meanwhile."""
        self._assembly.prefer_order()

    def add_caller(
        self, banned: Banned, on_progress: Progress | None, on_file: OnFile | None
    ) -> None:
        """Inform one more caller, and heed what it has found out."""
        if banned is not self.banned:
            self.banned.update(banned)
            self._swarm.heed_bans()
        if on_progress is not None:
            self._progress.append(on_progress)
        if on_file is not None:
            self._on_file.append(on_file)
            if self._file is not None:
                on_file(self._file)

    def remove_caller(
        self, on_progress: Progress | None, on_file: OnFile | None
    ) -> None:
        """Inform a caller no more."""
        if on_progress is not None:
            self._progress.remove(on_progress)
        if on_file is not None:
            self._on_file.remove(on_file)

    def snapshot(self) -> DownloadProgress:
        """Return how far it is, and which peers gave how much."""
        progress = self._assembly.progress()
        done, total = (0, None) if progress is None else (progress[0], progress[2])
        given = self._swarm.given_so_far().most_common()
        sources = [Source(peer, count) for peer, count in given]
        return DownloadProgress(self._wanted.digest, done, total, sources)

    async def run(self) -> Downloaded:
        """Download; raises NoPeerError, WrongBytesError or StoreError."""
        artifact: Artifact | None = None
        try:
            self._swarm.spawn(self._watch())
            await self._resume()
            artifact = await self._outcome
        finally:
            await self._end(won=artifact is not None)
        self._report(artifact.size, artifact.size)
        sources = [
            Source(peer, count)
            for peer, count in self._swarm.bytes_given.most_common()
            if peer not in self.banned and (count or not artifact.size)
        ]
        return Downloaded(artifact, time.monotonic() - self._began, sources)

    async def _resume(self) -> None:
        """Take up what an earlier run left, before anybody is asked for a chunk."""
        async with self._file_lock:
            if self._context.store.partials.exists(self._wanted.digest):
                await self._in_thread(self._assembly.resume)
                self._publish_lead()
                self._asking_since = time.monotonic()

    async def _end(self, *, won: bool) -> None:
        """End all tasks and threads; what is on disk is kept for a later run.

        Where there is no room for the whole, its part goes as well.
        """
        if self._file is not None:
            self._file.finish() if won else self._file.fail(self._error())
        self._assembly.over.set()
        await self._swarm.end(gently=won)
        discard = won or isinstance(self._error(), FullError)
        await self._in_thread(lambda: self._assembly.close(discard=discard))
        self._outcome.cancel()

    def _error(self) -> Exception:
        error = None
        if self._outcome.done() and not self._outcome.cancelled():
            error = self._outcome.exception()
        return error if isinstance(error, Exception) else NoPeerError()

    def _win(self, artifact: Artifact) -> None:
        if not self._outcome.done():
            self._outcome.set_result(artifact)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._context.in_thread(work, self._assembly.over)

    # What the swarm needs of its owner.

    async def admit(self, manifest: Manifest) -> None:
        """Work on a manifest that a peer vouches for."""
        if self._assembly.knows(manifest):
            return
        async with self._file_lock:
            await self._in_thread(lambda: self._assembly.admit(manifest))
            self._publish_lead()

    async def commit_whole(self, peer: Peer, data: bytes) -> None:
        """Commit a small artifact that came without a manifest."""
        self._context.store.activity.mark()
        await asyncio.sleep(max(self._context.rate.reserve(len(data)), 0.0))
        digests = {
            name: Digest.of(data, name)
            for name in {NAME_ALGORITHM, self._wanted.digest.algorithm}
        }
        async with self._file_lock:
            if self._outcome.done():
                return
            contents = Contents(digests, Manifest.of(data))
            store = self._context.store
            artifact = await self._in_thread(lambda: store.add_verified(data, contents))
            self._swarm.bytes_given[peer] += len(data)
            self._win(artifact)

    def deserted(self) -> None:
        """Fail, since nobody is left who could send anything."""
        if self._assembly.is_complete or self._outcome.done():
            return
        progress = self._assembly.progress()
        if self.banned and (progress is None or not progress[0]):
            self.failed(WrongBytesError())
        else:
            self.failed(self._swarm.too_large or NoPeerError())

    def failed(self, error: BaseException) -> None:
        """End the download with an error."""
        if not self._outcome.done():
            self._outcome.set_exception(error)
            self._outcome.exception()  # seen, also where nobody waits any more

    # Progress.

    async def _watch(self) -> None:
        """Every 100 ms: snub slow peers, wake idle ones, detect stalls."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = time.monotonic()
            self._assembly.snub_slow(now)
            await self._reconsider()
            progress = self._assembly.progress()
            self._swarm.tend(now, 0 if progress is None else progress[0])
            if progress is not None:
                done, prefix, size = progress
                self._advance_file(prefix, size)
                self._report(done, size)
            self._give_up_if_stalled(now)

    def _give_up_if_stalled(self, now: float) -> None:
        """Fail if nothing comes: so soon at the start, and after the last bytes."""
        assembly, swarm, limits = self._assembly, self._swarm, self._limits
        if assembly.is_complete or self._file_lock.locked():
            return
        if not assembly.bytes_received:
            if now - self._asking_since > limits.patience_seconds:
                seconds = f"{limits.patience_seconds:g} s"
                why = "Peers are busy and sent" if swarm.is_busy else "Peers sent"
                self.failed(NoPeerError(f"{why} nothing within {seconds}."))
        elif now - max(assembly.bytes_at, swarm.met_at) > limits.stall_seconds:
            self.failed(NoPeerError("The peers that offer this stopped sending."))
        only_waiting = 0 < swarm.waiting == swarm.conversing
        if swarm.gathering or swarm.is_busy:
            return
        if only_waiting and now - swarm.met_at > limits.vouching_seconds:
            self.failed(NoPeerError("Nobody who could be reached has all of it."))

    def _report(self, done: int, total: int) -> None:
        for progress in list(self._progress):
            progress(done, total)

    def _publish_lead(self) -> None:
        """Tell the swarm which manifest leads, and readers which file grows."""
        manifest, partial = self._assembly.manifest, self._assembly.lead_file
        self._swarm.lead_changed(manifest)
        if not self._on_file or manifest is None or partial is None:
            return
        evidence = self._assembly.size_evidence()
        if self._file is not None:
            self._file.fail(FalseManifestError())
        self._file = GrowingFile(partial.descriptor, manifest.size, evidence)
        for on_file in list(self._on_file):
            on_file(self._file)

    def _advance_file(self, prefix: int, size: int) -> None:
        """Let readers go on; the end is held back until the whole is verified."""
        if self._on_file and self._file is None:
            self._publish_lead()
        if self._file is not None and self._file.size == size:
            self._file.evidence = self._assembly.size_evidence()
            self._file.advance(min(prefix, size - BUFFER_BYTES))

    # Contenders and the whole.

    def _rival_whole_in_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._rival_whole)

    def _rival_whole(self) -> None:
        if not self._outcome.done():
            self._swarm.spawn(self._reconsider())

    async def _reconsider(self) -> None:
        """Let another manifest lead if it should."""
        if self._assembly.better_lead() is None:
            return
        async with self._file_lock:
            manifest = self._assembly.better_lead()
            if manifest is not None and not self._outcome.done():
                await self._in_thread(lambda: self._assembly.promote(manifest))
                self._publish_lead()

    def _hashed_in_thread(self, hasher: PrefixHasher, whole: Whole) -> None:
        self._loop.call_soon_threadsafe(self._hashed, hasher, whole)

    def _hashed(self, hasher: PrefixHasher, whole: Whole) -> None:
        if not self._outcome.done():
            self._swarm.spawn(self._settle(hasher, whole))

    async def _settle(self, hasher: PrefixHasher, whole: Whole) -> None:
        """Let the assembly decide on the whole; end, or continue with other peers."""
        async with self._file_lock:
            if self._outcome.done() or not self._assembly.is_followed_by(hasher):
                return
            settled = await self._in_thread(lambda: self._assembly.settle(whole))
            for peer in settled.liars:
                self._swarm.ban(peer, FalseManifestError())
            if settled.artifact is not None:
                self._win(settled.artifact)
                return
            if settled.verdict is WholeVerdict.FALSE_MANIFEST:
                log.warning("a manifest of %s was false", self._wanted.digest)
                self._swarm.abort(settled.closing)
                self._publish_lead()
        self._swarm.wake_idle()
        if self._swarm.is_deserted:
            self.deserted()
