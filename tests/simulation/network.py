"""The simulated network: latency, loss, duplication, partitions, NAT and death.

Every datagram is drawn a one-way delay from a lognormal distribution (median 40 ms,
sigma 0.6, at most 500 ms), so datagrams overtake one another. All draws come from
one seeded generator, and `trace` is a running digest of what was delivered when.
"""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.loop import SimulatedSocket

if TYPE_CHECKING:
    from dht import Address
    from tests.simulation.loop import VirtualLoop


HOLE_SECONDS = 300.0  # a NAT keeps a way back open for as long (RFC 4787, REQ-5)


@dataclass(frozen=True)
class Link:
    """How datagrams fare."""

    median_seconds: float = 0.040
    sigma: float = 0.6
    cap_seconds: float = 0.500
    loss: float = 0.0
    duplication: float = 0.0


class SimulatedNetwork:
    """Hosts by IP address, and what lies between them."""

    def __init__(self, loop: VirtualLoop, seed: int, link: Link | None = None) -> None:
        self.link = link or Link()
        self.counters: Counter[str] = Counter()
        self.bytes_sent: Counter[str] = Counter()  # by host, payload only
        self._loop = loop
        self._rng = random.Random(f"network {seed}")
        self._mu = math.log(self.link.median_seconds)
        self._sockets: dict[tuple[str, int], SimulatedSocket] = {}
        self._dead: set[str] = set()
        self._side: dict[str, int] = {}
        # Of hosts behind a NAT: to whom each has sent something, and when last.
        self._holes: dict[str, dict[str, float]] = {}
        self._outside: dict[str, str] = {}  # host -> address that others see
        self._inside: dict[str, str] = {}
        self._trace = hashlib.sha256()
        loop.network = self

    @property
    def trace(self) -> str:
        """A digest of every delivery so far: time, ends and bytes."""
        return self._trace.hexdigest()

    def bind(self, sock: SimulatedSocket, host: str, port: int) -> tuple[str, int]:
        chosen = port or next(p for p in range(4747, 65536) if self._free(host, p))
        if not self._free(host, chosen):
            raise OSError(98, "Address already in use")
        self._sockets[(host, chosen)] = sock
        return (host, chosen)

    def unbind(self, sock: SimulatedSocket) -> None:
        if self._sockets.get(sock.address) is sock:
            del self._sockets[sock.address]

    def kill(self, host: str) -> None:
        """Cut a host off: nothing reaches it or leaves it."""
        self._dead.add(host)

    def revive(self, host: str) -> None:
        """Reconnect a host."""
        self._dead.discard(host)

    def part(self, sides: dict[str, int]) -> None:
        """Let datagrams pass only between hosts of the same side; {} heals."""
        self._side = sides

    def put_behind_nat(self, host: str) -> None:
        """Let only those hosts reach this one to which it has sent something lately."""
        self._holes[host] = {}

    def translate(self, host: str, outside: str) -> None:
        """Let others see a host at another address, as a NAT does."""
        self._outside[host] = outside
        self._inside[outside] = host

    def send(self, data: bytes, source: tuple[str, int], to: tuple[str, int]) -> None:
        """Put a datagram on its way."""
        self.counters["sent"] += 1
        self.bytes_sent[source[0]] += len(data)
        if source[0] in self._holes:
            self._holes[source[0]][to[0]] = self._loop.time()
        if source[0] in self._dead or self._rng.random() < self.link.loss:
            self.counters["lost"] += 1
            return
        self._loop.call_later(self._delay(), self._arrive, data, source, to)
        if self.link.duplication and self._rng.random() < self.link.duplication:
            self._loop.call_later(self._delay(), self._arrive, data, source, to)

    def _arrive(
        self, data: bytes, source: tuple[str, int], to: tuple[str, int]
    ) -> None:
        """Hand a datagram to its receiver, if it can be reached now."""
        to = (self._inside.get(to[0], to[0]), to[1])
        sock = self._sockets.get(to)
        sides = self._side
        apart = sides and sides.get(source[0]) != sides.get(to[0])
        shut = self._is_shut(to[0], source[0])
        if sock is None or sock.deliver is None or to[0] in self._dead or apart or shut:
            self.counters["undelivered"] += 1
            return
        self.counters["delivered"] += 1
        head = struct.pack("!d", self._loop.time())
        self._trace.update(head + f"{source}{to}".encode() + data)
        sock.deliver(data, (self._outside.get(source[0], source[0]), source[1]))

    def _is_shut(self, host: str, source: str) -> bool:
        """Whether a NAT has no way in for a source, or no longer."""
        holes = self._holes.get(host)
        if holes is None:
            return False
        return self._loop.time() - holes.get(source, -math.inf) > HOLE_SECONDS

    def _delay(self) -> float:
        drawn = math.exp(self._rng.gauss(self._mu, self.link.sigma))
        return min(drawn, self.link.cap_seconds)

    def _free(self, host: str, port: int) -> bool:
        return (host, port) not in self._sockets


class SimulatedSockets:
    """The sockets of one host, at one address of a family at most, for `Dht`."""

    def __init__(self, network: SimulatedNetwork, *hosts: str) -> None:
        self._network = network
        self._hosts = {_family(host): host for host in hosts}

    def bind(self, address: Address) -> Any:
        host = self._hosts[address.family]
        return SimulatedSocket(self._network, host, address.port)

    def is_local(self, host: str) -> bool:
        return host in self._hosts.values()

    def host_towards(self, address: Address) -> str | None:
        return self._hosts.get(address.family)


def _family(host: str) -> int:
    return 6 if ":" in host else 4
