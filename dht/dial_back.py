"""Dial-back: a third node tries to reach this one, over UDP and TCP apart.

What a node believes of itself is no evidence: a firewall may drop everything that
comes in. So it asks helpers, and the rules are (compare libp2p's AutoNAT v2):

1. A helper does not dial itself, because the way back from it is open. It hands the
   asker's IP as it saw it, the TCP port and a nonce to a contact in another network,
   and that contact dials. The asker chooses neither the contact nor the IP.
2. The contact sends one datagram, no longer than a request, from a fresh port, and
   opens one TCP connection. The nonce comes back as the transaction of a ping and as
   the first bytes of the connection; nothing else counts.
3. A datagram from an IP to which this node has sent something lately may come through
   a hole that it made itself. It counts only where TCP came in as well, or where this
   node is seen at an address of its own.
4. Three successes of at most five make a node reachable, three failures unreachable,
   anything else says nothing yet. A helper that could have nobody dial counts neither
   way. The verdict is sought again every 30 minutes, and at once after an own address
   or a port mapping has changed. A round without a verdict is repeated after 10 s,
   then ever later, at most a minute.
5. Nobody can aim this at a victim: only the IP from which the asker has echoed a token
   is dialled, never a private one and never a port below 1024; an asker has 12 in an
   hour, an IP one in a minute, a node does 60 in a minute, of which no network has
   more than a part; a contact obeys contacts of its table alone, each 12 in an hour.
"""

from __future__ import annotations

import asyncio
import enum
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from dht.addresses import Scope
from dht.dial_back_helper import ask_well, public_contacts
from dht.limits import (
    DIAL_BACK_EVERY_SECONDS,
    DIAL_BACK_HELPERS,
    DIAL_BACK_HURRY_SECONDS,
    DIAL_BACK_PATIENCE_SECONDS,
    DIAL_BACK_RETRY_SECONDS,
    DIAL_BACK_RETRY_SECONDS_MAX,
    DIAL_BACK_WAIT_SECONDS,
    OBSERVERS_ASKED_MAX,
)
from dht.wire import DialBack, DialBackStatus, Ping

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.addresses import Address
    from dht.contacts import Contact
    from dht.core import Core
    from dht.dial_back_helper import DialBackHelper
    from dht.in_flight import ProvenReply
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks

ReachTransport = Literal["udp", "tcp"]

_ENOUGH: Final = 3  # equal samples that make a verdict
_LOOKS: Final = 30  # in the first minute


class Reachable(enum.Enum):
    """Whether others can reach this node unasked."""

    YES = "reachable"
    NO = "unreachable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ReachVerdict:
    """What others found; `by` are the IP addresses whose word it is."""

    reachable: Reachable = Reachable.UNKNOWN
    since: float = 0.0
    """Seconds since 1970; 0 where nothing is known."""
    by: tuple[str, ...] = ()


class Samples:
    """The latest outcomes, and what they say."""

    def __init__(self) -> None:
        self._outcomes: deque[tuple[bool, str]] = deque(maxlen=DIAL_BACK_HELPERS)

    def add(self, *, success: bool, by: str) -> None:
        """Count one dial-back."""
        self._outcomes.append((success, by))

    def verdict(self, now: float) -> ReachVerdict:
        """Return what three equal outcomes of at most five say."""
        for wanted, reachable in ((True, Reachable.YES), (False, Reachable.NO)):
            by = [host for success, host in self._outcomes if success is wanted]
            if len(by) >= _ENOUGH:
                return ReachVerdict(reachable, now, tuple(dict.fromkeys(by)))
        return ReachVerdict()


@dataclass(slots=True)
class _Expected:
    """One dial-back that is awaited."""

    nonce: bytes
    udp: Address | None = None
    udp_is_fresh: bool = False
    tcp: str | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)


class DialBackService:
    """Asks for dial-backs and judges by what comes in."""

    def __init__(
        self,
        core: Core,
        rpc_client: RpcClient,
        helper: DialBackHelper,
        *,
        tasks: Tasks,
    ) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._helper = helper
        self._tasks = tasks
        self._expected: dict[bytes, _Expected] = {}
        self._rounds: dict[int, asyncio.Task[None]] = {}
        self._next_at: dict[int, float] = {}
        self._wanted_since: dict[int, float] = {}
        self._retries: Counter[int] = Counter()
        self._hurrying: asyncio.Task[None] | None = None
        self._seen: dict[int, Address] = {}
        self._gathered: dict[tuple[int, ReachTransport], Samples] = {}
        self._verdicts: dict[tuple[int, ReachTransport], ReachVerdict] = {}
        self.tcp_port = 0
        """Where this node takes TCP connections; 0 where that is not to be judged."""
        self.on_new_address: Callable[[], object] = lambda: None

    def verdict(self, family: int, transport: ReachTransport) -> ReachVerdict:
        """Return what others found for one address family."""
        return self._verdicts.get((family, transport), ReachVerdict())

    def watch(self, tcp_port: int, dial_tcp: Callable[[str, int, bytes], None]) -> None:
        """Have others judge TCP as well, and dial over TCP for others.

        `dial_tcp(host, port, nonce)` opens a connection for another node and sends
        the nonce; a nonce that comes in belongs to `arrived_tcp`.
        """
        self.tcp_port = tcp_port
        self._helper.dial_tcp = dial_tcp
        self._core.reach.remembers_sent = True
        self._hurry()

    def reachable(self, transport: ReachTransport) -> ReachVerdict:
        """Return the verdict of the address family that does better."""
        order = [Reachable.YES, Reachable.NO, Reachable.UNKNOWN]
        verdicts = [self.verdict(family, transport) for family in (4, 6)]
        return min(verdicts, key=lambda one: order.index(one.reachable))

    def address_changed(self) -> None:
        """Forget what was said of the old address, and announce all again."""
        self.forget()
        self.on_new_address()

    def recheck(self) -> None:
        """Seek the verdicts again at once; the old ones stand meanwhile."""
        self._next_at.clear()
        self._retries.clear()
        self._hurry()

    def forget(self) -> None:
        """Forget all verdicts, because an own address has changed."""
        self._verdicts.clear()
        self._gathered.clear()
        self.recheck()
        for family in (4, 6):
            self._core.reach.judge(family, None)

    def _hurry(self) -> None:
        """Look every two seconds, for a minute or until there is a verdict."""
        if self.tcp_port and (self._hurrying is None or self._hurrying.done()):
            self._hurrying = self._tasks.start(
                self._look_often(), "caravan-dht-first-verdict"
            )

    async def _look_often(self) -> None:
        for _ in range(_LOOKS):
            await asyncio.sleep(DIAL_BACK_HURRY_SECONDS)
            self.tick(self._core.clock.monotonic())
            if self.reachable("tcp").reachable is not Reachable.UNKNOWN:
                return

    # --- the asker -----------------------------------------------------------

    def tick(self, now: float) -> None:
        """Begin a round for each family whose verdict is due."""
        if self.tcp_port:
            # A NAT's way in stays open, and a new outer address is noticed.
            observed = self._core.reach.observed.values()
            doubted = any(each.is_doubted for each in observed)
            self.ask_observers(OBSERVERS_ASKED_MAX if doubted else 1)
        for family in sorted(self._core.families):
            self._watch_address(family)
            running = self._rounds.get(family)
            if running is not None and not running.done():
                continue
            if now < self._next_at.get(family, 0.0) or not self._wants(family):
                continue
            helpers = self._helpers(family)
            since = self._wanted_since.setdefault(family, now)
            is_early = now - since < DIAL_BACK_PATIENCE_SECONDS
            if not helpers or (is_early and len(helpers) < DIAL_BACK_HELPERS):
                continue
            self._next_at[family] = now + DIAL_BACK_EVERY_SECONDS
            self._rounds[family] = self._tasks.start(
                self._round(family, helpers), "caravan-dht-dial-back"
            )

    def _watch_address(self, family: int) -> None:
        """Forget what was found of an address that others see no longer."""
        seen = self._core.reach.observed[family].address(Scope.PUBLIC)
        if seen is None:
            return
        last = self._seen.get(family)
        self._seen[family] = seen
        if last is not None and last.host != seen.host:
            self.forget()
            self.on_new_address()

    def ask_observers(self, most: int = OBSERVERS_ASKED_MAX) -> None:
        """Ping some public contacts; their answers say where they see this node."""
        for family in sorted(self._core.families):
            public = public_contacts(self._core, family)
            for contact in self._core.rng.sample(public, min(most, len(public))):
                self._rpc_client.ask(contact, Ping(), _ignore)

    def _wants(self, family: int) -> bool:
        reach = self._core.reach
        if reach.observed[family].address(Scope.PUBLIC) is None:
            return False
        return bool(self.tcp_port) or reach.needs_probe(family)

    def _helpers(self, family: int) -> list[Contact]:
        """Return public contacts of different networks, in random order."""
        public = public_contacts(self._core, family)
        self._core.rng.shuffle(public)
        by_group = {contact.address.group: contact for contact in public}
        return list(by_group.values())[:DIAL_BACK_HELPERS]

    async def _round(self, family: int, helpers: list[Contact]) -> None:
        """Ask all helpers at once, and judge by what came in."""
        udp, tcp = self._samples(family, "udp"), self._samples(family, "tcp")
        outcomes = await asyncio.gather(*(self._probe(helper) for helper in helpers))
        is_own = self._is_own(family)
        for helper, expected in zip(helpers, outcomes, strict=True):
            if expected is not None:
                self._count(udp, tcp, expected, helper=helper, is_own=is_own)
        now = self._core.clock.time()
        judged: list[tuple[ReachTransport, Samples]] = [("udp", udp)]
        if self.tcp_port:
            judged.append(("tcp", tcp))
        is_open = False
        for transport, samples in judged:
            if self._gathered.get((family, transport)) is not samples:
                continue  # the address has changed meanwhile
            verdict = samples.verdict(now)
            if verdict.reachable is Reachable.UNKNOWN:
                is_open = True
                continue
            del self._gathered[family, transport]
            last = self.verdict(family, transport)
            if last.reachable is verdict.reachable:
                verdict = ReachVerdict(verdict.reachable, last.since, verdict.by)
            self._verdicts[family, transport] = verdict
            if transport == "udp":
                yes = verdict.reachable is Reachable.YES
                self._core.reach.judge(family, yes)
        if is_open and family in self._next_at:
            self._next_at[family] = self._retry_at(family)

    def _retry_at(self, family: int) -> float:
        """Return when to have another round: ever later, as none brings a verdict."""
        pause = DIAL_BACK_RETRY_SECONDS * 2.0 ** min(self._retries[family], 8)
        self._retries[family] += 1
        return self._core.clock.monotonic() + min(pause, DIAL_BACK_RETRY_SECONDS_MAX)

    def _samples(self, family: int, transport: ReachTransport) -> Samples:
        """Return the samples of this round and of those before without a verdict."""
        return self._gathered.setdefault((family, transport), Samples())

    def _is_own(self, family: int) -> bool:
        seen = self._core.reach.observed[family].address(Scope.PUBLIC)
        return seen is not None and self._core.reach.is_own(seen.host)

    def _count(
        self,
        udp: Samples,
        tcp: Samples,
        expected: _Expected,
        *,
        helper: Contact,
        is_own: bool,
    ) -> None:
        """Turn one dial-back into samples; a doubtful datagram is none (rule 3)."""
        tcp_by = expected.tcp or helper.address.host
        tcp.add(success=expected.tcp is not None, by=tcp_by)
        if expected.udp is None:
            udp.add(success=False, by=helper.address.host)
        elif expected.udp_is_fresh or expected.tcp is not None or is_own:
            udp.add(success=True, by=expected.udp.host)

    async def _probe(self, helper: Contact) -> _Expected | None:
        """Have one helper have this node dialled; None where nobody dialled."""
        expected = _Expected(self._core.rng.randbytes(8))
        body = DialBack(b"", self.tcp_port, expected.nonce)
        self._expected[expected.nonce] = expected
        try:
            if not await ask_well(self._core, self._rpc_client, helper, body=body):
                return None
            try:
                async with asyncio.timeout(DIAL_BACK_WAIT_SECONDS):
                    await expected.arrived.wait()
            except TimeoutError:
                answer = await self._rpc_client.call(helper, body)
                if answer is None or answer.body.status != DialBackStatus.DIALED:
                    return None
            return expected
        finally:
            del self._expected[expected.nonce]

    def arrived_udp(self, transaction: bytes, source: Address) -> bool:
        """Take a ping with an awaited nonce; whether it was one."""
        expected = self._expected.get(transaction)
        if expected is None:
            return False
        now = self._core.clock.monotonic()
        expected.udp = source
        expected.udp_is_fresh = not self._core.reach.has_sent_to(source, now)
        self._check(expected)
        return True

    def arrived_tcp(self, nonce: bytes, host: str) -> bool:
        """Take the nonce of a TCP connection; whether it was awaited."""
        expected = self._expected.get(nonce)
        if expected is None:
            return False
        expected.tcp = host
        self._check(expected)
        return True

    def _check(self, expected: _Expected) -> None:
        if expected.udp is not None and (expected.tcp or not self.tcp_port):
            expected.arrived.set()


def _ignore(answer: ProvenReply | None) -> None:
    """Want nothing of an answer but what it reports."""
