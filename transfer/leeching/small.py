"""Small artifacts: what many callers want, gathered for few connections.

An artifact of one chunk needs no manifest, no schedule and no task of its own: it
is asked for whole. What is wanted of a peer in one turn of the event loop goes to
it in one batch over one connection (`small_batch`). Attempts, bans and back-off are
those of all downloads; what needs more than that, an unknown peer, a larger artifact,
a connection that fails, is left to the swarm.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from transfer.content.artifact import Artifact
from transfer.errors import (
    BadChunkError,
    ClosedError,
    LargerError,
    NoPeerError,
    PeerError,
    PeerGoneError,
    StoreError,
    TransferError,
    WireError,
)
from transfer.leeching.result import Given
from transfer.leeching.small_batch import SmallBatch, SmallRequest
from transfer.leeching.small_session import SmallSession

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from transfer.connection.peer import Peer
    from transfer.content.digest import Digest
    from transfer.leeching.bans import Banned
    from transfer.leeching.connection_pool import Connection
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.small_batch import Outcome
    from transfer.leeching.small_session import OnGiven
    from transfer.leeching.wanted import Wanted

log = logging.getLogger(__name__)

_PEERS_MAX = 3  # asked in turn before the swarm, which asks all at once
_TRIES_MAX = 2
_HAND_BACK_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class _Exchange:
    """What is wanted of one peer, and the task that gets it."""

    peer: Peer
    orders: queue.SimpleQueue[list[SmallRequest]] = field(
        default_factory=queue.SimpleQueue
    )
    gathered: list[SmallRequest] = field(default_factory=list)
    requests: set[SmallRequest] = field(default_factory=set)
    connection: Connection | None = None
    task: asyncio.Task[None] | None = None


class SmallFetcher:
    """Fetches what can be had with one question and one answer."""

    def __init__(self, context: LeecherContext) -> None:
        self._context = context
        self._pool = ThreadPoolExecutor(
            context.limits.small_threads_max, "caravan-small"
        )
        self._loop = asyncio.get_running_loop()
        self._exchanges: dict[Peer, _Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._searching: set[asyncio.Task[Any]] = set()
        self._under_way: dict[Digest, SmallRequest] = {}
        self._closed = False
        self.bytes_received = 0

    def __len__(self) -> int:
        """Return how many artifacts are under way."""
        return len(self._under_way)

    async def fetch(
        self, wanted: Wanted, peers: Iterable[Peer], banned: Banned
    ) -> Given | None:
        """Ask the peers in turn; None if the swarm has to.

        Peers that lie are added to `banned`. Raises StoreError or ClosedError.
        """
        for peer in self._in_turn(wanted, peers, banned)[:_PEERS_MAX]:
            outcome = await self._future(wanted, peer)
            if isinstance(outcome, Artifact):
                return Given(outcome, peer)
            if isinstance(outcome, StoreError):
                raise outcome
            if isinstance(outcome, BadChunkError | WireError):
                banned.add(peer, outcome)
            if isinstance(outcome, LargerError):
                await self._hand_back(peer)
                break
            if outcome is None:
                break
        return None

    async def fetch_as_found(
        self, wanted: Wanted, peers: AsyncIterator[Peer], banned: Banned
    ) -> tuple[Given | None, AsyncIterator[Peer]]:
        """Ask the peers as they are found; return as well those left for the swarm.

        Raises StoreError, or ClosedError also while nobody is found.
        """
        with self._searching_task():
            return await self._fetch_as_found(wanted, peers, banned)

    async def fetch_together(
        self, wanted: Sequence[Wanted], peers: AsyncIterator[Peer], on_given: OnGiven
    ) -> None:
        """Ask a few peers, as they are found, for all of these.

        What nobody of them gives is left. Raises StoreError or ClosedError.
        """
        session = SmallSession(
            [one for one in wanted if one.may_be_small],
            context=self._context,
            order=self._future,
            on_given=on_given,
        )
        with self._searching_task():
            await session.run(peers)

    @contextlib.contextmanager
    def _searching_task(self) -> Iterator[None]:
        """Have the current task end with ClosedError when the fetcher is closed."""
        task = asyncio.current_task()
        if task is None:
            raise ClosedError
        self._searching.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._closed and not task.uncancel():
                raise ClosedError from None
            raise
        finally:
            self._searching.discard(task)

    async def _fetch_as_found(
        self, wanted: Wanted, peers: AsyncIterator[Peer], banned: Banned
    ) -> tuple[Given | None, AsyncIterator[Peer]]:
        seen: list[Peer] = []
        try:
            async with asyncio.timeout(self._context.limits.patience_seconds):
                async for peer in peers:
                    seen.append(peer)
                    given = await self.fetch(wanted, [peer], banned)
                    if given is not None or len(seen) == _PEERS_MAX:
                        return given, _again(seen, peers)
                    if not self._is_usable(wanted, peer, banned):
                        break
        except TimeoutError:
            raise NoPeerError(
                "No peer was found or sent anything within"
                f" {self._context.limits.patience_seconds:g} s."
            ) from None
        return None, _again(seen, peers)

    async def close(self) -> None:
        """End all exchanges; callers get ClosedError."""
        self._closed = True
        for task in self._searching:
            task.cancel()
        for exchange in self._exchanges.values():
            if exchange.connection is not None:
                exchange.connection.channel.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.shutdown()

    def _in_turn(
        self, wanted: Wanted, peers: Iterable[Peer], banned: Banned
    ) -> list[Peer]:
        """Return the peers that may be asked, those with least to do first."""
        usable = [peer for peer in peers if self._is_usable(wanted, peer, banned)]
        if len(usable) > 1:
            usable.sort(key=self._load)
        return usable

    def _is_usable(self, wanted: Wanted, peer: Peer, banned: Banned) -> bool:
        """Whether asking it costs no more than a question, or is worth more."""
        if peer in banned or not wanted.may_be_small:
            return False
        if peer in self._exchanges:
            return True
        if self._context.backoff.includes(peer):
            return False
        return wanted.size is not None or self._context.connections.is_warm(peer)

    def _load(self, peer: Peer) -> int:
        exchange = self._exchanges.get(peer)
        return 0 if exchange is None else len(exchange.requests)

    def _future(self, wanted: Wanted, peer: Peer) -> asyncio.Future[Outcome]:
        """Ask one peer, or wait with others who have asked for the same."""
        if self._closed:
            raise ClosedError
        request = self._under_way.get(wanted.digest)
        if request is None or request.is_given_up:
            request = SmallRequest(wanted.digest, wanted.small_bytes_max)
            self._under_way[wanted.digest] = request
            self._order(request, peer)
        future: asyncio.Future[Outcome] = self._loop.create_future()
        request.waiting.append(future)
        return future

    async def _hand_back(self, peer: Peer) -> None:
        """Let an idle exchange end first, so that its connection serves the swarm."""
        exchange = self._exchanges.get(peer)
        if exchange is not None and not exchange.requests and exchange.task is not None:
            await asyncio.wait([exchange.task], timeout=_HAND_BACK_SECONDS)

    def _order(self, request: SmallRequest, peer: Peer) -> None:
        exchange = self._exchanges.get(peer)
        if exchange is None:
            exchange = self._exchanges[peer] = _Exchange(peer)
            exchange.task = task = self._loop.create_task(self._run(exchange))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        exchange.requests.add(request)
        if not exchange.gathered:
            self._loop.call_soon(self._hand_over, exchange)
        exchange.gathered.append(request)

    def _hand_over(self, exchange: _Exchange) -> None:
        """Give a thread what was gathered in this turn of the event loop."""
        if exchange.gathered:
            exchange.orders.put(exchange.gathered)
            exchange.gathered = []

    async def _run(self, exchange: _Exchange) -> None:
        """Converse with one peer until nothing is wanted of it."""
        try:
            while exchange.requests:
                await self._run_once(exchange)
        finally:
            del self._exchanges[exchange.peer]
            left = ClosedError() if self._closed else None
            for request in list(exchange.requests):
                self._deliver(exchange, request, left)

    async def _run_once(self, exchange: _Exchange) -> None:
        """Converse over one connection; settle what it owes if it fails."""
        connections = self._context.connections
        try:
            async with asyncio.timeout(self._context.limits.opening_soft_seconds):
                connection = await connections.open(exchange.peer)
        except (PeerError, OSError) as error:
            log.info("%s could not be asked for small ones: %s", exchange.peer, error)
            self._back_off(exchange, exchange.requests)
            return
        batch = SmallBatch(
            connection,
            orders=exchange.orders,
            context=self._context,
            deliver=lambda results: self._from_thread(exchange, results),
        )
        exchange.connection = connection
        try:
            await self._in_thread(batch)
        except BadChunkError as bad:
            connections.complain(connection, bad.number, bad.index)
            self._try_again(exchange, batch.left())
        except (TransferError, OSError) as error:
            connection.channel.close()
            log.info("%s failed for small artifacts: %s", exchange.peer, error)
            if isinstance(error, PeerGoneError | ConnectionError):
                self._try_again(exchange, batch.left())
            else:
                if isinstance(error, WireError):
                    for request in batch.left():
                        self._deliver(exchange, request, error)
                self._back_off(exchange, exchange.requests)
        except Exception:
            connection.channel.close()
            log.exception("small artifacts of %s failed", exchange.peer)
            self._back_off(exchange, exchange.requests)
        except BaseException:
            connection.channel.close()
            raise
        else:
            connections.release(connection)
        finally:
            exchange.connection = None

    async def _in_thread(self, batch: SmallBatch) -> None:
        future = self._loop.run_in_executor(self._pool, batch.run)
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])  # its channel has been aborted
            if not future.cancelled():
                future.exception()
            raise

    def _try_again(self, exchange: _Exchange, requests: list[SmallRequest]) -> None:
        """Order once more, over another connection, what has not failed before."""
        again = []
        for request in requests:
            request.tries += 1
            if request.tries < _TRIES_MAX:
                again.append(request)
            else:
                self._deliver(exchange, request, None)
        if again:
            exchange.orders.put(again)

    def _back_off(self, exchange: _Exchange, requests: Iterable[SmallRequest]) -> None:
        """Ask this peer no more for a while, and let others be asked."""
        self._context.backoff.start(exchange.peer)
        exchange.gathered = []
        exchange.orders = queue.SimpleQueue()
        for request in list(requests):
            self._deliver(exchange, request, PeerError())

    def _from_thread(
        self, exchange: _Exchange, results: list[tuple[SmallRequest, Outcome]]
    ) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closed
            self._loop.call_soon_threadsafe(self._deliver_all, exchange, results)

    def _deliver_all(
        self, exchange: _Exchange, results: list[tuple[SmallRequest, Outcome]]
    ) -> None:
        for request, outcome in results:
            self._deliver(exchange, request, outcome)

    def _deliver(
        self, exchange: _Exchange, request: SmallRequest, outcome: Outcome | ClosedError
    ) -> None:
        """Give the outcome to all callers that wait for it."""
        exchange.requests.discard(request)
        if isinstance(outcome, Artifact):
            self.bytes_received += outcome.size
        if self._under_way.get(request.digest) is request:
            del self._under_way[request.digest]
        for future in request.waiting:
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
