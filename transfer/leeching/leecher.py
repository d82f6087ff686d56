"""The leecher: downloads artifacts by their digests from many peers at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.connection.handshake import Terms
from transfer.connection.peer import Peer
from transfer.connection.rate_limit import RateLimiter
from transfer.content.hashing import lower_priority
from transfer.errors import ClosedError
from transfer.leeching.bans import Bans
from transfer.leeching.connection_pool import ConnectionPool
from transfer.leeching.context import LeecherContext
from transfer.leeching.download import Download
from transfer.leeching.result import Downloaded, Source
from transfer.leeching.small import SmallFetcher, Wanted
from transfer.leeching.stream import Follower
from transfer.limits import LeecherLimits
from transfer.store import aliases

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from transfer.connection.tls import Identity
    from transfer.content.artifact import Artifact
    from transfer.content.digest import Digest
    from transfer.store.store import Store

    Progress = Callable[[int, int | None], None]

log = logging.getLogger(__name__)

_ALIAS_DELAY_SECONDS = 0.25
_ALIAS_DELAYS_MAX = 20


@dataclass(slots=True, eq=False)
class _Shared:
    """A download with everybody who waits for it."""

    download: Download
    task: asyncio.Task[Downloaded]
    callers: int = 0


@dataclass(frozen=True, slots=True)
class LeecherStats:
    """What a leecher does and has done."""

    downloads: int
    """Downloads under way."""
    bytes_received: int
    """Bytes of artifacts that were downloaded and kept."""
    bad_peers: dict[str, str] = field(default_factory=dict)
    """Peers that were banned last, by address, with what they did."""


class Leecher:
    """Downloads into a store; make one inside a running event loop."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        *,
        network_secret: bytes | None = None,
        encryption: bool = True,
        limits: LeecherLimits | None = None,
        port: int = 0,
    ) -> None:
        """`port` is where a seeder of the same store serves; others are told of it.

        0 where none does, or where it does not serve downloads under way.
        """
        limits = limits or LeecherLimits()
        self._stop = threading.Event()
        self._closed = False
        self._shared: dict[Digest, _Shared] = {}
        self._bytes_received = 0
        self._pool = ThreadPoolExecutor(limits.download_threads_max, "caravan-download")
        self._hash_pool = ThreadPoolExecutor(limits.hash_threads_max, "caravan-verify")
        self._alias_pool = ThreadPoolExecutor(1, "caravan-aliases")
        terms = Terms(identity, network_secret, encryption)
        self._workshop = LeecherContext(
            store,
            ConnectionPool(terms, limits),
            self._pool,
            self._hash_pool,
            RateLimiter(limits.bytes_per_second, self._stop),
            limits,
            Bans(),
            port,
        )
        self._smalls = SmallFetcher(self._workshop)
        self._aliases_queued = False
        self._queue_aliases()

    async def download(
        self,
        digest: Digest,
        peers: Iterable[Peer] | AsyncIterator[Peer],
        *,
        size: int | None = None,
        size_max: int | None = None,
        manifest_digest: bytes | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
        in_order: bool = False,
    ) -> Downloaded:
        """Bring an artifact into the store, and return it with its sources.

        Peers may come late through an async iterator. A caller that knows the
        artifact's size or manifest names them, and is not misled by a false
        manifest then; one that knows what is too large names `size_max`. Several
        callers for one digest share one download; it is cancelled with the last
        of them. `on_progress(done, total)` counts bytes and is called on the
        event loop. `in_order` brings the start of the file first.

        Raises NoPeerError where nobody could give it, WrongBytesError where
        peers answered and nothing of it was right, StoreError, ClosedError.
        """
        if self._closed:
            raise ClosedError
        if (held := self._workshop.store.find(digest)) is not None:
            return Downloaded(held, 0.0, [])
        wish = Wanted(digest, size, size_max)
        if digest not in self._shared and wish.may_be_small:
            began = time.monotonic()
            if isinstance(peers, AsyncIterator):
                artifact, peers = await self._smalls.fetch_as_found(wish, peers)
            else:
                peers = tuple(peers)
                artifact = await self._smalls.fetch(wish, peers)
            if artifact is not None:
                return self._came(wish, artifact, began, on_progress)
        if self._closed:
            raise ClosedError
        shared = self._shared.get(digest)
        if shared is None:
            shared = self._start(digest, size, size_max, manifest_digest)
        for liar in wish.liars:
            shared.download.distrust(liar)
        if in_order:
            shared.download.read_in_order()
        shared.download.add_peers(peers)
        return await self._share(shared, on_progress)

    async def stream(
        self,
        digest: Digest,
        peers: Iterable[Peer] | AsyncIterator[Peer],
        *,
        size: int | None = None,
        manifest_digest: bytes | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Download, and yield the bytes in order while they come.

        The end comes once the whole file is verified; where an error is raised
        instead, as by `download`, what was yielded before counts for nothing.
        """
        news: list[asyncio.Event] = []
        call = asyncio.create_task(
            self.download(
                digest,
                peers,
                size=size,
                manifest_digest=manifest_digest,
                on_progress=lambda *_: news[0].set(),
                in_order=True,
            )
        )
        follower = Follower(self._workshop.store, digest, call)
        news.append(follower.news)
        try:
            async with contextlib.aclosing(follower.blocks()) as blocks:
                async for block in blocks:
                    yield block
        finally:
            call.cancel()
            await asyncio.wait([call])

    async def close(self) -> None:
        """Cancel all downloads, keeping what they have; leaves no thread."""
        self._closed = True
        self._stop.set()
        tasks = [shared.task for shared in self._shared.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._smalls.close()
        await self._workshop.connections.close()
        self._pool.shutdown()
        self._hash_pool.shutdown()
        self._alias_pool.shutdown(cancel_futures=True)

    @property
    def stats(self) -> LeecherStats:
        """What is going on."""
        bad_peers = self._workshop.bad_peers.reasons()
        under_way = len(self._shared) + len(self._smalls)
        received = self._bytes_received + self._smalls.bytes_received
        return LeecherStats(under_way, received, bad_peers)

    def _came(
        self,
        wish: Wanted,
        artifact: Artifact,
        began: float,
        on_progress: Callable[[int, int | None], None] | None,
    ) -> Downloaded:
        """Tell of a small artifact that came without a download of its own."""
        if on_progress is not None:
            on_progress(artifact.size, artifact.size)
        self._queue_aliases()
        sources = [] if wish.peer is None else [Source(wish.peer, artifact.size)]
        return Downloaded(artifact, time.monotonic() - began, sources)

    def _start(
        self,
        digest: Digest,
        size: int | None,
        size_max: int | None,
        manifest_digest: bytes | None,
    ) -> _Shared:
        download = Download(
            self._workshop,
            digest,
            size=size,
            size_max=size_max,
            manifest_digest=manifest_digest,
        )
        task = asyncio.get_running_loop().create_task(download.run())
        shared = _Shared(download, task)
        self._shared[digest] = shared
        task.add_done_callback(lambda _: self._ended(shared))
        return shared

    def _ended(self, shared: _Shared) -> None:
        if self._shared.get(shared.download.digest) is shared:
            del self._shared[shared.download.digest]
        if not shared.task.cancelled() and shared.task.exception() is None:
            sources = shared.task.result().sources
            self._bytes_received += sum(source.bytes for source in sources)
            self._queue_aliases()

    def _queue_aliases(self) -> None:
        """Have aliases computed soon; one job does it for many downloads."""
        if not self._closed and not self._aliases_queued:
            self._aliases_queued = True
            self._delay_aliases(_ALIAS_DELAYS_MAX)

    def _delay_aliases(self, delays: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_ALIAS_DELAY_SECONDS, self._submit_aliases, delays - 1)

    def _submit_aliases(self, delays: int) -> None:
        """Start the job, a little later while downloads need the processor."""
        if self._closed:
            return
        if (self._shared or self._smalls) and delays:
            self._delay_aliases(delays)
            return
        self._alias_pool.submit(self._fill_aliases)

    def _fill_aliases(self) -> None:
        """Compute what else the artifacts are called, when nobody waits for it."""
        lower_priority()
        self._aliases_queued = False
        try:
            aliases.fill(self._workshop.store, self._stop)
        except ClosedError:
            return
        except Exception:
            log.exception("computing aliases failed")

    async def _share(
        self,
        shared: _Shared,
        on_progress: Callable[[int, int | None], None] | None,
    ) -> Downloaded:
        shared.callers += 1
        if on_progress is not None:
            shared.download.progress.append(on_progress)
        try:
            return await asyncio.shield(shared.task)
        except asyncio.CancelledError:
            if shared.task.cancelled():
                raise ClosedError from None
            raise
        finally:
            shared.callers -= 1
            if on_progress is not None:
                shared.download.progress.remove(on_progress)
            if not shared.callers and not shared.task.done():
                await self._cancel(shared)

    async def _cancel(self, shared: _Shared) -> None:
        """Cancel a download that nobody waits for, and wait for its end."""
        self._shared.pop(shared.download.digest, None)
        shared.task.cancel()
        await asyncio.wait([shared.task])
