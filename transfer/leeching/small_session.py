"""Many small artifacts of the same few peers, without a search for each.

Files that are fetched together mostly lie with the same peers. So those that offer one
of them are asked for all, as in a session of Bitswap. What they do not have costs a
question, and is left to a download of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.content.artifact import Artifact
from transfer.errors import (
    AbsentError,
    BadChunkError,
    LargerError,
    PeerSlowError,
    StoreError,
    WireError,
)
from transfer.leeching.result import Given

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from transfer.connection.peer import Peer
    from transfer.content.digest import Digest
    from transfer.leeching.context import LeecherContext
    from transfer.leeching.small_batch import Outcome
    from transfer.leeching.wanted import Wanted

    OnGiven = Callable[[dict[Digest, Given]], None]
    Order = Callable[[Wanted, Peer], asyncio.Future[Outcome]]

_PEERS_MAX = 8
_AT_ONCE = 64
"""How many artifacts one turn orders of a peer."""
_TURNS = 2
"""While the outcome of one turn is looked at, the peer sends for another."""


@dataclass(slots=True)
class _Asked:
    """What one peer was asked for."""

    digests: set[Digest] = field(default_factory=set)
    turns: int = 0
    """How many are under way."""
    fails: bool = False
    """Whether it is asked no more."""

    def lacks_some(self, left: Iterable[Wanted]) -> bool:
        """Whether there is something to ask it for."""
        return not self.fails and any(one.digest not in self.digests for one in left)


class SmallSession:
    """Asks peers for all that is wanted, each for what the others have not given."""

    def __init__(
        self,
        wanted: Iterable[Wanted],
        *,
        context: LeecherContext,
        order: Order,
        on_given: OnGiven,
    ) -> None:
        """`order` asks a peer for one artifact; `on_given` gets what has come."""
        self._left = deque(wanted)
        self._context = context
        self._order = order
        self._on_given = on_given
        self._asked: dict[Peer, _Asked] = {}
        self._turns: set[asyncio.Task[None]] = set()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, peers: AsyncIterator[Peer]) -> None:
        """Ask the peers as they are found, until none of them can give more.

        Raises StoreError or ClosedError.
        """
        search = asyncio.create_task(self._search(peers))
        search.add_done_callback(self._ended)
        try:
            await self._over
        finally:
            tasks = [search, *self._turns]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Be over with the last turn, or with a search that has found nobody."""
        self._turns.discard(task)
        if self._over.done():
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            self._over.set_exception(error)
        elif not self._turns:
            self._over.set_result(None)

    async def _search(self, peers: AsyncIterator[Peer]) -> None:
        async for peer in peers:
            if peer in self._asked or self._context.backoff.includes(peer):
                continue
            self._asked[peer] = _Asked()
            self._start_turns()
            if len(self._asked) == _PEERS_MAX:
                return

    def _start_turns(self) -> None:
        """Have each peer asked for what is left and it was not asked for."""
        for peer, asked in self._asked.items():
            while asked.turns < _TURNS and asked.lacks_some(self._left):
                asked.turns += 1
                turn = asyncio.create_task(self._turn(peer, asked, self._next(asked)))
                self._turns.add(turn)
                turn.add_done_callback(self._ended)

    def _next(self, asked: _Asked) -> list[Wanted]:
        """Take some of what is left that this peer was not asked for yet."""
        part: list[Wanted] = []
        skipped: list[Wanted] = []
        while self._left and len(part) < _AT_ONCE:
            one = self._left.popleft()
            (skipped if one.digest in asked.digests else part).append(one)
        self._left.extend(skipped)
        asked.digests.update(one.digest for one in part)
        return part

    async def _turn(self, peer: Peer, asked: _Asked, part: list[Wanted]) -> None:
        """Order of one peer until it has been asked for all, or fails."""
        try:
            while part:
                orders = [self._order(one, peer) for one in part]
                outcomes = await self._outcomes(orders)
                pairs = list(zip(part, outcomes, strict=True))
                self._sort_out(peer, asked, pairs)
                part = [] if asked.fails else self._next(asked)
        finally:
            asked.turns -= 1
        # What this one did not give may be left for others that had nothing to do.
        self._start_turns()

    async def _outcomes(self, orders: list[asyncio.Future[Outcome]]) -> list[Outcome]:
        """Wait for the outcomes, of one that gives hardly a byte not for long."""
        limits = self._context.limits
        window = limits.pace_window_seconds
        least = limits.bytes_per_second_min * window
        try:
            had, pending = 0, set(orders)
            while pending:
                _, pending = await asyncio.wait(orders, timeout=window)
                has = sum(map(_bytes_given, orders))
                if has - had < least:
                    break
                had = has
        finally:
            for one in orders:
                one.cancel()
        return [PeerSlowError() if one.cancelled() else one.result() for one in orders]

    def _sort_out(
        self, peer: Peer, asked: _Asked, outcomes: list[tuple[Wanted, Outcome]]
    ) -> None:
        """Report what has come; return to the others what has not."""
        given: dict[Digest, Given] = {}
        for wanted, outcome in outcomes:
            if isinstance(outcome, Artifact):
                given[wanted.digest] = Given(outcome, peer)
            elif isinstance(outcome, StoreError):
                raise outcome
            elif not isinstance(outcome, LargerError):
                self._left.append(wanted)
                asked.fails |= not isinstance(outcome, AbsentError)
            if isinstance(outcome, BadChunkError | WireError):
                self._context.bans.record(peer, wanted.digest, str(outcome))
        if given:
            self._on_given(given)


def _bytes_given(order: asyncio.Future[Outcome]) -> int:
    """Return how many bytes an order has brought by now."""
    if not order.done() or order.cancelled() or order.exception() is not None:
        return 0
    outcome = order.result()
    return outcome.size if isinstance(outcome, Artifact) else 0
