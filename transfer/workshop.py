"""What all downloads of one leecher share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from transfer.connect import Connections
    from transfer.limits import LeecherLimits
    from transfer.rate import RateLimiter
    from transfer.store import Store


@dataclass(frozen=True, slots=True)
class Workshop:
    """Store, connections, threads and limits of a leecher."""

    store: Store
    connections: Connections
    pool: Executor
    hash_pool: Executor
    rate: RateLimiter
    limits: LeecherLimits
