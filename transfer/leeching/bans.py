"""Peers that lied, and peers that fail: one policy for downloads of every size.

A peer that sends what is not right is banned for that artifact, for as long as the
download runs, at its first lie. A peer that fails is not blamed; it backs off for a
while, and others are asked first.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from transfer.limits import BACKOFF_PEERS_MAX, BACKOFF_SECONDS, BAD_PEERS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from transfer.connection.peer import Peer
    from transfer.content.digest import Digest

log = logging.getLogger(__name__)


class Banned:
    """The peers that are banned for one artifact, by key or else by address."""

    def __init__(self, digest: Digest, bans: Bans) -> None:
        self._digest = digest
        self._bans = bans
        self._sources: set[Hashable] = set()

    def __bool__(self) -> bool:
        return bool(self._sources)

    def __contains__(self, peer: Peer) -> bool:
        return peer.source in self._sources

    def add(self, peer: Peer, why: Exception) -> None:
        """Ban a peer for what it did."""
        self._sources.add(peer.source)
        self._bans.record(peer, self._digest, str(why))

    def update(self, other: Banned) -> None:
        """Ban as well what another caller for the same artifact has banned."""
        self._sources |= other._sources


class Bans:
    """The peers that were banned last, each with what it did, for people."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def of(self, digest: Digest) -> Banned:
        """Return an empty list of bans for one artifact."""
        return Banned(digest, self)

    def record(self, peer: Peer, digest: Digest, why: str) -> None:
        """Remember that a peer was banned for an artifact."""
        log.warning("%s is banned for %s: %s", peer, digest, why)
        self._reasons.pop(str(peer), None)
        self._reasons[str(peer)] = f"{digest.short()}: {why}"
        while len(self._reasons) > BAD_PEERS_MAX:
            del self._reasons[next(iter(self._reasons))]

    def reasons(self) -> dict[str, str]:
        """Return what each did last, by its address; the latest comes last."""
        return dict(self._reasons)


class BackOff:
    """Peers that failed a short while ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[Peer, float] = {}

    def start(self, peer: Peer) -> None:
        """Let a peer back off from now on."""
        self._until.pop(peer, None)
        self._until[peer] = self._clock() + BACKOFF_SECONDS
        while len(self._until) > BACKOFF_PEERS_MAX:
            del self._until[next(iter(self._until))]

    def end(self, peer: Peer) -> None:
        """Learn that a peer serves again."""
        self._until.pop(peer, None)

    def includes(self, peer: Peer) -> bool:
        """Whether a peer backs off now."""
        return bool(self._until) and self._until.get(peer, 0.0) > self._clock()
