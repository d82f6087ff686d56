"""Where files come from: peers and origins, raced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar

from node.content.router import ANNOUNCED_ALGORITHMS, ContentRouter
from node.gateway import limits
from node.gateway.growing_file import GrowingFile
from node.gateway.origin import OriginClient, OriginError, OriginFile
from node.gateway.page_cache import NamedFile
from node.gateway.upstreams import Upstreams
from node.results import SourceEntry
from transfer import (
    Artifact,
    Digest,
    Intake,
    Leecher,
    NoPeerError,
    Store,
    TransferError,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


class SourceError(Exception):
    """No source could give the file; the message is one sentence."""


class Job:
    """One download under way, for everybody who waits for it."""

    def __init__(
        self,
        digest: Digest,
        named: tuple[NamedFile, ...],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.digest = digest
        self.named = named
        self.loop = loop
        self.began = loop.time()
        self.waiting = 0
        self.bytes_seen = 0
        self.arrival: GrowingFile | None = None
        """What the source that came first has sent so far."""
        self.streamable = asyncio.Event()
        self.task: asyncio.Task[Artifact] | None = None

    @property
    def started(self) -> asyncio.Task[Artifact]:
        """The task that downloads."""
        if self.task is None:
            raise RuntimeError("a job is started where it is made")
        return self.task

    @property
    def streamed(self) -> GrowingFile | None:
        """What can be passed on while it still comes in, or None."""
        if self.arrival is None or not self.arrival.can_stream:
            return None
        return None if self.started.done() else self.arrival

    @property
    def size(self) -> int | None:
        """What a page says of its length, in bytes."""
        return next((one.size for one in self.named if one.size is not None), None)

    def now(self) -> float:
        """Return the loop's time, in seconds."""
        return self.loop.time()

    def progress(self, arrival: GrowingFile | None, length: int) -> None:
        """Note that a source has sent `length` bytes from the start on."""
        self.bytes_seen = max(self.bytes_seen, length)
        if arrival is None:
            return
        arrival.advance(length)
        if self.arrival is None and arrival.can_stream:
            self.arrival = arrival
            self.streamable.set()


class Sources:
    """Fetches from peers and origins into the store."""

    def __init__(
        self,
        store: Store,
        leecher: Leecher,
        provide: ContentRouter,
        client: OriginClient,
        upstreams: Upstreams,
        silence: Callable[[Digest, str], None],
        *,
        weak_digests: bool,
    ) -> None:
        self._store = store
        self._silence = silence
        self._leecher = leecher
        self._provide = provide
        self._client = client
        self._upstreams = upstreams
        self._algorithms = {*ANNOUNCED_ALGORITHMS}
        if weak_digests:
            self._algorithms |= {"md5", "sha1"}
        self._lookup_missed: dict[str, float] = {}
        self._gave: OrderedDict[Digest, list[SourceEntry]] = OrderedDict()

    async def race(self, job: Job) -> Artifact:
        """Return the file from whoever delivers it first; SourceError."""
        tasks: list[asyncio.Task[Artifact]] = []
        if self._may_ask_peers(job.digest, job.named):
            tasks.append(job.loop.create_task(self._from_peers(job)))
        peers = tasks[0] if tasks else None
        if job.named:
            tasks.append(job.loop.create_task(self._from_origin(job, peers)))
        if not tasks:
            raise SourceError("it is not held, and its digest is too weak to be looked "
                              "up among strangers")  # fmt: skip
        try:
            return await _first(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._tidy, job)

    def _tidy(self, job: Job) -> None:
        """Remove what peers have sent of a file that the origin delivered first."""
        if self._store.find(job.digest) is not None:
            with contextlib.suppress(OSError):
                self._store.partials.forget(job.digest)

    def sources_of(self, artifact: Artifact) -> list[SourceEntry]:
        """Return who gave the bytes of an artifact, if it came a short while ago."""
        return self._gave.get(artifact.digest, [])

    def _note(self, artifact: Artifact, sources: list[SourceEntry]) -> None:
        self._gave[artifact.digest] = sources
        while len(self._gave) > limits.SOURCES_REMEMBERED_MAX:
            self._gave.popitem(last=False)

    def is_private(self, named: Sequence[NamedFile]) -> bool:
        """Tell whether only private upstreams name a file."""
        return self._upstreams.are_private(one.upstream for one in named)

    async def providers(self, digest: Digest, named: Sequence[NamedFile]) -> int:
        """Count the peers that offer a file; none are asked where that is not right."""
        if not self._may_ask_peers(digest, named):
            return 0
        count = 0
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(limits.MISS_SECONDS_MAX / 2),
                contextlib.aclosing(self._provide.peers(digest)) as peers,
            ):
                async for _ in peers:
                    count += 1
        return count

    def _may_ask_peers(self, digest: Digest, named: Sequence[NamedFile]) -> bool:
        """Tell whether strangers may learn of this digest, and may be believed."""
        return digest.algorithm in self._algorithms and not self.is_private(named)

    # --- peers -----------------------------------------------------------------------

    async def _from_peers(self, job: Job) -> Artifact:
        watch = _PeersWatch(self._store, job)
        try:
            async with contextlib.aclosing(self._provide.peers(job.digest)) as peers:
                done = await self._leecher.download(
                    job.digest,
                    peers,
                    size=job.size,
                    on_progress=watch.report,
                    in_order=True,
                )
        except NoPeerError as error:
            for one in job.named:
                self._lookup_missed[one.upstream] = job.now()
            raise SourceError("nobody offers it") from error
        except TransferError as error:
            raise SourceError(f"peers failed: {error}") from error
        finally:
            watch.end()
        for one in job.named:
            self._lookup_missed.pop(one.upstream, None)
        gave = [
            SourceEntry(address=str(one.peer), bytes=one.bytes) for one in done.sources
        ]
        self._note(done.artifact, gave)
        return done.artifact

    # --- origins ---------------------------------------------------------------------

    async def _from_origin(
        self, job: Job, peers: asyncio.Task[Artifact] | None
    ) -> Artifact:
        if peers is not None:
            await self._head_start(job, peers)
        reasons: list[str] = []
        for one in job.named:
            try:
                return await self._fetch(job, one)
            except (OriginError, TransferError) as error:
                log.info("the origin of %s failed: %s", one.file or job.digest, error)
                reasons.append(f"{one.upstream}: {error}")
        raise SourceError("; ".join(reasons))

    async def _head_start(self, job: Job, peers: asyncio.Task[Artifact]) -> None:
        """Let peers begin alone, and go on alone where they are nearly done."""
        now = job.now()
        if any(
            now - self._lookup_missed.get(one.upstream, -limits.LOOKUP_MISS_SECONDS)
            < limits.LOOKUP_MISS_SECONDS
            for one in job.named
        ):
            return
        await asyncio.wait({peers}, timeout=limits.HEAD_START_SECONDS)
        if peers.done() or not job.size or not job.bytes_seen:
            return
        elapsed = job.now() - now
        left = elapsed * (job.size - job.bytes_seen) / job.bytes_seen
        if left <= limits.ABOUT_DONE_SECONDS:
            await asyncio.wait({peers}, timeout=limits.ABOUT_DONE_SECONDS)

    async def _fetch(self, job: Job, named: NamedFile) -> Artifact:
        """Download from one origin and verify; OriginError or TransferError."""
        if self._upstreams.get(named.upstream) is None:
            raise OriginError("its upstream is no longer configured")
        expected = {named.strong, job.digest}
        async with self._client.file(named.url) as file:
            size = named.size if named.size is not None else file.size
            if file.size is not None and file.size != size:
                raise OriginError("the origin's file has another length")
            if size is not None and size > limits.FILE_BYTES_MAX:
                raise OriginError("the file is too large")
            intake = Intake(self._store, expected, size)
            await asyncio.to_thread(intake.__enter__)
            try:
                await self._take_in(job, intake, file, size)
                name = await _in_thread(intake.verify)
                if self.is_private(job.named):
                    self._silence(name, named.file)
                artifact = await _in_thread(intake.commit)
            finally:
                intake.__exit__(None, None, None)
        self._note(artifact, [SourceEntry(address=named.upstream, bytes=artifact.size)])
        return artifact

    async def _take_in(
        self, job: Job, intake: Intake, file: OriginFile, size: int | None
    ) -> None:
        arrival = None if size is None else GrowingFile(size, intake.descriptor)
        try:
            async for block in _blocks(file.parts()):
                await _in_thread(partial(intake.write, block))
                job.progress(arrival, intake.length)
        finally:
            if arrival is not None:
                arrival.end()


class _PeersWatch:
    """Follows the verified start of a download from peers, for those who stream it.

    It is verified against a manifest for which only peers vouch, so it may turn out
    wrong with the whole; whoever passes it on holds the end back.
    """

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job
        self._arrival: GrowingFile | None = None

    def report(self, done: int, total: int | None) -> None:
        """Take in the progress of a download."""
        partial = self._store.partials.under_way(self._job.digest)
        if partial is None or total is None or partial.descriptor < 0:
            self._job.progress(None, done)
            return
        if self._arrival is None or self._arrival.size != total:
            self.end()
            self._arrival = GrowingFile(total, partial.descriptor)
        self._job.bytes_seen = max(self._job.bytes_seen, done)
        self._job.progress(self._arrival, partial.prefix_bytes())

    def end(self) -> None:
        """Say that nothing more comes from peers."""
        if self._arrival is not None:
            self._arrival.end()


async def _blocks(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join small parts into blocks that are worth a thread's while."""
    waiting: list[bytes] = []
    count = 0
    async for part in parts:
        waiting.append(part)
        count += len(part)
        if count >= limits.WRITE_BYTES // 4:
            yield b"".join(waiting)
            waiting, count = [], 0
    if waiting:
        yield b"".join(waiting)


async def _in_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread, and do not leave before it has ended."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait({future})
        raise


async def _first(tasks: list[asyncio.Task[Artifact]]) -> Artifact:
    """Return the first result; SourceError of all once none is left."""
    pending: set[asyncio.Task[Artifact]] = set(tasks)
    reasons: list[str] = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            if error is None:
                return task.result()
            if not isinstance(error, SourceError):
                log.error("a source failed unexpectedly", exc_info=error)
            reasons.append(str(error) or type(error).__name__)
    raise SourceError("; ".join(reasons))
