"""Budgets: how much costly work others can have this node do, and whose is shed first.

1. Work that precedes a verification is charged to the sender, because the sender's
   address is all that is known. Work that follows one is charged to the verified key
   (a publisher, say): before, a stranger could spend it in its name.
2. Three kinds of senders have pools of their own, so that one cannot starve another:
   contacts of the routing table (counted by key), addresses that echoed a token of
   this node (they receive what is sent to them), and addresses that are only claimed
   (a datagram's source can be forged).
3. Each source has a rate. A source is an IPv4 /24 or IPv6 /64, in loopback and
   private ranges an IP (`Address.source`).
4. Each pool has a total over all sources. Below half of its burst it sheds the newest
   strangers first: a source must have been known for the longer, the less is left. A
   flood's sources are newer than those of the nodes that were there before it.
5. The memory of sources is bounded; when it is full, one of the largest prefix goes
   (`dht.prefix_tree`), so that a flood from one network forgets only itself.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.bounded import BoundedDict
from dht.limits import (
    BUDGET_SOURCES_MAX,
    BUDGET_TOTAL_BURST_SECONDS,
    SHED_AGE_SECONDS,
)
from dht.prefix_tree import Path, PrefixTree

if TYPE_CHECKING:
    from dht.addresses import Address

_KEYS_MAX: Final = 4096


class Standing(enum.Enum):
    """What is known of the sender of a datagram."""

    TABLED = "a contact of the routing table"
    ECHOED = "its address has echoed a token"
    CLAIMED = "the source address may be forged"


class Sender(NamedTuple):
    """Who is charged for the work that a datagram causes."""

    address: Address
    standing: Standing
    public_key: bytes  # a claim, unless tabled

    @property
    def path(self) -> Path:
        """The prefix path that bounded stores count; tabled contacts by their key."""
        path = self.address.path
        if self.standing is Standing.TABLED:
            return (b"tabled", *path[1:], self.public_key)
        return path


class TokenBuckets:
    """Lets each name do something so often a second, with a burst.

    At most 4,096 names are remembered; a forgotten one starts afresh.
    """

    __slots__ = ("_burst", "_levels", "_rate")

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate = per_second
        self._burst = burst
        self._levels: BoundedDict[bytes, tuple[float, float]] = BoundedDict(_KEYS_MAX)

    def consume(self, name: bytes, now: float) -> bool:
        """Whether the name may do it now; if so, one token is gone."""
        left, since = self._levels.get(name, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        allowed = left >= 1.0
        self._levels[name] = (left - 1.0 if allowed else left, now)
        return allowed


class _Source:
    """One source of a pool: its tokens, and since when it is known."""

    __slots__ = ("first_seen", "left", "path", "since")

    def __init__(self, path: Path, burst: float, now: float) -> None:
        self.path = path
        self.first_seen = now
        self.left = burst
        self.since = now


class _Pool:
    """The budget of one kind of senders: a rate for each, and a total."""

    __slots__ = ("_burst", "_rate", "_since", "_sources", "_total", "_tree", "left")

    def __init__(self, per_second: float, burst: float, total_per_second: float):
        self._rate = per_second
        self._burst = burst
        self._total = total_per_second
        self.left = total_per_second * BUDGET_TOTAL_BURST_SECONDS
        self._since = 0.0
        self._sources: dict[bytes, _Source] = {}
        self._tree: PrefixTree | None = None  # until there are too many

    def consume(self, name: bytes, path: Path, now: float) -> bool:
        """Whether a source may do it now; if so, it and the total are charged."""
        full = self._total * BUDGET_TOTAL_BURST_SECONDS
        self.left = min(full, self.left + (now - self._since) * self._total)
        self._since = now
        source = self._sources.get(name) or self._meet(name, path, now)
        left = source.left + (now - source.since) * self._rate
        source.left = min(self._burst, left)
        source.since = now
        lack = 1.0 - 2.0 * self.left / full  # 0 where half of the burst is left
        if lack >= 0.0 and now - source.first_seen <= lack * SHED_AGE_SECONDS:
            return False
        if source.left < 1.0 or self.left < 1.0:
            return False
        source.left -= 1.0
        self.left -= 1.0
        return True

    def _meet(self, name: bytes, path: Path, now: float) -> _Source:
        """Remember a source; forget one of the largest prefix if there are too many."""
        source = self._sources[name] = _Source(path, self._burst, now)
        if self._tree is not None:
            self._tree.add(path, 1)
        if len(self._sources) > BUDGET_SOURCES_MAX:
            self._forget_one()
        return source

    def _forget_one(self) -> None:
        """Forget a source of the largest prefix; amounts are kept from then on."""
        if self._tree is None:
            self._tree = PrefixTree()
            for source in self._sources.values():
                self._tree.add(source.path, 1)
        forgotten = self._tree.largest()
        self._tree.add(forgotten, -1)
        del self._sources[forgotten[-1]]


class SenderBudget:
    """How much of one kind of work senders can cause."""

    __slots__ = ("_pools", "_rates")

    def __init__(
        self, *, per_second: float, burst: float, total_per_second: float
    ) -> None:
        self._rates = (per_second, burst, total_per_second)
        self._pools: dict[Standing, _Pool] = {}

    def consume(self, sender: Sender, now: float) -> bool:
        """Whether the sender may have it done now; if so, it is charged."""
        address = sender.address
        if sender.standing is Standing.TABLED:
            name = sender.public_key
        else:
            name = address.source
        path = (*address.path[:-1], name)
        pool = self._pools.get(sender.standing)
        if pool is None:
            pool = self._pools[sender.standing] = _Pool(*self._rates)
        return pool.consume(name, path, now)
