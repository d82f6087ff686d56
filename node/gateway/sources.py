"""Where files come from: peers and origins, raced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TypeVar

from node.content.router import ANNOUNCED_ALGORITHMS, ContentRouter
from node.gateway import limits
from node.gateway.bounded import BoundedCache, RecentKeys
from node.gateway.in_flight import InFlightFile
from node.gateway.named_file import NamedFile
from node.gateway.origin import (
    MissingError,
    OriginClient,
    OriginError,
    OriginFile,
)
from node.gateway.retry import pause_before_retry
from node.gateway.traffic import SourceName
from node.gateway.upstream import Upstream
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
from transfer.growing_file import GrowingFile
from transfer.store.partial import Partial

log = logging.getLogger(__name__)

T = TypeVar("T")


class SourceError(Exception):
    """No source could give the file; the message is one sentence."""

    def __init__(self, message: str, cause: OriginError | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        """What the origin answered, where one was asked."""


class Sources:
    """Fetches from peers and origins into the store."""

    def __init__(
        self,
        *,
        store: Store,
        leecher: Leecher,
        router: ContentRouter,
        client: OriginClient,
        upstreams: Upstreams,
        silence: Callable[[Digest, str], None],
        weak_digests: bool,
    ) -> None:
        self._store = store
        self._silence = silence
        self._leecher = leecher
        self._router = router
        self._client = client
        self._upstreams = upstreams
        self._algorithms = {*ANNOUNCED_ALGORITHMS}
        if weak_digests:
            self._algorithms |= {"md5", "sha1"}
        self._lookup_missed: RecentKeys[str] = RecentKeys(limits.LOOKUP_MISS_SECONDS)
        self._gave: BoundedCache[Digest, list[SourceEntry]] = BoundedCache(
            limits.SOURCES_REMEMBERED_MAX
        )

    async def race(self, file: InFlightFile) -> Artifact:
        """Return the file from the source that delivers it first; SourceError."""
        tasks: list[asyncio.Task[Artifact]] = []
        if self._may_ask_peers(file.digest, file.named):
            tasks.append(asyncio.create_task(self._from_peers(file)))
        peers = tasks[0] if tasks else None
        if file.named:
            tasks.append(asyncio.create_task(self._from_origin(file, peers)))
        if not tasks:
            raise SourceError("it is not held, and its digest is too weak to be looked "
                              "up among strangers")  # fmt: skip
        try:
            return await _first(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(self._tidy, file)

    def _tidy(self, file: InFlightFile) -> None:
        """Remove what peers have sent of a file that the origin delivered first."""
        if self._store.find(file.digest) is not None:
            with contextlib.suppress(OSError):
                self._store.partials.forget(file.digest)

    def sources_of(self, artifact: Artifact) -> list[SourceEntry]:
        """Return who gave the bytes of an artifact, if it came a short while ago."""
        return self._gave.get(artifact.digest) or []

    def source_of(self, artifact: Artifact) -> SourceName:
        """Return from where an artifact came, if that was a short while ago."""
        gave = self.sources_of(artifact)
        if not gave:
            return "store"
        names = self._upstreams.names
        return "origin" if all(one.address in names for one in gave) else "peers"

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
                contextlib.aclosing(self._router.peers(digest)) as peers,
            ):
                async for _ in peers:
                    count += 1
        return count

    def _may_ask_peers(self, digest: Digest, named: Sequence[NamedFile]) -> bool:
        """Tell whether strangers may learn of this digest, and may be believed."""
        return digest.algorithm in self._algorithms and not self.is_private(named)

    # --- peers -----------------------------------------------------------------------

    async def _from_peers(self, file: InFlightFile) -> Artifact:
        watch = _PeersWatch(self._store, file)
        try:
            async with contextlib.aclosing(self._router.peers(file.digest)) as peers:
                done = await self._leecher.download(
                    file.digest,
                    peers,
                    size=file.size,
                    on_progress=watch.report,
                    in_order=True,
                )
        except NoPeerError as error:
            for one in file.named:
                self._lookup_missed.add(one.upstream, file.now())
            raise SourceError("nobody offers it") from error
        except TransferError as error:
            raise SourceError(f"peers failed: {error}") from error
        finally:
            watch.end()
        for one in file.named:
            self._lookup_missed.discard(one.upstream)
        gave = [
            SourceEntry(address=str(one.peer), bytes=one.bytes) for one in done.sources
        ]
        self._gave.put(done.artifact.digest, gave)
        return done.artifact

    # --- origins ---------------------------------------------------------------------

    async def _from_origin(
        self, file: InFlightFile, peers: asyncio.Task[Artifact] | None
    ) -> Artifact:
        if peers is not None:
            await self._head_start(file, peers)
        reasons: list[str] = []
        cause: OriginError | None = None
        for one in file.named:
            try:
                return await self._fetch(file, one)
            except OriginError as error:
                # What may pass says more than an origin that has no such file.
                if cause is None or isinstance(cause, MissingError):
                    cause = error
                reasons.append(f"{one.upstream}: {error}")
            except TransferError as error:
                reasons.append(f"{one.upstream}: {error}")
            log.info(
                "the origin of %s failed: %s", one.file or file.digest, reasons[-1]
            )
        raise SourceError("; ".join(reasons), cause)

    async def _head_start(
        self, file: InFlightFile, peers: asyncio.Task[Artifact]
    ) -> None:
        """Let peers begin alone, and go on alone where they are nearly done."""
        now = file.now()
        if any(self._lookup_missed.has(one.upstream, now) for one in file.named):
            return
        await asyncio.wait({peers}, timeout=limits.HEAD_START_SECONDS)
        if peers.done() or not file.size or not file.bytes_seen:
            return
        elapsed = file.now() - now
        left = elapsed * (file.size - file.bytes_seen) / file.bytes_seen
        if left <= limits.ABOUT_DONE_SECONDS:
            await asyncio.wait({peers}, timeout=limits.ABOUT_DONE_SECONDS)

    async def _fetch(self, file: InFlightFile, named: NamedFile) -> Artifact:
        """Download from one origin and verify; OriginError or TransferError."""
        upstream = self._upstreams.get(named.upstream)
        if upstream is None:
            raise OriginError("its upstream is no longer configured")
        intake = _OriginIntake(self._store, file, {named.strong, file.digest})
        try:
            await self._take_in(intake, upstream, named)
            name = await _in_thread(intake.opened.verify)
            if self.is_private(file.named):
                # Before the commit, which asks whether others may read the file.
                self._silence(name, named.file.rpartition("/")[2])
            artifact = await _in_thread(intake.opened.commit)
            intake.finish()
        finally:
            intake.close()
        gave = SourceEntry(address=named.upstream, bytes=artifact.size)
        self._gave.put(artifact.digest, [gave])
        return artifact

    async def _take_in(
        self, intake: _OriginIntake, upstream: Upstream, named: NamedFile
    ) -> None:
        """Download, going on from what has come where the origin fails for a moment."""
        attempt = 0
        while True:
            had = intake.length
            attempt += 1
            try:
                async with self._client.file(upstream, named.url, had) as reply:
                    await intake.take(reply)
            except OriginError as error:
                if intake.length > had:
                    attempt = 1  # what makes progress is not given up
                wait = pause_before_retry(error, attempt)
                if wait is None or attempt >= limits.ORIGIN_ATTEMPTS:
                    raise
                log.info("%s is asked for again: %s", named.file, error)
                await asyncio.sleep(wait)
            else:
                return


class _OriginIntake:
    """A file that comes from an origin, in one piece or several."""

    def __init__(self, store: Store, file: InFlightFile, expected: set[Digest]) -> None:
        self._store = store
        self._file = file
        self._expected = expected
        self._intake: Intake | None = None
        self._coming: GrowingFile | None = None

    @property
    def length(self) -> int:
        """How many bytes have come."""
        return 0 if self._intake is None else self._intake.length

    @property
    def opened(self) -> Intake:
        """Where the bytes are; only once some have come."""
        if self._intake is None:
            raise OriginError("it sent nothing")
        return self._intake

    async def take(self, reply: OriginFile) -> None:
        """Take in what an origin sends; OriginError, TransferError."""
        if self._intake is None:
            await self._open(reply.size)
        intake = self.opened
        skip = intake.length - reply.start
        if skip < 0:
            raise OriginError("it sent another part than was asked for")
        async for block in _blocks(reply.parts()):
            fresh, skip = block[skip:], max(0, skip - len(block))
            if fresh:
                await _in_thread(partial(intake.write, fresh))
                self._file.seen(intake.length)
                if self._coming is not None:
                    self._file.progress(
                        self._coming,
                        intake.length,
                        source="origin",
                        has_known_size=True,
                    )

    async def _open(self, size: int | None) -> None:
        if size is not None and size > limits.FILE_BYTES_MAX:
            raise OriginError("the file is too large")
        intake = Intake(self._store, self._expected, size)
        await asyncio.to_thread(intake.__enter__)
        self._intake = intake
        if size:
            self._coming = GrowingFile(intake.descriptor, size)

    def finish(self) -> None:
        """Let all of it be read: it was verified."""
        if self._coming is not None:
            self._coming.finish()

    def close(self) -> None:
        """Let go of the file; what was not committed is gone."""
        if self._coming is not None:
            self._coming.fail()
        if self._intake is not None:
            self._intake.__exit__(None, None, None)


class _PeersWatch:
    """Follows the verified start of a download from peers, for those who stream it.

    It is verified against a manifest for which only peers vouch, so it may turn out
    wrong with the whole, and the end is held back. The length in that manifest is
    known only where the index says the same. Where there is an origin, which knows
    the length, nothing is passed on from peers that name another one.
    """

    def __init__(self, store: Store, file: InFlightFile) -> None:
        self._store = store
        self._file = file
        self._coming: GrowingFile | None = None
        self._partial: Partial | None = None

    def report(self, done: int, total: int | None) -> None:
        """Take in the progress of a download."""
        self._file.seen(done)
        partial = self._store.partials.under_way(self._file.digest)
        if partial is None or partial.descriptor < 0:
            return
        is_known = total is not None and total == self._file.size
        if total is None or (self._file.named and not is_known):
            return
        if self._coming is None or self._partial is not partial:
            # Another manifest leads now, and its file has other bytes.
            self.end()
            self._partial = partial
            self._coming = GrowingFile(partial.descriptor, total)
        length = partial.prefix_bytes()
        self._file.progress(
            self._coming, length, source="peers", has_known_size=is_known
        )

    def end(self) -> None:
        """Say that nothing more comes from peers."""
        if self._coming is not None:
            self._coming.fail()


async def _blocks(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Join small parts into blocks that are worth a thread's while.

    Where the parts end with an error, what came before it is yielded first.
    """
    waiting: list[bytes] = []
    count = 0
    failed: OriginError | None = None
    try:
        async for part in parts:
            waiting.append(part)
            count += len(part)
            if count >= limits.WRITE_BYTES // 4:
                yield b"".join(waiting)
                waiting, count = [], 0
    except OriginError as error:
        failed = error
    if waiting:
        yield b"".join(waiting)
    if failed is not None:
        raise failed


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
    cause: OriginError | None = None
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            error = task.exception()
            if error is None:
                return task.result()
            if isinstance(error, SourceError):
                cause = cause or error.cause
            else:
                log.error("a source failed unexpectedly", exc_info=error)
            reasons.append(str(error) or type(error).__name__)
    raise SourceError("; ".join(reasons), cause)
