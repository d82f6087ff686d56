"""Reach: the address others see, and whether they can reach this node unasked.

Proven nodes report the address they saw. Reports are kept one per group (an IPv4
/24 or IPv6 /64), so that a single neighbour cannot outvote the rest. A node counts
as reachable towards loopback and private ranges at once, and towards public
addresses when the address they report is its own, or once a datagram arrives from a
host to which it has sent nothing for ten minutes. Until then it is read-only there.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING

from dht.addresses import Address, Scope
from dht.fairness import TtlSet
from dht.limits import (
    OBSERVED_REPORTS_MAX,
    OBSERVED_REPORTS_MIN,
    SENT_TO_HOSTS_MAX,
    SENT_TO_MEMORY_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Observed:
    """What proven nodes say of this node's own address, for one family."""

    __slots__ = ("_public_hosts", "_reports")

    def __init__(self) -> None:
        self._reports: OrderedDict[bytes, tuple[Address, Address]] = OrderedDict()
        self._public_hosts: Counter[str] = Counter()  # as public nodes report them

    def report(self, seen: Address, by: Address) -> None:
        """Note that a proven node at `by` saw this node at `seen`."""
        self._count(self._reports.pop(by.source, None), -1)
        self._reports[by.source] = (seen, by)
        self._count((seen, by), 1)
        if len(self._reports) > OBSERVED_REPORTS_MAX:
            self._count(self._reports.popitem(last=False)[1], -1)

    def address(self, scope: Scope | None = None) -> Address | None:
        """Return what most report, of one scope if it is given."""
        seen = Counter(
            address
            for address, _ in self._reports.values()
            if scope is None or address.scope is scope
        )
        if scope is None and any(a.scope is Scope.PUBLIC for a in seen):
            return self.address(Scope.PUBLIC)
        return seen.most_common(1)[0][0] if seen else None

    def contradicts(self, seen: Address, by: Address) -> bool:
        """Whether most others, at least three, report another IP than this one does.

        Only public reporters are compared. A node in the middle that passes on
        another's proof is found out by this: it is seen at the address that the
        liar has.
        """
        if by.scope is not Scope.PUBLIC:
            return False
        hosts = self._public_hosts
        if len(hosts) == 1 and seen.host in hosts:
            return False
        own = self._reports.get(by.source)
        total = hosts.total() - (own is not None)
        if total < OBSERVED_REPORTS_MIN:
            return False
        for host, votes in hosts.items():
            mine = own is not None and own[0].host == host
            if 2 * (votes - mine) > total:
                return host != seen.host
        return False

    def _count(self, report: tuple[Address, Address] | None, change: int) -> None:
        if report is None or report[1].scope is not Scope.PUBLIC:
            return
        host = report[0].host
        self._public_hosts[host] += change
        if not self._public_hosts[host]:
            del self._public_hosts[host]


class UdpReach:
    """Decides whether this node says that it is read-only."""

    __slots__ = ("_fixed", "_is_own", "_reachable", "_sent_to", "observed")

    def __init__(self, *, read_only: bool | None, is_own: Callable[[str], bool]):
        """`is_own` tells whether an IP address belongs to this machine's sockets."""
        self._fixed = read_only
        self._is_own = is_own
        self._reachable: set[int] = set()  # address families
        self._sent_to = TtlSet(SENT_TO_MEMORY_SECONDS, SENT_TO_HOSTS_MAX)
        self.observed = {4: Observed(), 6: Observed()}

    def is_read_only(self, towards: Address) -> bool:
        """Whether to tell this address that nobody can ask this node."""
        if self._fixed is not None:
            return self._fixed
        if towards.scope is not Scope.PUBLIC:
            return False
        return towards.family not in self._reachable

    def sent(self, to: Address, now: float) -> None:
        """Note that something was sent, which opens a way back through a NAT."""
        if to.scope is Scope.PUBLIC and to.family not in self._reachable:
            self._sent_to.add(to.host.encode(), now)

    def received(self, source: Address, now: float) -> None:
        """Note a well-formed request; unasked, it shows that others reach us."""
        if source.scope is not Scope.PUBLIC or source.family in self._reachable:
            return
        if not self._sent_to.has(source.host.encode(), now):
            self._reachable.add(source.family)

    def report(self, seen: Address, by: Address) -> bool:
        """Note a proven node's report; False if it contradicts the others."""
        observed = self.observed[by.family]
        contradicts = observed.contradicts(seen, by)
        observed.report(seen, by)
        if contradicts or by.scope is not Scope.PUBLIC:
            return not contradicts
        if by.family not in self._reachable and self._is_own(seen.host):
            self._reachable.add(by.family)
        return True

    @property
    def is_shut(self) -> bool:
        """Whether this node is read-only where it has met public nodes."""
        if self._fixed is not None:
            return self._fixed
        return self.needs_probe(4) or self.needs_probe(6)

    def needs_probe(self, family: int) -> bool:
        """Whether somebody should be asked to have this node pinged."""
        return (
            self._fixed is None
            and family not in self._reachable
            and self.observed[family].address(Scope.PUBLIC) is not None
        )
