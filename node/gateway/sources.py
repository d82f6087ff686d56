"""Where files come from: peers and origins, raced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence

from node.content.router import ANNOUNCED_ALGORITHMS, ContentRouter
from node.gateway import limits
from node.gateway.bounded import BoundedCache, RecentKeys
from node.gateway.fair_line import FairLine
from node.gateway.in_flight import InFlightFile
from node.gateway.leases import OriginLeases, Turn
from node.gateway.named_file import NamedFile
from node.gateway.origin import (
    MissingError,
    NotKeptError,
    OriginClient,
    OriginError,
)
from node.gateway.origin_fetch import OriginFetch
from node.gateway.origin_pace import OriginPace
from node.gateway.traffic import SourceName
from node.gateway.upstreams import Upstreams
from node.results import SourceEntry
from transfer import (
    Artifact,
    Digest,
    Downloaded,
    Leecher,
    NoPeerError,
    Store,
    StoreError,
    TransferError,
    WrongBytesError,
)
from transfer.growing_file import GrowingFile, SizeEvidence

log = logging.getLogger(__name__)


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
        leases: OriginLeases | None,
        pace: OriginPace,
        weak_digests: bool,
    ) -> None:
        self._store = store
        self._silence = silence
        self._leases = leases
        self._pace = pace
        self._line = FairLine(limits.FILES_FROM_ORIGINS_MAX)
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
        leases = self._leases
        may_ask_peers = self._may_ask_peers(file.digest, file.named)
        if file.named and may_ask_peers and leases is not None and leases.is_on:
            return await self._race_together(file, leases)
        tasks: list[asyncio.Task[Artifact]] = []
        if may_ask_peers:
            tasks.append(asyncio.create_task(self._from_peers(file)))
        peers = tasks[0] if tasks else None
        if file.named:
            tasks.append(asyncio.create_task(self._from_origin(file, peers)))
        if not tasks:
            raise SourceError("it is not held, and its digest is too weak to be looked "
                              "up among strangers")  # fmt: skip
        return await self._first(file, tasks)

    async def _race_together(
        self, file: InFlightFile, leases: OriginLeases
    ) -> Artifact:
        """Ask the peers, and the origin once for all nodes of the site."""
        with leases.turn(file.digest.algorithm, file.digest.raw) as turn:
            peers = asyncio.create_task(self._from_peers(file, turn))
            origin = asyncio.create_task(self._from_site(file, peers, turn))
            return await self._first(file, [peers, origin])

    async def _first(
        self, file: InFlightFile, tasks: list[asyncio.Task[Artifact]]
    ) -> Artifact:
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

    async def _from_peers(
        self, file: InFlightFile, turn: Turn | None = None
    ) -> Artifact:
        """Download from peers; `turn` is told who holds the lease, as a by-product."""
        on_holder = None if turn is None else turn.set_holder
        watch = _PeersWatch(file)

        async def download(size: int | None) -> Downloaded:
            async with contextlib.aclosing(
                self._router.peers(file.digest, on_holder)
            ) as peers:
                return await self._leecher.download(
                    file.digest,
                    peers,
                    size=size,
                    on_progress=watch.on_progress,
                    on_file=watch.on_file,
                    in_order=True,
                )

        try:
            try:
                done = await download(file.size)
            except WrongBytesError:
                if file.size is None:
                    raise
                # Only the page says how long it is; the digest decides.
                done = await download(None)
        except NoPeerError as error:
            for one in file.named:
                self._lookup_missed.add(one.upstream, file.now())
            raise SourceError("nobody offers it") from error
        except TransferError as error:
            raise SourceError(f"peers failed: {error}") from error
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
        return await self._from_origins(file, OriginFetch.alone)

    async def _from_site(
        self,
        file: InFlightFile,
        peers: asyncio.Task[Artifact],
        turn: Turn,
    ) -> Artifact:
        """Ask the origin, or follow the node that does, once peers give nothing."""
        left_max = limits.ABOUT_DONE_SECONDS
        if turn.leases.is_private:
            left_max = limits.SITE_LEFT_SECONDS_MAX
        began = file.now()
        while not peers.done():
            seen = file.bytes_seen
            await asyncio.wait({peers}, timeout=limits.SITE_PATIENCE_SECONDS)
            if file.bytes_seen == seen or file.left(began) > left_max:
                break
        return await self._from_origins(file, lambda one: one.together(turn))

    async def _from_origins(
        self,
        file: InFlightFile,
        fetch: Callable[[OriginFetch], Coroutine[None, None, Artifact]],
    ) -> Artifact:
        """Return the file from the first upstream that can give it; SourceError."""
        reasons: list[str] = []
        cause: OriginError | None = None
        for one in file.named:
            try:
                return await self._fetch(file, one, fetch)
            except OriginError as error:
                # What may pass says more than an origin that has no such file.
                if cause is None or isinstance(cause, MissingError):
                    cause = error
                reasons.append(f"{one.upstream}: {error}")
            except TransferError as error:
                # Not "there is no such file": another answer may be right.
                if cause is None or isinstance(cause, MissingError):
                    cause = self._not_taken_in(error, one)
                reasons.append(f"{one.upstream}: {error}")
            log.info(
                "the origin of %s failed: %s", one.file or file.digest, reasons[-1]
            )
        raise SourceError("; ".join(reasons), cause)

    def _not_taken_in(self, error: TransferError, named: NamedFile) -> OriginError:
        """Return what a client learns where a file came and could not be taken in."""
        upstream = self._upstreams.get(named.upstream)
        if upstream is None or not isinstance(error, StoreError):
            return OriginError(str(error))
        return NotKeptError(str(error), upstream=upstream, named=named)

    async def _head_start(
        self, file: InFlightFile, peers: asyncio.Task[Artifact]
    ) -> None:
        """Let peers begin alone, and go on alone where they are nearly done."""
        now = file.now()
        if any(self._lookup_missed.has(one.upstream, now) for one in file.named):
            return
        alone = self._pace.head_start(
            file.named[0].upstream, file.size, limits.HEAD_START_SECONDS
        )
        await asyncio.wait({peers}, timeout=alone)
        if not file.size or not file.bytes_seen:
            return
        if not peers.done() and file.left(now) <= limits.ABOUT_DONE_SECONDS:
            await asyncio.wait({peers}, timeout=limits.ABOUT_DONE_SECONDS)

    async def _fetch(
        self,
        file: InFlightFile,
        named: NamedFile,
        fetch: Callable[[OriginFetch], Coroutine[None, None, Artifact]],
    ) -> Artifact:
        """Download from one origin and verify; OriginError or TransferError."""
        upstream = self._upstreams.get(named.upstream)
        if upstream is None:
            raise OriginError("its upstream is no longer configured")

        def before_commit(name: Digest) -> None:
            if self.is_private(file.named):
                self._silence(name, named.file.rpartition("/")[2])

        one = OriginFetch(
            store=self._store,
            client=self._client,
            upstream=upstream,
            file=file,
            named=named,
            before_commit=before_commit,
            line=self._line,
        )
        began = file.now()
        artifact = await fetch(one)
        if one.gave == named.upstream:
            self._pace.measure(named.upstream, file.now() - began, artifact.size)
        gave = SourceEntry(address=one.gave, bytes=artifact.size)
        self._gave.put(artifact.digest, [gave])
        return artifact


class _PeersWatch:
    """Follows the verified start of a download from peers, for those who stream it.

    It is verified against a manifest for which only peers vouch, so it may turn out
    wrong with the whole, and the end is held back. Where an origin names the file,
    nothing is passed on whose length only one peer, or peers that do not agree,
    vouch for: the origin gives it sooner than they are found out.
    """

    def __init__(self, file: InFlightFile) -> None:
        self._file = file
        self._coming: GrowingFile | None = None

    def on_file(self, coming: GrowingFile) -> None:
        """Take in the file that grows, another one where another manifest leads."""
        self._coming = coming

    def on_progress(self, done: int, _total: int | None) -> None:
        """Take in the progress of a download."""
        self._file.seen(done)
        coming = self._coming
        if coming is None or coming.ended:
            return
        is_known = coming.evidence >= SizeEvidence.INDEPENDENT
        if self._file.named and not is_known:
            return
        self._file.progress(
            coming, coming.length, source="peers", has_known_size=is_known
        )


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
