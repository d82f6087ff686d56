"""Notices that this machine is somewhere else: other addresses, or a suspend."""

from __future__ import annotations

import math

POLL_SECONDS = 5.0
"""The own address is looked at that often."""
SUSPEND_SECONDS = 10.0
"""A pause of the process beyond the poll that counts as a suspend."""
MOVES_SECONDS_MIN = 15.0
"""Between two announcements of everything because of changed addresses."""


class Moves:
    """Notices that this machine is somewhere else, or was away; a plain object.

    A machine that was suspended may have been carried elsewhere, and what routers and
    other nodes knew of it is gone, so that counts as well. One more address is no
    move: what was announced of the others is still true.
    """

    def __init__(self) -> None:
        self._hosts: frozenset[str] = frozenset()
        self._looked_at: float | None = None
        self._moved_at = -math.inf
        self._is_news = False

    def has_moved(self, hosts: frozenset[str], now: float) -> bool:
        """Note the own addresses at a time (Unix seconds); whether to announce all.

        No address at all, as with a cable that is out, is no place. Where addresses
        come and go, everything is announced once in 15 s at most.
        """
        last, self._looked_at = self._looked_at, now
        was_away = last is not None and now - last > POLL_SECONDS + SUSPEND_SECONDS
        if not hosts:
            return False
        before, self._hosts = self._hosts, hosts
        if before and (was_away or before - hosts):
            self._is_news = True
        if not self._is_news or 0 <= now - self._moved_at < MOVES_SECONDS_MIN:
            return False
        self._is_news, self._moved_at = False, now
        return True


def own_hosts(listen: list[str]) -> frozenset[str]:
    """Return the addresses of this machine at which a node that listens is met."""
    from node.reach.links import links

    return frozenset(host for link in links(listen) for host in link.hosts)
