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
from tests.simulation.nat import Nat

if TYPE_CHECKING:
    from dht import Address
    from tests.simulation.loop import VirtualLoop
    from tests.simulation.nat import Protocol

    Ends = tuple[str, int]


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
        self._nats: dict[str, Nat] = {}  # by the host behind
        self._inside: dict[str, str] = {}  # outer IP -> host behind
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

    def is_dead(self, host: str) -> bool:
        """Whether a host is cut off."""
        return host in self._dead

    def revive(self, host: str) -> None:
        """Reconnect a host."""
        self._dead.discard(host)

    def part(self, sides: dict[str, int]) -> None:
        """Let datagrams pass only between hosts of the same side; {} heals."""
        self._side = sides

    def put_behind(self, host: str, nat: Nat) -> None:
        """Put a NAT between a host and all others."""
        self._nats[host] = nat
        self._inside[nat.outside] = host

    def put_behind_nat(self, host: str, outside: str = "") -> None:
        """Let only those hosts reach this one to which it has sent something lately."""
        self.put_behind(host, Nat(outside or host, "address", rng=self._rng))

    def translate(self, host: str, outside: str) -> None:
        """Let others see a host at another address; its port is forwarded."""
        self.put_behind(host, Nat(outside, "open", rng=self._rng))

    def outward(self, protocol: Protocol, source: Ends, to: Ends) -> Ends:
        """Return the address from which others see what is sent there."""
        nat = self._nats.get(source[0])
        if nat is None:
            return source
        outer = nat.outward(protocol, source[1], to, self._loop.time())
        return (nat.outside, outer)

    def inward(self, protocol: Protocol, source: Ends, to: Ends) -> Ends | None:
        """Return the host and port that are reached there; None: nobody."""
        host = self._inside.get(to[0], to[0])
        nat = self._nats.get(host)
        port: int | None = to[1]
        if nat is not None:
            port = nat.inward(protocol, to[1], source, self._loop.time())
        sides = self._side
        apart = sides and sides.get(self.host_of(source)) != sides.get(host)
        if port is None or host in self._dead or apart:
            return None
        return (host, port)

    def host_of(self, seen: Ends) -> str:
        """Return the host behind an address that others see."""
        return self._inside.get(seen[0], seen[0])

    def send(self, data: bytes, source: Ends, to: Ends) -> None:
        """Put a datagram on its way."""
        self.counters["sent"] += 1
        self.bytes_sent[source[0]] += len(data)
        seen = self.outward("udp", source, to)
        if source[0] in self._dead or self._rng.random() < self.link.loss:
            self.counters["lost"] += 1
            return
        self._loop.call_later(self.delay(), self._arrive, data, seen, to)
        if self.link.duplication and self._rng.random() < self.link.duplication:
            self._loop.call_later(self.delay(), self._arrive, data, seen, to)

    def _arrive(self, data: bytes, source: Ends, to: Ends) -> None:
        """Hand a datagram to its receiver, if it can be reached now."""
        reached = self.inward("udp", source, to)
        sock = self._sockets.get(reached) if reached is not None else None
        if sock is None or sock.deliver is None:
            self.counters["undelivered"] += 1
            return
        self.counters["delivered"] += 1
        head = struct.pack("!d", self._loop.time())
        self._trace.update(head + f"{source}{reached}".encode() + data)
        sock.deliver(data, source)

    def delay(self) -> float:
        """Draw the one-way delay of a packet, in seconds."""
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
