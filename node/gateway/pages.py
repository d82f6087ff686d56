"""Pages of upstreams: fetched once for all who ask, kept, served stale when it is down.

1. A page younger than a minute is answered from memory or disk, without a request.
2. A little older, it is answered as it is, and asked for again in the background.
3. Older than that, the upstream is asked, with the entity tag of what is known. Where
   it cannot be asked, what is known is served all the same.
4. All who want one page share one request. It goes on for a while without them: begun
   anew, a page that takes long would never come.
5. What an upstream does not have is believed for a day where it cannot be asked.

A page is read once, in a thread of its own pool, into the forms it is answered with.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from node.gateway import limits
from node.gateway.bounded import BoundedCache
from node.gateway.named_file import NamedFile
from node.gateway.named_files import NamedFiles
from node.gateway.origin import (
    DownError,
    MissingError,
    OriginError,
    OriginPage,
    PageSource,
    without_credentials,
)
from node.gateway.origin_pace import OriginPace
from node.gateway.page_cache import PageCache, StoredPage, gzipped, packed_page
from node.gateway.retry import pause_before_retry
from node.gateway.upstream import Upstream
from node.wallclock import Now
from transfer import ClosedError, Digest, StoreError
from transfer.single_flight import SingleFlight

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 0.01
"""Short, so that a page is written before its client has read what it names."""


@dataclass(slots=True)
class ReadPage:
    """What was found in a page: its forms, and the files that it names."""

    files: NamedFiles
    forms: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One page below an upstream's URL, and how it is read."""

    upstream: Upstream
    path: str
    accept: str
    read: Callable[[OriginPage], ReadPage]
    """Raises ValueError for an answer that is no such page. Blocks."""
    key: str = ""
    """Tells apart pages of one path that are asked for in different forms."""
    max_age: float | None = None
    """For how many seconds it is answered without asking the upstream; None: as all."""
    on_asked: Callable[[StoredPage], None] | None = None
    """Called with the page once the upstream has given it, or said it is the same."""

    @property
    def place(self) -> tuple[str, str]:
        """What tells pages apart."""
        return self.upstream.name, self.key or self.path


class PageMissingError(Exception):
    """The upstream has no such page."""


class UnreachableError(Exception):
    """The upstream cannot be asked now, and nothing is remembered of the page."""

    def __init__(self, message: str, cause: OriginError | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class Pages:
    """The pages of all upstreams."""

    def __init__(
        self, client: PageSource, cache: PageCache, *, now: Now, pace: OriginPace
    ) -> None:
        self._client = client
        self._pace = pace
        self._cache = cache
        self._now = now
        self._flights: SingleFlight[tuple[str, str], StoredPage] = SingleFlight(
            linger=limits.PAGE_LINGER_SECONDS
        )
        self._refreshing: set[asyncio.Task[StoredPage]] = set()
        self._saving_places: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._saving: dict[asyncio.Task[None], int] = {}
        """What is being written, and how large it is."""
        self._down_until: dict[str, float] = {}
        self._memory: BoundedCache[tuple[str, str], StoredPage] = BoundedCache(
            limits.PAGES_MEMORY_BYTES_MAX, lambda page: page.size
        )
        self._hurry = asyncio.Event()
        """Set while somebody waits until what is being written can be read."""
        self._disk = ThreadPoolExecutor(1, "gateway-pages")
        self._packer = ThreadPoolExecutor(1, "gateway-pack")
        self._packing: set[tuple[int, str]] = set()
        self._readers = ThreadPoolExecutor(2, "gateway-read")

    async def get(self, request: PageRequest) -> StoredPage:
        """Return a page, as new as it can be had.

        Raises PageMissingError or UnreachableError.
        """
        known = await self._known(request.place)
        age = self._now() - known.asked_at if known else float("inf")
        fresh = request.max_age
        if fresh is None:
            fresh = limits.PAGE_FRESH_SECONDS
        if known is None or not 0 <= age < fresh * 1.5:
            page = await self._ask_once(request)
        else:
            page = known
            if age >= fresh:
                self._refresh(request)
        if page.missing:
            raise PageMissingError
        return page

    async def kept(self, place: tuple[str, str]) -> StoredPage | None:
        """Return a page as it was last seen, however old; None without one."""
        page = await self._known(place)
        return None if page is None or page.missing else page

    async def put(self, place: tuple[str, str], read: ReadPage) -> None:
        """Keep what was read in a file that serves as a page."""
        page = StoredPage(
            read.files,
            asked_at=self._now(),
            forms=read.forms,
            kept=tuple(read.forms),
        )
        await self._keep(place, page)

    async def paths(self, upstream: str, start: str) -> list[str]:
        """Return the paths of kept pages that begin with `start`, newest first."""
        await self._saved()
        return await self._in(self._disk, lambda: self._cache.paths(upstream, start))

    async def find(self, digest: Digest) -> list[NamedFile]:
        """Return what upstreams name for a digest, one for each upstream."""
        (found,) = await self.find_many([digest])
        return found

    async def find_many(self, digests: Sequence[Digest]) -> list[list[NamedFile]]:
        """Return the same for each of these digests."""
        await self._saved()
        return await self._in(
            self._disk, lambda: [self._cache.find(one) for one in digests]
        )

    def packed(self, page: StoredPage, form: str) -> bytes | None:
        """Return a form of a page as gzip packs it; None where that is not made yet.

        It is made in the background: the first client need not wait for it.
        """
        if form in page.packed:
            return page.packed[form]
        key = (id(page.packed), form)
        is_under_way = self._saving and form in page.kept
        if key not in self._packing and not is_under_way:
            self._packing.add(key)
            body = page.forms[form]

            async def pack() -> None:
                try:
                    await self._pause()
                    work = self._in(self._packer, lambda: gzipped(body))
                    page.packed[form] = await work
                finally:
                    self._packing.discard(key)

            self._write(pack())
        return None

    def age(self, page: StoredPage) -> float:
        """Return how long ago the upstream was asked for a page, in seconds."""
        return self._now() - page.asked_at

    async def in_reader(self, work: Callable[[], T]) -> T:
        """Do work that reads foreign bytes, in the pool for that, with a deadline."""
        async with asyncio.timeout(limits.READ_SECONDS_MAX):
            return await self._in(self._readers, work)

    async def forget_moved_upstream(
        self, name: str, url: str, *, public: bool | None = None
    ) -> bool | None:
        """Forget what came from another URL of an upstream; see `PageCache`."""
        try:
            settling = self._cache.forget_moved_upstream(name, url, public=public)
            return await asyncio.wrap_future(settling)
        except StoreError as error:
            log.warning("the pages of %s cannot be looked at: %s", name, error)
            return None

    async def close(self) -> None:
        """Cancel what is under way and close the cache."""
        await self._flights.close()
        for task in list(self._refreshing):
            task.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)
        await self._saved()
        for pool in (self._readers, self._packer, self._disk):
            pool.shutdown(wait=False, cancel_futures=True)

    # --- what is known ---------------------------------------------------------------

    async def _known(self, place: tuple[str, str]) -> StoredPage | None:
        """Return a page from memory, or from disk."""
        known = self._memory.get(place)
        if known is None:
            page = await self._in(self._disk, lambda: self._cache.page(*place))
            # One that came meanwhile is newer.
            known = self._memory.get(place) or page
        elif place not in self._saving_places.values():
            # The file decides: a copy of it may have been put back.
            asked_at = await self._in(self._disk, lambda: self._cache.asked_at(*place))
            if asked_at is not None:
                known = replace(known, asked_at=asked_at)
        if known is not None:
            self._memory.put(place, known)  # again: it grows with its forms
        return known

    async def _keep(self, place: tuple[str, str], page: StoredPage) -> None:
        """Keep a page; its answer waits only where very much is being written."""
        self._memory.put(place, page)

        async def keep() -> None:
            await self._pause(place)
            packed = await self._in(self._packer, lambda: packed_page(page))
            await asyncio.wrap_future(self._cache.store(*place, packed))

        self._write(keep(), page.size, place)
        if sum(self._saving.values()) > limits.PAGES_SAVING_BYTES_MAX:
            await self._saved()

    async def _pause(self, place: tuple[str, str] | None = None) -> None:
        """Leave the processor to those who wait for other pages, for a moment."""
        loop = asyncio.get_running_loop()
        until = loop.time() + limits.PAGE_REST_SECONDS
        while not self._hurry.is_set() and loop.time() < until:
            is_own = place is not None and place in self._flights
            if len(self._flights) <= is_own:
                return  # nobody waits
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), PAUSE_SECONDS)

    def _write(
        self,
        work: Coroutine[None, None, None],
        size: int = 0,
        place: tuple[str, str] | None = None,
    ) -> asyncio.Task[None]:
        """Begin to write; a full disk does not keep a page from being answered."""

        async def write() -> None:
            try:
                await work
            except StoreError as error:
                log.warning("a page cannot be kept: %s", error)

        saving = asyncio.get_running_loop().create_task(write())
        self._saving[saving] = size
        if place is not None:
            self._saving_places[saving] = place
        saving.add_done_callback(lambda done: self._saving.pop(done, None))
        saving.add_done_callback(lambda done: self._saving_places.pop(done, None))
        return saving

    async def _saved(self) -> None:
        """Wait until what is being written can be read."""
        if self._saving:
            self._hurry.set()
            await asyncio.wait(set(self._saving))
            self._hurry.clear()

    async def _in(self, pool: Executor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    # --- asking ----------------------------------------------------------------------

    async def _ask_once(self, request: PageRequest) -> StoredPage:
        try:
            return await self._flights.run(request.place, lambda: self._ask(request))
        except ClosedError as error:
            raise UnreachableError("the node is stopping") from error

    def _refresh(self, request: PageRequest) -> None:
        if request.place in self._flights:
            return
        task = asyncio.get_running_loop().create_task(self._ask_once(request))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _ask(self, request: PageRequest) -> StoredPage:
        """Ask the upstream for a page, again where it failed for the moment."""
        known = await self._known(request.place)
        attempts = limits.PAGE_ATTEMPTS
        longest = limits.STALE_PAUSE_SECONDS_MAX if known else float("inf")
        for attempt in range(1, attempts + 1):
            try:
                self._check_up(request.upstream)
                return await self._fetch(request, known)
            except OriginError as error:
                wait = pause_before_retry(error, attempt)
                if wait is None or wait > longest or attempt == attempts:
                    return self._without_it(request, known, error)
                await asyncio.sleep(wait)
        raise UnreachableError("it was not asked")

    async def _fetch(
        self, request: PageRequest, known: StoredPage | None
    ) -> StoredPage:
        before = None if known is None else known.condition()
        began = time.monotonic()
        try:
            page = await self._client.page(
                request.upstream,
                request.upstream.url + request.path,
                accept=request.accept,
                known=before,
            )
        except MissingError:
            gone = StoredPage(NamedFiles(request.upstream.name), missing=True)
            gone.asked_at = self._now()
            await self._keep(request.place, gone)
            return gone
        seconds = time.monotonic() - began
        self._pace.measure(request.upstream.name, seconds, len(page.body))
        now = self._now()
        if page.unchanged and known is not None:
            same = replace(known, asked_at=now)
            self._memory.put(request.place, same)

            async def touch() -> None:
                await asyncio.wrap_future(self._cache.touch(*request.place, now))

            self._write(touch(), place=request.place)
            _tell(request, same)
            return same
        read = await self._read(request, page)
        stored = StoredPage(
            read.files, page.url, page.content_type, page.etag, page.modified, now,
            forms=read.forms, kept=tuple(read.forms),
        )  # fmt: skip
        _tell(request, stored)
        await self._keep(request.place, stored)
        return stored

    async def _read(self, request: PageRequest, page: OriginPage) -> ReadPage:
        try:
            return await self.in_reader(lambda: request.read(page))
        except (ValueError, RecursionError) as error:
            raise OriginError(f"its page could not be read: {error}") from error
        except TimeoutError as error:
            raise OriginError("its page takes too long to be read") from error

    def _check_up(self, upstream: Upstream) -> None:
        if self._now() < self._down_until.get(upstream.name, 0.0):
            raise OriginError("it could not be reached a moment ago")

    def _without_it(
        self, request: PageRequest, known: StoredPage | None, error: OriginError
    ) -> StoredPage:
        """Return what is known of a page whose upstream cannot be asked."""
        now = self._now()
        name = request.upstream.name
        if now >= self._down_until.get(name, 0.0):
            where = without_credentials(request.upstream.url + request.path)
            log.warning("%s cannot be asked for %s: %s", name, where, error)
            if isinstance(error, DownError):
                self._down_until[name] = now + limits.DOWN_SECONDS
        if known is None or (
            known.missing and now - known.asked_at > limits.ABSENT_SECONDS
        ):
            raise UnreachableError(str(error), error) from error
        return known


def _tell(request: PageRequest, page: StoredPage) -> None:
    if request.on_asked is not None:
        request.on_asked(page)
