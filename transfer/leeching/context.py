"""What all downloads of one leecher share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from concurrent.futures import Executor

    from transfer.connection.rate_limit import RateLimiter
    from transfer.leeching.bans import BackOff, Bans
    from transfer.leeching.connection_pool import ConnectionPool
    from transfer.limits import LeecherLimits
    from transfer.store.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeecherContext:
    """Store, connections, threads and limits of a leecher."""

    store: Store
    connections: ConnectionPool
    pool: Executor
    hash_pool: Executor
    rate: RateLimiter
    limits: LeecherLimits
    bans: Bans
    backoff: BackOff
    port: int
    """Where this node serves what it downloads, 0 where it does not."""

    async def in_thread(self, work: Callable[[], T], over: threading.Event) -> T:
        """Run blocking work; when cancelled, set `over` and wait for its end."""
        future = asyncio.get_running_loop().run_in_executor(self.pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            over.set()
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise
