"""Pages of upstreams: fetched once for all who ask, kept, served stale when it is down.

A page is asked for again after a minute; whether an upstream has a name at all is
believed for a day, where it cannot be asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from node.gateway import limits
from node.gateway.origin import (
    DownError,
    MissingError,
    OriginClient,
    OriginError,
    OriginPage,
    SilentError,
    without_credentials,
)
from node.gateway.page_cache import NamedFile, PageCache, StoredPage
from node.gateway.upstreams import Upstream
from node.wallclock import Now

log = logging.getLogger(__name__)

Read = Callable[[StoredPage], list[NamedFile]]
"""Returns the files that a page names; raises ValueError for one that is no page."""


class PageMissingError(Exception):
    """The upstream has no such page."""


class UnreachableError(Exception):
    """The upstream cannot be asked now, and nothing is remembered of the page."""


class Pages:
    """The pages of all upstreams."""

    def __init__(self, client: OriginClient, ledger: PageCache, now: Now) -> None:
        self._client = client
        self._ledger = ledger
        self._now = now
        self._under_way: dict[tuple[str, str], asyncio.Task[StoredPage]] = {}
        self._down_until: dict[str, float] = {}
        self._slots = asyncio.Semaphore(limits.PAGES_AT_ONCE)

    async def get(
        self,
        upstream: Upstream,
        path: str,
        *,
        accept: str,
        read: Read,
        key: str = "",
        seconds: float | None = None,
    ) -> StoredPage:
        """Return the page at `path` below the upstream's URL.

        What `read` finds in a new page is remembered. `key` tells apart pages of one
        path that were asked for in different forms; a large page may take `seconds`.
        Raises PageMissingError or UnreachableError.
        """
        place = (upstream.name, key or path)
        task = self._under_way.get(place)
        if task is None:
            task = asyncio.get_running_loop().create_task(
                self._get(upstream, path, place, accept, read, seconds)
            )
            self._under_way[place] = task
            task.add_done_callback(lambda _: self._under_way.pop(place, None))
            task.add_done_callback(_look)
        page = await asyncio.shield(task)
        if page.missing:
            raise PageMissingError
        return page

    async def name(self, files: Sequence[NamedFile]) -> None:
        """Remember what was named, some at a time: a repository names very many."""
        for start in range(0, len(files), limits.ROWS_AT_ONCE):
            self._ledger.name_files(files[start : start + limits.ROWS_AT_ONCE])
            await asyncio.sleep(0)

    def age(self, page: StoredPage) -> float:
        """Return how long ago the upstream was asked for a page, in seconds."""
        return self._now() - page.asked_at

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(
        self,
        upstream: Upstream,
        path: str,
        place: tuple[str, str],
        accept: str,
        read: Read,
        seconds: float | None,
    ) -> StoredPage:
        kept = self._ledger.page(*place)
        now = self._now()
        if kept and 0 <= now - kept.asked_at < limits.PAGE_FRESH_SECONDS:
            return kept
        try:
            self._check_up(upstream, now)
            async with self._slots:
                return await self._ask(
                    upstream, path, place, accept, read, kept, seconds
                )
        except OriginError as error:
            return self._without_it(upstream, path, kept, error)

    def _check_up(self, upstream: Upstream, now: float) -> None:
        if now < self._down_until.get(upstream.name, 0.0):
            raise OriginError("it could not be reached a moment ago")

    async def _ask(
        self,
        upstream: Upstream,
        path: str,
        place: tuple[str, str],
        accept: str,
        read: Read,
        kept: StoredPage | None,
        seconds: float | None,
    ) -> StoredPage:
        has_page = kept is not None and not kept.missing
        usual = (
            limits.PAGE_SECONDS_MAX_IF_STALE if has_page else limits.PAGE_SECONDS_MAX
        )
        try:
            page = await self._client.page(
                upstream.url + path,
                accept=accept,
                etag=kept.etag if kept and has_page else "",
                seconds=seconds or usual,
            )
        except MissingError:
            gone = StoredPage("", "", "", self._now(), missing=True, body=b"")
            self._ledger.keep_page(*place, gone)
            return gone
        if page.unchanged and kept is not None:
            self._ledger.touch_page(*place, self._now())
            return replace(kept, asked_at=self._now())
        return await self._keep(place, page, read)

    async def _keep(
        self, place: tuple[str, str], page: OriginPage, read: Read
    ) -> StoredPage:
        stored = StoredPage(
            page.url, page.content_type, page.etag, self._now(), False, page.body
        )
        try:
            files = await asyncio.to_thread(read, stored)
        except (ValueError, RecursionError) as error:
            raise OriginError(f"its page could not be read: {error}") from error
        self._ledger.keep_page(*place, stored)
        await self.name(files)
        return stored

    def _without_it(
        self,
        upstream: Upstream,
        path: str,
        kept: StoredPage | None,
        error: OriginError,
    ) -> StoredPage:
        """Return what is known of a page whose upstream cannot be asked."""
        now = self._now()
        if now >= self._down_until.get(upstream.name, 0.0):
            where = without_credentials(upstream.url + path)
            log.warning("%s cannot be asked for %s: %s", upstream.name, where, error)
            if isinstance(error, DownError):
                silent = isinstance(error, SilentError)
                wait = limits.SILENT_SECONDS if silent else limits.DOWN_SECONDS
                self._down_until[upstream.name] = now + wait
        if kept is None or (
            kept.missing and now - kept.asked_at > limits.ABSENT_SECONDS
        ):
            raise UnreachableError(str(error)) from error
        return kept


def _look(task: asyncio.Task[StoredPage]) -> None:
    """See the error of a page that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
