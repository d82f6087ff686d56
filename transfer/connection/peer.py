"""Peers: where content is offered, and what limits count a stranger as."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


@dataclass(frozen=True, slots=True)
class Peer:
    """An address that offers content, and the node key expected there."""

    host: str
    """A numeric IP address."""
    port: int
    public_key: bytes | None = None
    """None where any key will do."""

    def __str__(self) -> str:
        if ":" in self.host:
            return f"[{self.host}]:{self.port}"
        return f"{self.host}:{self.port}"

    @property
    def source(self) -> Hashable:
        """What is banned when it lies: the key, else the address."""
        return self.public_key or (self.host, self.port)


def source_of(host: str, port: int) -> str:
    """Return what limits count a stranger as.

    Its /24 or /64, since who has one address there has others; on private networks,
    where all share a range, host and port.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.is_private or address.is_loopback or address.is_link_local:
        return f"{address} {port}"
    prefix = 24 if address.version == 4 else 64
    return str(ipaddress.ip_network((address, prefix), strict=False))
