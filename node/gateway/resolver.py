"""The resolver: a file by its digest, from the store, from peers or from its origin.

Peers have a short head start; after it the origin runs beside them, and whoever
delivers first wins. Whatever the source, nothing counts before its digest holds. All
who ask for one file share one download.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from node.errors import NodeError
from node.gateway import limits
from node.gateway.growing_file import GrowingFile
from node.gateway.page_cache import NamedFile
from node.gateway.sources import Job, SourceError, Sources
from transfer import Artifact, Digest, Store, TransferError

log = logging.getLogger(__name__)


class MissError(NodeError):
    """Neither the peers nor the origin can give this now."""

    exit_code = 4


class OnItsWay:
    """A large file of which enough has come to begin passing it on; close it."""

    def __init__(self, resolver: Resolver, job: Job, arrival: GrowingFile) -> None:
        self.arrival = arrival
        self.strong = job.digest
        """What the whole must have; the last bytes are held back until it has."""
        self._resolver = resolver
        self._job = job
        job.waiting += 1

    async def whole(self) -> Artifact:
        """Wait for the verified whole; raises MissError."""
        await asyncio.wait({self._job.started})
        return self._resolver.outcome(self._job)

    def close(self) -> None:
        """Say that nobody here waits for it any more."""
        self._resolver.leave(self._job)


class Resolver:
    """Brings files by their digests."""

    def __init__(
        self,
        store: Store,
        sources: Sources,
        *,
        stream: bool,
        keep: Callable[[Artifact, Sequence[NamedFile]], None],
    ) -> None:
        self._store = store
        self._sources = sources
        self._stream = stream
        self._keep = keep
        self._jobs: dict[Digest, Job] = {}
        self._missed: dict[tuple[Digest, bool], float] = {}

    async def resolve(
        self, digest: Digest, named: Sequence[NamedFile] = ()
    ) -> Artifact:
        """Return the artifact that `digest` names, verified; MissError."""
        found = await self._open(digest, named, may_stream=False)
        if isinstance(found, OnItsWay):  # it was not asked for
            raise MissError
        return found

    async def open(
        self, digest: Digest, named: Sequence[NamedFile] = ()
    ) -> Artifact | OnItsWay:
        """Return the artifact, or a large one while it still comes in; MissError."""
        return await self._open(digest, named, may_stream=self._stream)

    def held(self, digest: Digest) -> Artifact | None:
        """Return the artifact if it is in the store."""
        return self._store.find(digest)

    async def close(self) -> None:
        """Cancel every download."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one request ---------------------------------------------------------------

    async def _open(
        self, digest: Digest, named: Sequence[NamedFile], *, may_stream: bool
    ) -> Artifact | OnItsWay:
        if (held := self._store.find(digest)) is not None:
            if named:
                self._keep(held, named)
            return held
        strong = named[0].strong if named else digest
        if (held := self._store.find(strong)) is not None:
            return await self._checked(held, digest, named)
        job = self._job(strong, named)
        job.waiting += 1
        try:
            await self._wait(job, may_stream=may_stream)
            # Whether a weak digest is right shows only in the whole.
            if may_stream and digest == job.digest and (arrival := job.streamed):
                return OnItsWay(self, job, arrival)
            await asyncio.wait({job.started})
            artifact = self.outcome(job)
        finally:
            self.leave(job)
        return await self._checked(artifact, digest, named)

    async def _wait(self, job: Job, *, may_stream: bool) -> None:
        """Wait for the end, for enough to stream, or until nothing has moved."""
        task = job.started
        waits: set[asyncio.Future[Any]] = {task}
        ready = asyncio.ensure_future(job.streamable.wait())
        if may_stream:
            waits.add(ready)
        try:
            patience = job.began + limits.MISS_SECONDS_MAX - job.now()
            await asyncio.wait(
                waits,
                timeout=max(0.0, patience),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if task.done() or (may_stream and job.streamable.is_set()):
                return
            if not job.bytes_seen:
                raise MissError(f"nobody has begun to send {job.digest} in time")
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()

    async def _checked(
        self, artifact: Artifact, digest: Digest, named: Sequence[NamedFile]
    ) -> Artifact:
        """Return the artifact if the digest that was asked for is its own too.

        A page may name a weak digest beside a strong one; that they belong to one
        file is only its word until the bytes have been hashed here.
        """
        if digest != artifact.digest and digest not in artifact.aliases.values():
            try:
                artifact = await asyncio.to_thread(
                    self._store.with_aliases, artifact.digest
                )
            except TransferError as error:
                raise MissError(str(error)) from error
            if digest not in artifact.digests:
                raise MissError(f"{digest} was named beside a digest of another file")
        if named:
            self._keep(artifact, named)
        return artifact

    def outcome(self, job: Job) -> Artifact:
        """Return what a download that has ended gave; MissError."""
        task = job.started
        if task.cancelled():
            raise MissError("the node is stopping")
        error = task.exception()
        if isinstance(error, SourceError):
            raise MissError(str(error)) from error
        if error is not None:
            raise error
        return task.result()

    # --- downloads under way ---------------------------------------------------------

    def _job(self, digest: Digest, named: Sequence[NamedFile]) -> Job:
        """Return the download of `digest`, a new one where there is none."""
        job = self._jobs.get(digest)
        if job is not None and (job.named or not named):
            return job
        loop = asyncio.get_running_loop()
        missed_at = self._missed.get((digest, bool(named)))
        if (
            missed_at is not None
            and loop.time() - missed_at < limits.MISS_REMEMBERED_SECONDS
        ):
            raise MissError(f"{digest} was not to be had a moment ago")
        if len(self._jobs) >= limits.DOWNLOADS_MAX:
            raise MissError("too many downloads are under way")
        job = Job(digest, tuple(named), loop)
        job.task = loop.create_task(self._sources.race(job))
        job.task.add_done_callback(lambda _: self._ended(job))
        self._jobs[digest] = job
        return job

    def leave(self, job: Job) -> None:
        """One who waited goes; without anybody, the download soon ends."""
        job.waiting -= 1
        if not job.waiting and not job.started.done():
            delay = limits.LINGER_SECONDS if job.bytes_seen else 0.0
            job.loop.call_later(delay, self._end_if_deserted, job)

    def _end_if_deserted(self, job: Job) -> None:
        if not job.waiting:
            job.started.cancel()

    def _ended(self, job: Job) -> None:
        if self._jobs.get(job.digest) is job:
            del self._jobs[job.digest]
        task = job.started
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._keep(task.result(), job.named)
        elif isinstance(error, SourceError):
            log.info("%s is not to be had: %s", job.digest, error)
            self._remember_miss(job)

    def _remember_miss(self, job: Job) -> None:
        now = job.now()
        self._missed = {
            key: at
            for key, at in self._missed.items()
            if now - at < limits.MISS_REMEMBERED_SECONDS
        }
        self._missed[job.digest, bool(job.named)] = now
