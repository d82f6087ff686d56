"""How long lanes take, and how much is therefore asked of one: pure arithmetic."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transfer.leeching.peer_state import PeerState
    from transfer.limits import LeecherLimits

_SWIFT_BYTES_PER_SECOND = 40e6
_UNHURRIED_SECONDS = 0.1
_UNHURRIED_TRIPS = 20
_ON_TIME_SECONDS = 0.25


def typical_seconds(lanes: Iterable[PeerState]) -> float:
    """Return how long a chunk usually takes, 0 where nobody knows."""
    times = [lane.chunk_seconds for lane in lanes]
    known = [seconds for seconds in times if seconds is not None]
    return statistics.median(known) if known else 0.0


def is_slow(lanes: Iterable[PeerState], chunk_size: int) -> bool:
    """Whether links bound this, so that variety is worth more than order."""
    times = [lane.chunk_seconds for lane in lanes]
    rate = sum(chunk_size / max(one, 1e-6) for one in times if one is not None)
    return rate < _SWIFT_BYTES_PER_SECOND


def is_on_time(lane: PeerState, now: float) -> bool:
    """Whether a lane gives what is asked of it about as fast as it did."""
    if lane.chunk_seconds is None or lane.rest_until > now:
        return False
    patience = max(_ON_TIME_SECONDS, 4 * lane.chunk_seconds)
    return now - lane.waits_since(now) < patience


def depth(lane: PeerState, limits: LeecherLimits, chunk_size: int, share: int) -> int:
    """Return how many chunks may be asked at once of a lane.

    As many as fill its path twice, and of few that are left a fair share.
    """
    wanted = 2
    if lane.chunk_seconds is not None:
        quick = max(_UNHURRIED_SECONDS, _UNHURRIED_TRIPS * lane.round_trip)
        if lane.chunk_seconds > quick:
            return 1  # slow, but not far: asking ahead would only bind chunks
        wanted += int(2 * lane.round_trip / max(lane.chunk_seconds, 1e-4))
    most = min(
        limits.requests_per_peer_max, max(limits.request_bytes_max // chunk_size, 2)
    )
    return max(min(wanted, most, max(share, 1) + 1), 1)
