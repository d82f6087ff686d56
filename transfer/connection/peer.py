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

    @classmethod
    def at(cls, address: str, public_key: bytes | None = None) -> Peer:
        """Return the peer at HOST:PORT; raise ValueError for another text.

        >>> Peer.at("[::1]:4747")
        Peer(host='::1', port=4747, public_key=None)
        """
        host, _, port = address.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"{address!r}: expected [HOST]:PORT for IPv6.")
        try:
            ipaddress.ip_address(host)
            number = int(port)
        except ValueError as error:
            raise ValueError(
                f"{address!r}: expected a numeric address and a port, HOST:PORT."
            ) from error
        if not 0 < number < 65536:
            raise ValueError(f"{address!r}: expected a port from 1 to 65535.")
        return cls(host, number, public_key)

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
