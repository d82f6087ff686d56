"""Limits failed connection attempts per address, and forgets them at a sign of life.

Anybody may have a leecher dial some address, by an announcement or as a seeder's word.
So that this cannot be aimed at a stranger, an address that did not turn out to be the
peer it was named as is dialled ten times an hour and no more, those dials included
that are still under way.

A peer that was found at its address answers for itself alone: what others with false
keys made of its address does not count against it. Where it is away, the pause between
two dials grows from a second to a minute and no further, so that it is used again
soon after it is back. Either count ends at a sign of life: a message from the peer's
key at that IP address, proven since the last failure.
"""

from __future__ import annotations

import enum
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transfer.connection.peer import Peer
from transfer.limits import (
    DIAL_PAUSE_SECONDS_MAX,
    DIALS_PER_HOUR_MAX,
    DIALS_REMEMBERED_MAX,
    DIALS_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def never_heard(peer: Peer) -> float:
    """Know of no sign of life."""
    del peer
    return -math.inf


_FREE_FAILURES = 3
"""A peer that restarts refuses a few times, and comes back within a second."""


class Permission(enum.Enum):
    """Whether an address may be dialled."""

    NOW = "now"
    LATER = "when a dial that is under way has ended"
    NEVER = "not now"


@dataclass(frozen=True, slots=True)
class _Failures:
    """Failed dials: when the first was, how many, and when the last was."""

    began: float
    count: int
    last: float


class DialLimiter:
    """Counts what failed and what is under way, by IP address and port."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        heard: Callable[[Peer], float] = never_heard,
    ) -> None:
        """`heard` says when a peer's key last gave a sign of life at its address.

        It is a time of `clock`, minus infinity where there was none.
        """
        self._clock = clock
        self._heard = heard
        self._failed: dict[Peer, _Failures] = {}
        self._under_way: dict[Peer, Counter[Peer]] = {}
        self._met: dict[Peer, None] = {}

    def permission(self, peer: Peer) -> Permission:
        """Whether a peer may be dialled now."""
        blamed = self._blamed(peer)
        failures = self._failures(blamed)
        if failures is not None and self._heard(peer) > failures.last:
            del self._failed[blamed]
            failures = None
        if peer in self._met:
            if failures is None:
                return Permission.NOW
            is_over = self._clock() - failures.last >= _pause(failures.count)
            return Permission.NOW if is_over else Permission.NEVER
        failed = failures.count if failures is not None else 0
        if failed >= DIALS_PER_HOUR_MAX:
            return Permission.NEVER
        under_way = self._under_way.get(_address(peer))
        if under_way is None or failed + under_way.total() < DIALS_PER_HOUR_MAX:
            return Permission.NOW
        # The same peer, for another download: it is likely to be there. Other keys
        # at one address are not likely to be more than that.
        return Permission.LATER if under_way[peer] else Permission.NEVER

    def begin(self, peer: Peer) -> None:
        """Note that a peer is being dialled."""
        self._under_way.setdefault(_address(peer), Counter())[peer] += 1

    def end(self, peer: Peer, *, found: bool | None) -> None:
        """Note that a dial has ended; `found` is None where it was not let finish."""
        address, blamed = _address(peer), self._blamed(peer)
        under_way = self._under_way[address]
        under_way[peer] -= 1
        if under_way.total() == 0:
            del self._under_way[address]
        if found:
            self._failed.pop(blamed, None)
            self._met.pop(peer, None)
            self._met[peer] = None
            _trim(self._met)
        elif found is not None:
            now = self._clock()
            last = self._failed.pop(blamed, None) or _Failures(now, 0, now)
            self._failed[blamed] = _Failures(last.began, last.count + 1, now)
            _trim(self._failed)

    def _blamed(self, peer: Peer) -> Peer:
        """Return what failures count against: the peer itself once it was met."""
        return peer if peer in self._met else _address(peer)

    def _failures(self, blamed: Peer) -> _Failures | None:
        failures = self._failed.get(blamed)
        if failures is None:
            return None
        # A stranger's hour begins with its first failure; a peer that was met is
        # forgotten an hour after the last.
        start = failures.last if blamed in self._met else failures.began
        if self._clock() - start >= DIALS_SECONDS:
            del self._failed[blamed]
            return None
        return failures


def _pause(failed: int) -> float:
    """Return the seconds to wait after so many failures: 0, 0, 1, 2, 4 up to 60."""
    if failed < _FREE_FAILURES:
        return 0.0
    return min(2.0 ** min(failed - _FREE_FAILURES, 16), DIAL_PAUSE_SECONDS_MAX)


def _address(peer: Peer) -> Peer:
    return Peer(peer.host, peer.port)


def _trim(remembered: dict[Peer, Any]) -> None:
    while len(remembered) > DIALS_REMEMBERED_MAX:
        del remembered[next(iter(remembered))]
