"""Small artifacts: many callers' wishes, gathered for few connections.

An artifact of one chunk needs no manifest, no schedule and no task of its own: it
is asked for whole. What is wanted of a peer in one turn of the event loop goes to
it in one batch, over one connection, whoever wants it (batch.py). Whatever is not
plain here, an unknown peer, a larger artifact, a connection that fails, is left to
`Download`, which can do everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transfer.content.artifact import Artifact
from transfer.errors import (
    BadChunkError,
    ClosedError,
    LargerError,
    PeerError,
    PeerGoneError,
    StoreError,
    TransferError,
    WireError,
)
from transfer.leeching.small_batch import SmallBatch, SmallRequest
from transfer.limits import EAGER_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from transfer.connection.peer import Peer
    from transfer.content.digest import Digest
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.small_batch import Outcome

log = logging.getLogger(__name__)

_PEERS_MAX = 3  # asked in turn before the long way, which asks all at once
_TRIES_MAX = 2
_REST_SECONDS = 30.0
_HAND_BACK_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class _Line:
    """What is wanted of one peer, and the task that gets it."""

    peer: Peer
    orders: queue.SimpleQueue[list[SmallRequest]] = field(
        default_factory=queue.SimpleQueue
    )
    gathered: list[SmallRequest] = field(default_factory=list)
    errands: set[SmallRequest] = field(default_factory=set)
    connection: Connection | None = None
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class Wanted:
    """What one caller wants, and what was found out on the way."""

    digest: Digest
    size: int | None
    size_max: int | None
    liars: set[Peer] = field(default_factory=set)
    """Who sent wrong bytes for it."""
    peer: Peer | None = None
    """Who gave it."""

    @property
    def may_be_small(self) -> bool:
        """Whether it is not known to be too large."""
        return self.size is None or self.size <= EAGER_BYTES_MAX


class SmallFetcher:
    """Fetches what can be had with one question and one answer."""

    def __init__(self, workshop: LeecherContext) -> None:
        self._workshop = workshop
        self._pool = ThreadPoolExecutor(
            workshop.limits.small_threads_max, "caravan-small"
        )
        self._loop = asyncio.get_running_loop()
        self._lines: dict[Peer, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._searching: set[asyncio.Task[Any]] = set()
        self._under_way: dict[Digest, SmallRequest] = {}
        self._rested: dict[Peer, float] = {}
        self._closed = False
        self.bytes_received = 0

    def __len__(self) -> int:
        """Return how many artifacts are under way."""
        return len(self._under_way)

    async def fetch(self, wish: Wanted, peers: Iterable[Peer]) -> Artifact | None:
        """Ask the peers in turn; None where it needs the long way.

        Raises StoreError or ClosedError.
        """
        for peer in self._in_turn(wish, peers)[:_PEERS_MAX]:
            outcome = await self._ask(wish, peer)
            if isinstance(outcome, Artifact):
                wish.peer = peer
                return outcome
            if isinstance(outcome, StoreError):
                raise outcome
            if isinstance(outcome, BadChunkError | WireError):
                self._workshop.bad_peers.note(peer, wish.digest, str(outcome))
                wish.liars.add(peer)
            if isinstance(outcome, LargerError):
                await self._hand_back(peer)
                break
            if outcome is None:
                break
        return None

    async def fetch_as_found(
        self, wish: Wanted, peers: AsyncIterator[Peer]
    ) -> tuple[Artifact | None, AsyncIterator[Peer]]:
        """Ask the peers as they are found; return as well those for the long way.

        Raises StoreError, or ClosedError also while nobody is found.
        """
        task = asyncio.current_task()
        if task is None:
            raise ClosedError
        self._searching.add(task)
        try:
            return await self._fetch_as_found(wish, peers)
        except asyncio.CancelledError:
            if self._closed and not task.uncancel():
                raise ClosedError from None
            raise
        finally:
            self._searching.discard(task)

    async def _fetch_as_found(
        self, wish: Wanted, peers: AsyncIterator[Peer]
    ) -> tuple[Artifact | None, AsyncIterator[Peer]]:
        seen: list[Peer] = []
        async for peer in peers:
            seen.append(peer)
            artifact = await self.fetch(wish, [peer])
            if artifact is not None or len(seen) == _PEERS_MAX:
                return artifact, _again(seen, peers)
            if not self._is_usable(wish, peer):
                break
        return None, _again(seen, peers)

    async def close(self) -> None:
        """End all lines; whoever waits gets ClosedError."""
        self._closed = True
        for task in self._searching:
            task.cancel()
        for line in self._lines.values():
            if line.connection is not None:
                line.connection.channel.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown()

    def _in_turn(self, wish: Wanted, peers: Iterable[Peer]) -> list[Peer]:
        """Return the peers that may be asked, those with least to do first."""
        usable = [peer for peer in peers if self._is_usable(wish, peer)]
        if len(usable) > 1:
            usable.sort(key=self._load)
        return usable

    def _is_usable(self, wish: Wanted, peer: Peer) -> bool:
        """Whether asking it costs no more than a question, or is worth more."""
        if peer in wish.liars or not wish.may_be_small:
            return False
        if peer in self._lines:
            return True
        if self._rested and self._rested.get(peer, 0.0) > time.monotonic():
            return False
        return wish.size is not None or self._workshop.connections.is_warm(peer)

    def _load(self, peer: Peer) -> int:
        line = self._lines.get(peer)
        return 0 if line is None else len(line.errands)

    async def _ask(self, wish: Wanted, peer: Peer) -> Outcome:
        """Ask one peer, or wait with others who have asked for the same."""
        if self._closed:
            raise ClosedError
        errand = self._under_way.get(wish.digest)
        if errand is None:
            largest = EAGER_BYTES_MAX
            if wish.size_max is not None:
                largest = min(largest, max(wish.size_max, 0))
            errand = self._under_way[wish.digest] = SmallRequest(wish.digest, largest)
            self._order(errand, peer)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        errand.waiting.append(future)
        return await future

    async def _hand_back(self, peer: Peer) -> None:
        """Let an idle line end first, so that its connection serves the long way."""
        line = self._lines.get(peer)
        if line is not None and not line.errands and line.task is not None:
            await asyncio.wait([line.task], timeout=_HAND_BACK_SECONDS)

    def _order(self, errand: SmallRequest, peer: Peer) -> None:
        line = self._lines.get(peer)
        if line is None:
            line = self._lines[peer] = _Line(peer)
            line.task = task = self._loop.create_task(self._run(line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        line.errands.add(errand)
        if not line.gathered:
            self._loop.call_soon(self._hand_over, line)
        line.gathered.append(errand)

    def _hand_over(self, line: _Line) -> None:
        """Give a thread what was gathered in this turn of the event loop."""
        if line.gathered:
            line.orders.put(line.gathered)
            line.gathered = []

    async def _run(self, line: _Line) -> None:
        """Converse with one peer until nothing is wanted of it."""
        try:
            while line.errands:
                await self._run_once(line)
        finally:
            del self._lines[line.peer]
            left = ClosedError() if self._closed else None
            for errand in list(line.errands):
                self._settle(line, errand, left)

    async def _run_once(self, line: _Line) -> None:
        """Converse over one connection; settle what it owes if it fails."""
        connections = self._workshop.connections
        try:
            async with asyncio.timeout(self._workshop.limits.opening_soft_seconds):
                connection = await connections.open(line.peer)
        except (PeerError, OSError) as error:
            log.info("%s could not be asked for small ones: %s", line.peer, error)
            self._rest(line, line.errands)
            return
        batch = SmallBatch(
            connection,
            line.orders,
            self._workshop,
            lambda results: self._from_thread(line, results),
        )
        line.connection = connection
        try:
            await self._in_thread(batch)
        except BadChunkError as bad:
            connections.complain(connection, bad.number, bad.index)
            self._try_again(line, batch.left())
        except (TransferError, OSError) as error:
            connection.channel.close()
            log.info("%s failed for small artifacts: %s", line.peer, error)
            if isinstance(error, PeerGoneError | ConnectionError):
                self._try_again(line, batch.left())
            else:
                if isinstance(error, WireError):
                    for errand in batch.left()[:1]:
                        self._settle(line, errand, error)
                self._rest(line, line.errands)
        except Exception:
            connection.channel.close()
            log.exception("small artifacts of %s failed", line.peer)
            self._rest(line, line.errands)
        except BaseException:
            connection.channel.close()
            raise
        else:
            connections.keep(connection)
        finally:
            line.connection = None

    async def _in_thread(self, batch: SmallBatch) -> None:
        future = self._loop.run_in_executor(self._pool, batch.run)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])  # its channel has been aborted
            if not future.cancelled():
                future.exception()
            raise

    def _try_again(self, line: _Line, errands: list[SmallRequest]) -> None:
        """Order once more, over another connection, what has not failed before."""
        again = []
        for errand in errands:
            errand.tries += 1
            if errand.tries < _TRIES_MAX:
                again.append(errand)
            else:
                self._settle(line, errand, None)
        if again:
            line.orders.put(again)

    def _rest(self, line: _Line, errands: Iterable[SmallRequest]) -> None:
        """Ask this peer no more for a while, and let others be asked."""
        now = time.monotonic()
        self._rested = {peer: end for peer, end in self._rested.items() if end > now}
        self._rested[line.peer] = now + _REST_SECONDS
        line.gathered = []
        line.orders = queue.SimpleQueue()
        for errand in list(errands):
            self._settle(line, errand, PeerError())

    def _from_thread(
        self, line: _Line, results: list[tuple[SmallRequest, Outcome]]
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed
            self._loop.call_soon_threadsafe(self._take_results, line, results)

    def _take_results(
        self, line: _Line, results: list[tuple[SmallRequest, Outcome]]
    ) -> None:
        for errand, outcome in results:
            self._settle(line, errand, outcome)

    def _settle(
        self, line: _Line, errand: SmallRequest, outcome: Outcome | ClosedError
    ) -> None:
        """Tell everybody who waits for it."""
        line.errands.discard(errand)
        if isinstance(outcome, Artifact):
            self.bytes_received += outcome.size
        if self._under_way.get(errand.digest) is errand:
            del self._under_way[errand.digest]
        for future in errand.waiting:
            if future.done():
                continue
            if isinstance(outcome, ClosedError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


async def _again(seen: list[Peer], rest: AsyncIterator[Peer]) -> AsyncIterator[Peer]:
    for peer in seen:
        yield peer
    async for peer in rest:
        yield peer
