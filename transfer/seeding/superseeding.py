"""Super-seeding (after BEP 16): a seeder sends each chunk once before it repeats one.

The leechers of one artifact at one seeder form a swarm. While nobody else has the
whole, the seeder's upload is the bottleneck, and a chunk sent twice is a chunk that
another leecher could have passed on. BEP 16 hides chunks that were sent; here every
chunk stays visible and a leecher that asks for a sent one is redirected once. The
rules, applied by `decide` to each `get`:

1. A chunk counts as sent while a peer that was sent it is connected and serves, since
   only such a peer can pass it on. When the peer leaves, its chunks are unsent again.
2. An unsent chunk is sent.
3. A sent chunk is redirected: the answer lists all chunks that other peers of the
   swarm were sent, and the leecher asks them, whom peer exchange (BEP 11) has named.
4. A peer is redirected once for each chunk. If it asks again, it could not get the
   chunk elsewhere and is sent it: no peer starves because others are slow or lie.
5. Once every chunk is sent, nothing is redirected: copies are equally useful then.
6. If chunks leave faster than `_FAST_BYTES_PER_SECOND`, nothing is redirected: the
   detour would take longer than the second copy.

Peers hear of one another in batches, at most one every `_NEWS_SECONDS`; a swarm's
version tells whether there is anything new to say.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.connection.peer_exchange import peer_seen, reach
from transfer.content import bitmap
from transfer.limits import PEX_PEERS_PER_MESSAGE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from transfer.connection.peer import Peer

_NEWS_SECONDS = 0.5
_FAST_BYTES_PER_SECOND = 40e6
_SENDINGS = 8


@dataclass(slots=True, eq=False)
class SwarmPeer:
    """One leecher's request: what it was sent, and which peers it knows."""

    swarm: SeedingSwarm
    host: str
    """Where its connection comes from."""
    public_key: bytes
    peer: Peer | None
    """Where it serves what it has verified; None if it does not."""
    sent: bytearray
    """1 for each chunk that it was sent and can pass on."""
    redirected: bytearray
    """1 for each chunk that it was redirected for."""
    known: set[Peer] = field(default_factory=set)
    news_at: float = 0.0
    version: int = 0
    """The swarm's version up to which it knows all peers."""

    def leave(self) -> None:
        """Leave the swarm."""
        self.swarm.leave(self)

    def has_news(self, now: float) -> bool:
        """Whether there are peers to name to it, and it is time."""
        is_new = self.version != self.swarm.version
        return is_new and now >= self.news_at + _NEWS_SECONDS

    def news(self, now: float) -> list[Peer]:
        """Return peers that it does not know yet; they count as known."""
        return self.swarm.news(self, now)

    def decide(self, index: int) -> bytes | None:
        """Return None to send it a chunk, or the bitmap to redirect it with."""
        return self.swarm.decide(self, index, time.monotonic())


class SeedingSwarm:
    """The leechers of one artifact and manifest at one seeder; in any thread."""

    def __init__(self, count: int, chunk_size: int, on_empty: Callable[[], None]):
        self.version = 0
        """Grows with every peer that serves."""
        self._lock = threading.Lock()
        self._count = count
        self._chunk_size = chunk_size
        self._on_empty = on_empty
        self._peers: set[SwarmPeer] = set()
        self._copies: Counter[int] = Counter()
        """How many connected peers that serve were sent each chunk."""
        self._sendings: deque[float] = deque(maxlen=_SENDINGS)

    def join(self, host: str, public_key: bytes, port: int) -> SwarmPeer:
        """Add a request of a leecher that serves on `port`, 0 for nowhere."""
        peer = peer_seen(host, port, public_key)
        sent, redirected = bytearray(self._count), bytearray(self._count)
        swarm_peer = SwarmPeer(self, host, public_key, peer, sent, redirected)
        with self._lock:
            self._peers.add(swarm_peer)
            self.version += peer is not None
        return swarm_peer

    def leave(self, swarm_peer: SwarmPeer) -> None:
        """Remove a request; its chunks no longer count as sent."""
        with self._lock:
            self._peers.discard(swarm_peer)
            self._copies.subtract(
                index for index, sent in enumerate(swarm_peer.sent) if sent
            )
            self._copies = +self._copies
            swarm_peer.sent = bytearray(self._count)
            is_empty = not self._peers
        if is_empty:
            self._on_empty()

    @property
    def is_empty(self) -> bool:
        """Whether no leecher is left."""
        return not self._peers

    def news(self, swarm_peer: SwarmPeer, now: float) -> list[Peer]:
        """Return peers that this one does not know yet; they count as known."""
        with self._lock:
            swarm_peer.news_at = now
            own_reach = reach(swarm_peer.host)
            others = {
                other.peer
                for other in self._peers
                if other.peer is not None
                and other.public_key != swarm_peer.public_key
                and reach(other.peer.host) <= own_reach
            } - swarm_peer.known
            chosen = list(others)
            if len(others) > PEX_PEERS_PER_MESSAGE_MAX:
                chosen = random.sample(chosen, PEX_PEERS_PER_MESSAGE_MAX)
            else:
                swarm_peer.version = self.version
            swarm_peer.known.update(chosen)
            return chosen

    def decide(self, swarm_peer: SwarmPeer, index: int, now: float) -> bytes | None:
        """Return None to send a chunk, or the bitmap to redirect the peer with."""
        with self._lock:
            if (
                self._copies[index]
                and not (swarm_peer.sent[index] or swarm_peer.redirected[index])
                and len(self._copies) < self._count
                and not self._is_fast(now)
            ):
                swarm_peer.redirected[index] = 1
                elsewhere = bytearray(self._count)
                for sent, copies in self._copies.items():
                    elsewhere[sent] = copies > swarm_peer.sent[sent]
                return bitmap.pack(elsewhere)
            self._sendings.append(now)
            if swarm_peer.peer is not None and not swarm_peer.sent[index]:
                swarm_peer.sent[index] = 1
                self._copies[index] += 1
            return None

    def _is_fast(self, now: float) -> bool:
        """Whether chunks leave so fast that a second copy costs little."""
        if len(self._sendings) < _SENDINGS:
            return False
        seconds = max(now - self._sendings[0], 1e-6)
        return _SENDINGS * self._chunk_size / seconds > _FAST_BYTES_PER_SECOND


class SeedingSwarms:
    """All swarms of one seeder; an empty one is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._swarms: dict[Hashable, SeedingSwarm] = {}

    def join(
        self,
        name: Hashable,
        *,
        count: int,
        chunk_size: int,
        host: str,
        public_key: bytes,
        port: int,
    ) -> SwarmPeer:
        """Add a request for the artifact `name`, which has `count` chunks."""
        with self._lock:
            swarm = self._swarms.get(name)
            if swarm is None:
                drop = functools.partial(self._drop, name)
                swarm = SeedingSwarm(count, chunk_size, drop)
                self._swarms[name] = swarm
            return swarm.join(host, public_key, port)

    def _drop(self, name: Hashable) -> None:
        with self._lock:
            swarm = self._swarms.get(name)
            if swarm is not None and swarm.is_empty:
                del self._swarms[name]
