"""How often one address is dialled in vain.

Anybody may have a leecher dial some address, by an announcement or as a seeder's word.
So that this cannot be aimed at a stranger, an address that did not turn out to be the
peer it was named as is dialled ten times an hour and no more, those dials included
that are still under way. A peer that was found at its address answers for itself
alone: what others with false keys made of its address does not count against it.
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from transfer.connection.peer import Peer
from transfer.limits import DIALS_PER_HOUR_MAX, DIALS_REMEMBERED_MAX, DIALS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


class Permission(enum.Enum):
    """Whether an address may be dialled."""

    NOW = "now"
    LATER = "when a dial that is under way has ended"
    NEVER = "not in this hour"


class DialLimiter:
    """Counts what failed and what is under way, by IP address and port."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[Peer, tuple[float, int]] = {}
        """When the hour of an address began, and how often it has failed since."""
        self._under_way: dict[Peer, Counter[Peer]] = {}
        self._met: dict[Peer, None] = {}

    def turn(self, peer: Peer) -> Permission:
        """Whether a peer may be dialled now."""
        failed = self._failures(self._blamed(peer))
        if failed >= DIALS_PER_HOUR_MAX:
            return Permission.NEVER
        under_way = self._under_way.get(_address(peer))
        if under_way is None or peer in self._met:
            return Permission.NOW
        if failed + under_way.total() < DIALS_PER_HOUR_MAX:
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
            began, count = self._failed.pop(blamed, (self._clock(), 0))
            self._failed[blamed] = (began, count + 1)
            _trim(self._failed)

    def _blamed(self, peer: Peer) -> Peer:
        """Return what failures count against: the peer itself once it was met."""
        return peer if peer in self._met else _address(peer)

    def _failures(self, blamed: Peer) -> int:
        began, count = self._failed.get(blamed, (0.0, 0))
        if count and self._clock() - began >= DIALS_SECONDS:
            del self._failed[blamed]
            return 0
        return count


def _address(peer: Peer) -> Peer:
    return Peer(peer.host, peer.port)


def _trim(remembered: dict[Peer, Any]) -> None:
    while len(remembered) > DIALS_REMEMBERED_MAX:
        del remembered[next(iter(remembered))]
