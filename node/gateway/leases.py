"""Origin leases: the nodes of a site ask the origin once for all of them.

1. Who wants something from an origin registers it as an arrival and then asks its
   keepers for the lease (`dht.leases`). Whoever holds it asks the origin; the others
   follow what comes there, byte by byte.
2. What is followed counts for nothing before it is verified here. A holder that gives
   nothing for a second loses the lease to the node that says so, and one that gave
   wrong bytes is not followed again for a while.
3. Leases are between the nodes of a private network, or of one machine or local
   network. Pages have no digest: they come from members of a private network only.
4. Where nobody grants a lease, or too many holders failed, each node asks the origin.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol, Self

from node.gateway.bounded import RecentKeys
from transfer import GrowingFile, Peer
from transfer.arrivals import Arrival, Arrivals, HeldBytes
from transfer.leeching.following import Follower

DISTRUST_SECONDS = 300.0
"""How long a node is not followed after it gave wrong bytes."""
KEPT_SECONDS = 60.0
"""How long what was fetched once is passed on; as long as a lease lasts."""
KEPT_BYTES_MAX = 32 * 1024 * 1024
HOLDERS_MAX = 4
"""Followed one after the other, before the origin is asked without a lease."""


class LeaseRouting(Protocol):
    """What leases need of the content router."""

    @property
    def is_leased(self) -> bool:
        """Whether there are nodes to share leases with."""

    async def lease_holder(
        self, kind: str, name: bytes, failed: bytes | None
    ) -> Peer | None:
        """Return who else holds a lease; None where this node asks the origin."""


class Turn:
    """One node's part in bringing one content from its origin; a context manager."""

    def __init__(self, leases: OriginLeases, kind: str, name: bytes) -> None:
        self.kind = kind
        self.name = name
        self.leases = leases
        self._arrival: Arrival | None = None
        self._found: list[Peer | None] = []
        self._holders = 0

    def __enter__(self) -> Self:
        # Before the lease is asked for: a moment later others may follow.
        self._arrival = self.leases.arrivals.begin(self.kind, self.name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stand_down()

    def set_holder(self, holder: Peer | None) -> None:
        """Note what a search for providers has found out about the lease, too."""
        self._found = [holder]

    async def leader(self, failed: Peer | None = None) -> Peer | None:
        """Return whom to follow, or None where this node asks the origin.

        `failed` is one that was followed and gave nothing.
        """
        while True:
            self._holders += 1
            key = None if failed is None else failed.public_key
            holder = None
            if failed is None and self._found:
                holder = self.leases.counted(self._found.pop())
            elif self._holders <= HOLDERS_MAX:
                holder = await self.leases.holder(self.kind, self.name, key)
            if holder is None:
                if self._arrival is None:
                    self.__enter__()
                return None
            # Before another is followed: two that follow each other bring nothing.
            self._stand_down()
            if not self.leases.is_distrusted(holder):
                return holder
            failed = holder

    def begin(self, file: GrowingFile) -> None:
        """Let others follow what the origin sends to this node."""
        if self._arrival is not None and self._arrival.file is None:
            self._arrival.begin(file)

    def keep(self, content: HeldBytes) -> None:
        """Let others have this for a while, also after this turn is over."""
        if self._arrival is not None:
            self._arrival.begin(content)
            self.leases.keep(self, self._arrival)
            self._arrival = None

    def _stand_down(self) -> None:
        """Give others nothing to follow here."""
        if self._arrival is not None:
            self.leases.arrivals.end(self.kind, self.name, self._arrival)
            self._arrival = None


class OriginLeases:
    """Agrees with the other nodes of the site who asks an origin."""

    def __init__(
        self,
        *,
        router: LeaseRouting,
        arrivals: Arrivals,
        follower: Follower,
        is_enabled: bool = True,
        is_private: bool = False,
        has_pages: bool = False,
    ) -> None:
        """`is_private` says that all nodes are members of a private network.

        `has_pages` says whether pages are taken from them, and passed on.
        """
        self.arrivals = arrivals
        self.follower = follower
        self.is_private = is_private
        self.has_pages = has_pages and is_private and is_enabled
        self._router = router
        self._is_enabled = is_enabled
        self._kept: dict[tuple[str, bytes], tuple[Arrival, int]] = {}
        self._kept_bytes = 0
        self._distrusted: RecentKeys[bytes] = RecentKeys(DISTRUST_SECONDS)
        self.counts = {"held": 0, "followed": 0, "failed": 0}
        """How often this node held a lease, followed a holder, and in vain."""

    @property
    def is_on(self) -> bool:
        """Whether there are nodes to share leases with."""
        return self._is_enabled and self._router.is_leased

    def turn(self, kind: str, name: bytes) -> Turn:
        """Return this node's part in bringing something from an origin."""
        return Turn(self, kind, name)

    async def holder(self, kind: str, name: bytes, failed: bytes | None) -> Peer | None:
        """Return another node that holds a lease; None where the origin is asked."""
        return self.counted(await self._router.lease_holder(kind, name, failed))

    def counted(self, holder: Peer | None) -> Peer | None:
        """Return a holder, counted where it is this node."""
        if holder is None:
            self.counts["held"] += 1
        return holder

    def keep(self, turn: Turn, arrival: Arrival) -> None:
        """Keep an arrival for `KEPT_SECONDS`, or until there is too much."""
        key = (turn.kind, turn.name)
        size = 0 if arrival.file is None else arrival.file.size
        self._drop_kept(key)
        self._kept[key] = (arrival, size)
        self._kept_bytes += size
        while self._kept_bytes > KEPT_BYTES_MAX:
            self._drop_kept(next(iter(self._kept)))
        loop = asyncio.get_running_loop()
        loop.call_later(KEPT_SECONDS, self._drop_kept, key, arrival)

    def _drop_kept(
        self, key: tuple[str, bytes], arrival: Arrival | None = None
    ) -> None:
        """Forget what is kept under a key; only this arrival, where one is given."""
        kept = self._kept.get(key)
        if kept is not None and arrival in (None, kept[0]):
            del self._kept[key]
            self._kept_bytes -= kept[1]
            self.arrivals.end(*key, kept[0])

    def distrust(self, peer: Peer) -> None:
        """Follow a peer no more for a while: it gave wrong bytes."""
        if peer.public_key is not None:
            self._distrusted.add(peer.public_key, _now())

    def is_distrusted(self, peer: Peer) -> bool:
        """Whether a peer gave wrong bytes lately."""
        key = peer.public_key
        return key is not None and self._distrusted.has(key, _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
