"""A NAT in front of one simulated host: mapping, filter and timeout (RFC 4787).

| kind | outer port to two hosts | what comes in |
|---|---|---|
| open | the same | everything: a forwarded port |
| full | the same | everything, once something was sent |
| address | the same | what comes from an IP that was sent to |
| port | the same | what comes from an address that was sent to |
| symmetric | another to each address | what comes from that address |

UDP and TCP are kept apart. A hole closes when nothing was sent for a while.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import random

NatKind = Literal["open", "full", "address", "port", "symmetric"]
Protocol = Literal["udp", "tcp"]
SocketAddress = tuple[str, int]

HOLE_SECONDS = 300.0  # RFC 4787, REQ-5
_PORTS = (20_000, 60_000)


class Nat:
    """One NAT with one host behind; the time is an argument."""

    def __init__(
        self,
        outside: str,
        kind: NatKind,
        *,
        rng: random.Random,
        seconds: float = HOLE_SECONDS,
    ) -> None:
        """`outside` is the address that others see."""
        self.outside = outside
        self.kind = kind
        self._seconds = seconds
        self._rng = rng
        # When something was sent last: from a port at all, to an IP, to an address.
        self._sent: dict[tuple[Protocol, int, str, int], float] = {}
        self._outer: dict[tuple[Protocol, int, SocketAddress], int] = {}
        self._inner: dict[tuple[Protocol, int], tuple[int, SocketAddress]] = {}

    def outward(
        self, protocol: Protocol, port: int, to: SocketAddress, now: float
    ) -> int:
        """Note that a port sends to an address; return the outer port."""
        for host, at in (("", 0), (to[0], 0), to):
            self._sent[protocol, port, host, at] = now
        if self.kind != "symmetric":
            return port
        outer = self._outer.get((protocol, port, to))
        if outer is None:
            outer = self._rng.randrange(*_PORTS)
            self._outer[protocol, port, to] = outer
            self._inner[protocol, outer] = (port, to)
        return outer

    def inward(
        self, protocol: Protocol, port: int, source: SocketAddress, now: float
    ) -> int | None:
        """Return the inner port for what comes from an address; None: dropped."""
        if self.kind == "open":
            return port
        if self.kind == "symmetric":
            port, expected = self._inner.get((protocol, port), (port, ("", -1)))
            is_open = source == expected and self._is_alive(protocol, port, source, now)
            return port if is_open else None
        towards: dict[NatKind, SocketAddress] = {
            "full": ("", 0),
            "address": (source[0], 0),
            "port": source,
        }
        alive = self._is_alive(protocol, port, towards[self.kind], now)
        return port if alive else None

    def _is_alive(
        self, protocol: Protocol, port: int, to: SocketAddress, now: float
    ) -> bool:
        sent_at = self._sent.get((protocol, port, *to), -math.inf)
        return now - sent_at <= self._seconds
