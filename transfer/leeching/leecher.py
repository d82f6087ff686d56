"""The leecher: downloads artifacts by their digests from many peers at once."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Self

from transfer.connection.handshake import Terms
from transfer.connection.rate_limit import RateLimiter
from transfer.content.digest import Digest
from transfer.content.hashing import lower_priority
from transfer.errors import ClosedError, FalseManifestError, WrongBytesError
from transfer.growing_file import GrowingFile
from transfer.leeching.bans import BackOff, Banned, Bans
from transfer.leeching.connection_pool import ConnectionPool
from transfer.leeching.context import LeecherContext
from transfer.leeching.dial_limits import never_heard
from transfer.leeching.download import Download
from transfer.leeching.following import Follower
from transfer.leeching.names import names_of
from transfer.leeching.result import Downloaded, DownloadProgress, Given, Source
from transfer.leeching.small import SmallFetcher
from transfer.leeching.wanted import Wanted
from transfer.limits import LeecherLimits
from transfer.single_flight import SingleFlight
from transfer.store import aliases

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence

    from transfer.connection.peer import Peer
    from transfer.connection.tls import Identity
    from transfer.content.artifact import Artifact
    from transfer.leeching.connection_pool import Connect
    from transfer.leeching.download import OnFile, Progress
    from transfer.store.store import Store

log = logging.getLogger(__name__)

_ALIAS_DELAY_SECONDS = 0.25
_ALIAS_DELAYS_MAX = 20


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
    """Downloads into a store; make one inside a running event loop.

    `async with Leecher(store, identity)` closes it in the end.
    """

    def __init__(
        self,
        store: Store,
        identity: Identity,
        *,
        network_secret: bytes | None = None,
        encryption: bool = True,
        limits: LeecherLimits | None = None,
        port: int = 0,
        connect: Connect | None = None,
        heard: Callable[[Peer], float] = never_heard,
    ) -> None:
        """`port` is where a seeder of the same store serves; peers learn of it.

        0 where none does, or where it does not serve downloads under way. `connect`
        and `heard` are explained at `ConnectionPool`.
        """
        limits = limits or LeecherLimits()
        self._stop = threading.Event()
        self._closed = False
        self._flights: SingleFlight[Digest, Downloaded] = SingleFlight()
        self._downloads: dict[Digest, Download] = {}
        self._bytes_received = 0
        self._pool = ThreadPoolExecutor(limits.download_threads_max, "caravan-download")
        self._hash_pool = ThreadPoolExecutor(limits.hash_threads_max, "caravan-verify")
        self._alias_pool = ThreadPoolExecutor(1, "caravan-aliases")
        terms = Terms(identity, network_secret, encryption)
        self.rate = RateLimiter(limits.bytes_per_second, self._stop)
        """What all downloads share; its rate can be changed at any time."""
        self._context = LeecherContext(
            store=store,
            connections=ConnectionPool(terms, limits, connect=connect, heard=heard),
            pool=self._pool,
            hash_pool=self._hash_pool,
            rate=self.rate,
            limits=limits,
            bans=Bans(),
            backoff=BackOff(),
            port=port,
        )
        self._smalls = SmallFetcher(self._context)
        self.follower = Follower(self._context)
        """Follows what peers bring in, before it is verified."""
        self._aliases_queued = False
        self.queue_aliases()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.stats.downloads} under way"
        return f"<Leecher into {self._context.store!r}, {state}>"

    async def download(
        self,
        wanted: Wanted | Digest,
        peers: Iterable[Peer] | AsyncIterator[Peer],
        *,
        size: int | None = None,
        size_max: int | None = None,
        manifest_digest: bytes | None = None,
        on_progress: Progress | None = None,
        on_file: OnFile | None = None,
        in_order: bool = False,
    ) -> Downloaded:
        """Bring an artifact into the store, and return it with its sources.

        `wanted` is a digest with what is known of the artifact; for a bare digest
        the same may be given by `size`, `size_max` and `manifest_digest`. What is
        known keeps false manifests out.

        Peers may come late through an async iterator. Several callers for one digest
        share one download; it is cancelled with the last of them. `on_progress(done,
        total)` counts bytes; `on_file(file)` gives a large file while it grows, again
        where another manifest takes the lead. Both are called on the event loop.
        `in_order` brings the start of the file first.

        Raises NoPeerError if no peer could give it or nothing came within
        `patience_seconds`, WrongBytesError if peers answered and nothing of it was
        right, StoreError, ClosedError.
        """
        if self._closed:
            raise ClosedError
        if isinstance(wanted, Digest):
            wanted = Wanted(wanted, size, size_max, manifest_digest)
        held = await self._context.store.find_soon(wanted.digest)
        if held is not None:
            return Downloaded(held, 0.0, [])
        banned = self._context.bans.of(wanted.digest)
        if wanted.may_be_small and wanted.digest not in self._flights:
            began = time.monotonic()
            given, peers = await self._ask_for_small(wanted, peers, banned)
            if given is not None:
                return self._given(given, began, on_progress)
        download = self._downloads.get(wanted.digest)
        if download is None or wanted.digest not in self._flights:
            download = Download(self._context, wanted, banned)
            self._downloads[wanted.digest] = download
        work = partial(self._run, wanted.digest, download)
        flight = self._flights.join(wanted.digest, work)
        download.add_caller(banned, on_progress, on_file)
        if in_order:
            download.read_in_order()
        download.add_peers(peers)
        try:
            return await flight.result()
        finally:
            download.remove_caller(on_progress, on_file)
            await flight.leave_and_wait()

    async def download_together(
        self,
        wanted: Sequence[Wanted],
        peers: AsyncIterator[Peer],
        on_given: Callable[[Digest, Downloaded], None],
    ) -> None:
        """Bring those of many artifacts that are small and that these peers have.

        Each peer is asked for all that is left, so that nobody has to be found for
        every one of them. `on_given` is called on the event loop. What it was not
        called for is left to `download`. Raises StoreError or ClosedError.
        """
        began = time.monotonic()

        def give(given: dict[Digest, Given]) -> None:
            for digest, one in given.items():
                on_given(digest, self._given(one, began, None))

        left = [one for one in wanted if one.digest not in self._flights]
        if self._closed:
            raise ClosedError
        await self._smalls.fetch_together(left, peers, give)

    async def names(self, peer: Peer, digests: Sequence[Digest]) -> dict[Digest, str]:
        """Return the file names that a peer knows for digests: hints, no more.

        Each is printable ASCII without a slash, of at most 200 characters.
        """
        if self._closed:
            return {}
        return await names_of(self._context.connections, peer, digests)

    async def stream(
        self,
        wanted: Wanted | Digest,
        peers: Iterable[Peer] | AsyncIterator[Peer],
        *,
        size: int | None = None,
        manifest_digest: bytes | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """Download, and yield the bytes in order while they come.

        The end comes once the whole file is verified; where an error is raised
        instead, as by `download`, what was yielded before counts for nothing.
        """
        files: asyncio.Queue[GrowingFile | None] = asyncio.Queue()
        call = asyncio.create_task(
            self.download(
                wanted,
                peers,
                size=size,
                manifest_digest=manifest_digest,
                on_file=files.put_nowait,
                in_order=True,
            )
        )
        call.add_done_callback(lambda _: files.put_nowait(None))
        offset = 0
        try:
            while (file := await files.get()) is not None:
                try:
                    async for block in file.blocks():
                        offset += len(block)
                        yield block
                except FalseManifestError as error:
                    if offset:
                        raise WrongBytesError from error
                else:
                    break
            artifact = (await call).artifact
            async for block in self._rest(artifact, offset):
                yield block
        finally:
            call.cancel()
            await asyncio.wait([call])

    async def _rest(self, artifact: Artifact, offset: int) -> AsyncIterator[bytes]:
        """Yield what of a held artifact was not yielded while it came."""
        if offset >= artifact.size:
            return
        store = self._context.store
        descriptor = await asyncio.to_thread(store.open_checked, artifact)
        try:
            file = GrowingFile(descriptor, artifact.size)
        finally:
            os.close(descriptor)
        file.finish()
        async for block in file.blocks(offset):
            yield block

    async def close(self) -> None:
        """Cancel all downloads, keeping what they have; leaves no thread."""
        self._closed = True
        self._stop.set()
        await self._flights.close()
        await self._smalls.close()
        await self.follower.close()
        await self._context.connections.close()
        self._pool.shutdown()
        self._hash_pool.shutdown()
        self._alias_pool.shutdown(cancel_futures=True)

    def under_way(self) -> list[DownloadProgress]:
        """Return the large downloads under way; small ones end before one can look."""
        return [download.snapshot() for download in self._downloads.values()]

    @property
    def stats(self) -> LeecherStats:
        """What is going on."""
        bad_peers = self._context.bans.reasons()
        under_way = len(self._flights) + len(self._smalls)
        received = self._bytes_received + self._smalls.bytes_received
        return LeecherStats(under_way, received, bad_peers)

    async def _ask_for_small(
        self,
        wanted: Wanted,
        peers: Iterable[Peer] | AsyncIterator[Peer],
        banned: Banned,
    ) -> tuple[Given | None, Iterable[Peer] | AsyncIterator[Peer]]:
        """Ask peers for a whole small artifact; return as well those left to ask."""
        if isinstance(peers, AsyncIterator):
            return await self._smalls.fetch_as_found(wanted, peers, banned)
        peers = tuple(peers)
        return await self._smalls.fetch(wanted, peers, banned), peers

    def _given(
        self, given: Given, began: float, on_progress: Progress | None
    ) -> Downloaded:
        """Report a small artifact that came without a download of its own."""
        artifact = given.artifact
        if on_progress is not None:
            on_progress(artifact.size, artifact.size)
        self.queue_aliases()
        sources = [Source(given.peer, artifact.size)]
        return Downloaded(artifact, time.monotonic() - began, sources)

    async def _run(self, digest: Digest, download: Download) -> Downloaded:
        try:
            downloaded = await download.run()
        finally:
            if self._downloads.get(digest) is download:
                del self._downloads[digest]
        self._bytes_received += sum(source.bytes for source in downloaded.sources)
        self.queue_aliases()
        return downloaded

    def queue_aliases(self) -> None:
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
        if (self._flights or self._smalls) and delays:
            self._delay_aliases(delays)
            return
        self._alias_pool.submit(self._fill_aliases)

    def _fill_aliases(self) -> None:
        """Compute the other digests of new artifacts, at the lowest priority."""
        lower_priority()
        self._aliases_queued = False
        try:
            aliases.fill(self._context.store, self._stop)
        except ClosedError:
            return
        except Exception:
            log.exception("computing aliases failed")
