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


def source_of(host: str) -> str:
    """Return the source that limits count a connection from `host` for.

    An IPv4 address, or the /64 of an IPv6 address, which one customer has; within
    private ranges, where one /64 is a whole network, the IPv6 address. Never the
    port: a host has as many as it likes.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if address.version == 4 or not address.is_global:
        return str(address)
    return str(ipaddress.ip_network((address, 64), strict=False))
