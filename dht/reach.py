"""Reach: the address others see, and whether they can reach this node unasked.

1. Proven contacts of the routing table report the address from which they see this
   node. No other node is heard: a place in the table costs an address of another group,
   an answer to a lookup or to a ping that a third party asked for costs nothing.
2. Each network of observers has one voice: an IPv4 /24, an IPv6 /48, in private ranges
   an IP. The last 16 voices count.
3. An address is agreed on when at least three voices, or more than half of them where
   there are fewer, and at least a quarter of all report it. A node signs its address
   only where it is agreed on or one of the machine's own, so a lying keeper collects
   no signed record that points at a victim.
4. A node counts as reachable towards loopback and private ranges at once. Towards
   public addresses others' dial-backs decide (`dht.dial_back`). Before they have, it is
   presumed reachable when the address that others report is its own, or once a datagram
   arrives from a host to which it has sent nothing for ten minutes. Until then, and
   where dial-backs fail, it says that it is read-only there.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dht.addresses import Address, Scope
from dht.bounded import BoundedDict, TtlSet
from dht.limits import (
    OBSERVED_REPORTS_MAX,
    OBSERVED_REPORTS_MIN,
    SENT_TO_HOSTS_MAX,
    SENT_TO_MEMORY_SECONDS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.contacts import Contact


class Observed:
    """What proven contacts say of this node's own address, for one family."""

    __slots__ = ("_public_hosts", "_reports")

    def __init__(self) -> None:
        # By voice: the address seen, and the observer's.
        self._reports: BoundedDict[bytes, tuple[Address, Address]] = BoundedDict(
            OBSERVED_REPORTS_MAX
        )
        self._public_hosts: Counter[str] = Counter()  # as public observers report them

    def report(self, seen: Address, by: Address) -> None:
        """Count that a proven contact at `by` sees this node at `seen`."""
        voice = _voice(by)
        is_known = self._reports.get(voice) == (seen, by)
        self._reports[voice] = (seen, by)
        if is_known:
            return
        self._public_hosts = Counter(
            each.host
            for each, observer in self._reports.values()
            if observer.scope is Scope.PUBLIC
        )

    def forget(self) -> None:
        """Forget all reports, because the address has changed."""
        self._reports.clear()
        self._public_hosts.clear()

    def address(self, scope: Scope | None = None) -> Address | None:
        """Return the address that most report if they agree on it.

        It is of one scope if that is given, else a public one before others.
        """
        reports = list(self._reports.values())
        if scope is None and any(a.scope is Scope.PUBLIC for a, _ in reports):
            scope = Scope.PUBLIC
        if scope is not None:
            reports = [each for each in reports if each[0].scope is scope]
        seen = Counter(address for address, _ in reports)
        if not seen:
            return None
        hosts = Counter(address.host for address, _ in reports)
        most = seen.most_common(1)[0][0]
        return most if _agree(hosts[most.host], len(reports)) else None

    @property
    def is_doubted(self) -> bool:
        """Whether the latest report is of another IP than most are."""
        if not self._reports:
            return False
        latest, _ = self._reports[next(reversed(self._reports))]
        agreed = self.address(latest.scope)
        return agreed is not None and agreed.host != latest.host

    def agrees_on(self, host: str, scope: Scope) -> bool:
        """Whether enough observers of a scope see this node at an IP address."""
        hosts = [seen.host for seen, by in self._reports.values() if by.scope is scope]
        return _agree(hosts.count(host), len(hosts))

    def contradicts(self, seen: Address, by: Address) -> bool:
        """Whether most others, at least three, report another IP than this one does.

        Only public observers are compared. A node in the middle that passes on
        another's proof is found out by this: it is seen at the address that the
        liar has.
        """
        if by.scope is not Scope.PUBLIC:
            return False
        hosts = self._public_hosts
        if len(hosts) == 1 and seen.host in hosts:
            return False
        own = self._reports.get(_voice(by))
        total = hosts.total() - (own is not None)
        if total < OBSERVED_REPORTS_MIN:
            return False
        for host, votes in hosts.items():
            mine = own is not None and own[0].host == host
            if 2 * (votes - mine) > total:
                return host != seen.host
        return False


def _voice(observer: Address) -> bytes:
    """Return the network that has one voice: an IPv4 /24, an IPv6 /48, a private IP."""
    if observer.group is not None and observer.family == 6:
        return observer.packed[:7]
    return observer.source


def _agree(votes: int, total: int) -> bool:
    """Whether so many voices of all are enough to believe them (rule 3)."""
    enough = min(OBSERVED_REPORTS_MIN, total // 2 + 1)
    return votes >= enough and 4 * votes >= total


class UdpReach:
    """Decides whether this node says that it is read-only."""

    __slots__ = (
        "_fixed",
        "_is_own",
        "_judged",
        "_reachable",
        "_sent_to",
        "introducers",
        "observed",
        "remembers_sent",
    )

    def __init__(self, *, read_only: bool | None, is_own: Callable[[str], bool]):
        """`is_own` says whether an IP address belongs to this machine's sockets."""
        self._fixed = read_only
        self._is_own = is_own
        self._reachable: set[int] = set()  # address families
        self._judged: dict[int, bool] = {}  # the same, by others' dial-backs
        self.remembers_sent = False
        self.introducers: tuple[Contact, ...] = ()  # named in provider records
        self._sent_to: TtlSet[bytes] = TtlSet(SENT_TO_MEMORY_SECONDS, SENT_TO_HOSTS_MAX)
        self.observed = {4: Observed(), 6: Observed()}

    def is_read_only(self, towards: Address) -> bool:
        """Whether to say to this address that this node cannot be asked."""
        if self._fixed is not None:
            return self._fixed
        if towards.scope is not Scope.PUBLIC:
            return False
        return not self._is_reachable(towards.family)

    def judge(self, family: int, reachable: bool | None) -> None:
        """Take what dial-backs have shown; None forgets it, with all presumptions."""
        if reachable is None:
            self._judged.pop(family, None)
            self._reachable.discard(family)
            self.observed[family].forget()
        else:
            self._judged[family] = reachable

    def is_own(self, host: str) -> bool:
        """Whether an IP address is one of this machine's."""
        return self._is_own(host)

    def has_sent_to(self, address: Address, now: float) -> bool:
        """Whether something was sent to an IP address in the last ten minutes."""
        return self._sent_to.has(address.host.encode(), now)

    def _is_reachable(self, family: int) -> bool:
        return self._judged.get(family, family in self._reachable)

    def sent(self, to: Address, now: float) -> None:
        """Remember that something was sent, which opens a way back through a NAT."""
        if to.scope is Scope.PUBLIC and (
            self.remembers_sent or to.family not in self._reachable
        ):
            self._sent_to.add(to.host.encode(), now)

    def received(self, source: Address, now: float) -> None:
        """Count a well-formed request; unasked, it shows that others reach us."""
        if source.scope is not Scope.PUBLIC or source.family in self._reachable:
            return
        if not self._sent_to.has(source.host.encode(), now):
            self._reachable.add(source.family)

    def contradicts(self, seen: Address, by: Address) -> bool:
        """Whether what a proven node sees contradicts most others."""
        return self.observed[by.family].contradicts(seen, by)

    def report(self, seen: Address, by: Address) -> None:
        """Count the report of a proven contact of the table."""
        self.observed[by.family].report(seen, by)
        if by.scope is not Scope.PUBLIC or by.family in self._reachable:
            return
        if self._is_own(seen.host):
            self._reachable.add(by.family)

    def may_sign(self, seen: Address, by: Address) -> bool:
        """Whether to sign a record that names the IP at which an observer sees us."""
        if self._is_own(seen.host):
            return True
        return self.observed[by.family].agrees_on(seen.host, by.scope)

    @property
    def is_shut(self) -> bool:
        """Whether this node is read-only where it has met public nodes."""
        if self._fixed is not None:
            return self._fixed
        return self.needs_probe(4) or self.needs_probe(6)

    def needs_probe(self, family: int) -> bool:
        """Whether a contact should be asked to have this node pinged."""
        return (
            self._fixed is None
            and not self._is_reachable(family)
            and self.observed[family].address(Scope.PUBLIC) is not None
        )
