"""Those who download one artifact from one seeder at the same time.

They are told of each other, and the seeder, which nobody can replace yet, sends each
chunk to one of them before it sends any chunk to two: what another one was given, it
can pass on. Who asks for such a chunk is sent to the others once and gets it, if it
still wants it from here, at the second time.
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
_SWIFT_BYTES_PER_SECOND = 40e6
_SENDINGS = 8


@dataclass(slots=True, eq=False)
class SwarmPeer:
    """One leecher's request, and what it was given and told."""

    company: SeedingSwarm
    host: str
    """Where its connection comes from."""
    public_key: bytes
    peer: Peer | None
    """Where it serves what it has verified; None where it does not."""
    given: bytearray
    """1 for each chunk that it was sent and can pass on."""
    declined: bytearray
    """1 for each chunk that it was sent to the others for."""
    told: set[Peer] = field(default_factory=set)
    told_at: float = 0.0
    version: int = 0
    """The company's version that it has heard of."""

    def leave(self) -> None:
        """Be no longer told of others, nor named to them."""
        self.company.leave(self)

    def has_news(self, now: float) -> bool:
        """Whether others came that it has not been told of; not too often."""
        heard = self.version == self.company.version
        return not heard and now >= self.told_at + _NEWS_SECONDS

    def news(self, now: float) -> list[Peer]:
        """Return some that it was not told of; they count as told."""
        return self.company.news(self, now)

    def take(self, index: int) -> bytes | None:
        """Decide to send it a chunk (None), or return what others were given."""
        return self.company.take(self, index, time.monotonic())


class SeedingSwarm:
    """The requests for one artifact and manifest at one seeder."""

    def __init__(self, count: int, chunk_size: int, deserted: Callable[[], None]):
        self.version = 0
        """Grows with every member that serves."""
        self._lock = threading.Lock()
        self._count = count
        self._chunk_size = chunk_size
        self._deserted = deserted
        self._members: set[SwarmPeer] = set()
        self._copies: Counter[int] = Counter()
        """How many members that are here and serve were given each chunk."""
        self._sendings: deque[float] = deque(maxlen=_SENDINGS)

    def enter(self, host: str, public_key: bytes, port: int) -> SwarmPeer:
        """Take in a request of a leecher that serves on `port`, 0 for nowhere."""
        peer = peer_seen(host, port, public_key)
        nothing = bytearray(self._count), bytearray(self._count)
        member = SwarmPeer(self, host, public_key, peer, *nothing)
        with self._lock:
            self._members.add(member)
            self.version += member.peer is not None
        return member

    def leave(self, member: SwarmPeer) -> None:
        """Forget a request, and what its leecher could have passed on."""
        with self._lock:
            self._members.discard(member)
            self._copies.subtract(
                index for index, one in enumerate(member.given) if one
            )
            self._copies = +self._copies
            member.given = bytearray(self._count)
            deserted = not self._members
        if deserted:
            self._deserted()

    @property
    def is_deserted(self) -> bool:
        """Whether nobody is here any more."""
        return not self._members

    def news(self, member: SwarmPeer, now: float) -> list[Peer]:
        """Return some that this member was not told of; they count as told."""
        with self._lock:
            member.told_at = now
            known = reach(member.host)
            others = {
                other.peer
                for other in self._members
                if other.peer is not None
                and other.public_key != member.public_key
                and reach(other.peer.host) <= known
            } - member.told
            chosen = list(others)
            if len(others) > PEX_PEERS_PER_MESSAGE_MAX:
                chosen = random.sample(chosen, PEX_PEERS_PER_MESSAGE_MAX)
            else:
                member.version = self.version
            member.told.update(chosen)
            return chosen

    def take(self, member: SwarmPeer, index: int, now: float) -> bytes | None:
        """Let a member have a chunk (None), or return what others were given."""
        with self._lock:
            if (
                self._copies[index]
                and not (member.given[index] or member.declined[index])
                and len(self._copies) < self._count
                and not self._is_swift(now)
            ):
                member.declined[index] = 1
                elsewhere = bytearray(self._count)
                for given, copies in self._copies.items():
                    elsewhere[given] = copies > member.given[given]
                return bitmap.pack(elsewhere)
            self._sendings.append(now)
            if member.peer is not None and not member.given[index]:
                member.given[index] = 1
                self._copies[index] += 1
            return None

    def _is_swift(self, now: float) -> bool:
        """Whether chunks go out so fast that to send one twice costs little."""
        if len(self._sendings) < _SENDINGS:
            return False
        seconds = max(now - self._sendings[0], 1e-6)
        return _SENDINGS * self._chunk_size / seconds > _SWIFT_BYTES_PER_SECOND


class SeedingSwarms:
    """All companies of one seeder; they come and go with their members."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._companies: dict[Hashable, SeedingSwarm] = {}

    def enter(
        self,
        name: Hashable,
        count: int,
        chunk_size: int,
        host: str,
        public_key: bytes,
        port: int,
    ) -> SwarmPeer:
        """Take in a request for what has this name, and so many chunks."""
        with self._lock:
            company = self._companies.get(name)
            if company is None:
                drop = functools.partial(self._drop, name)
                company = SeedingSwarm(count, chunk_size, drop)
                self._companies[name] = company
            return company.enter(host, public_key, port)

    def _drop(self, name: Hashable) -> None:
        with self._lock:
            company = self._companies.get(name)
            if company is not None and company.is_deserted:
                del self._companies[name]
