"""Addresses: a canonical numeric IP and a port, and what may be said of them.

`scope` orders addresses by how far they can be believed: a loopback address means
something only on this machine, a private one only in this network. `group` is the
IPv4 /24 or IPv6 /64 that the diversity limits count, `None` for loopback,
link-local and private ranges, because a whole LAN is one /24. `source` is what rate
limits count: the group, or the IP without its port in those ranges. `path` holds the
prefixes that bounded stores count, see `dht.prefix_tree`. `family` is 4 or 6.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
from dataclasses import dataclass, field
from typing import Final

from dht.errors import AddressError, DatagramError
from dht.limits import PORT_MIN

PACKED_IPV4_BYTES: Final = 7  # family, IP, port
PACKED_IPV6_BYTES: Final = 19
_FORM: Final = 'An address is written "1.2.3.4:4747" or "[2001:db8::1]:4747"'


class Scope(enum.IntEnum):
    """How far an address reaches."""

    LOOPBACK = 0
    LOCAL = 1  # private and link-local
    PUBLIC = 2


@dataclass(frozen=True, order=True, slots=True)
class Address:
    """A UDP address; `host` is brought to its canonical form.

    Raises `AddressError` (a `ValueError`) where the host is no numeric IP address
    or the port lies outside 0 to 65535.
    """

    host: str
    port: int
    packed: bytes = field(init=False, compare=False, repr=False)
    group: bytes | None = field(init=False, compare=False, repr=False)
    scope: Scope = field(init=False, compare=False, repr=False)
    dialable: bool = field(init=False, compare=False, repr=False)
    family: int = field(init=False, compare=False, repr=False)
    source: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        ip = _numeric(self.host)
        if not 0 <= self.port <= 65535:
            raise AddressError(f"{self.port} is not a port; ports end at 65535.")
        scope = _scope(ip)
        public = scope is Scope.PUBLIC
        set_field = object.__setattr__
        set_field(self, "host", str(ip))
        head = bytes([ip.version]) + ip.packed
        set_field(self, "packed", head + self.port.to_bytes(2, "big"))
        kept = 3 if ip.version == 4 else 8
        group = ip.packed[:kept] if public else None
        set_field(self, "group", group)
        set_field(self, "family", ip.version)
        set_field(self, "source", self.packed[:-2] if group is None else group)
        set_field(self, "scope", scope)
        refused = ip.is_multicast or ip.is_unspecified or _is_broadcast(ip)
        set_field(self, "dialable", not refused and self.port >= PORT_MIN)

    def __str__(self) -> str:
        if self.packed[0] == 6:
            return f"[{self.host}]:{self.port}"
        return f"{self.host}:{self.port}"

    @property
    def path(self) -> tuple[bytes, ...]:
        """Class and prefixes, widest first.

        IPv4: /16, /24, the address. IPv6: /32, /48, /56, /64. In loopback and private
        ranges: the IP alone, ports being free there.
        """
        packed = self.packed
        if self.group is None:
            return (b"local", packed[:-2])
        if self.family == 4:
            return (b"ipv4", packed[:3], packed[:4], packed[:5])
        return (b"ipv6", packed[:5], packed[:7], packed[:8], packed[:9])

    def believes(self, other: Address) -> bool:
        """Whether a datagram from here may tell of the address `other`.

        A machine's own addresses and a private network's mean nothing, or worse,
        when somebody outside of it names them.
        """
        return other.dialable and other.scope >= self.scope

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `1.2.3.4:5` or `[::1]:5`; raise `AddressError` with one sentence.

        >>> Address.parse("[2001:DB8::0:1]:4747")
        Address(host='2001:db8::1', port=4747)
        """
        host, colon, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
            raise AddressError(f"{_FORM}, not {text!r}.")
        if bracketed != (":" in host):
            raise AddressError(f"{_FORM}, not {text!r}.")
        return cls(host.strip("[]"), int(port))


def _numeric(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IP address in `host`, without an IPv6 zone."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise AddressError(f"{_FORM}; {host!r} is not a numeric IP address.") from None
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
        raise AddressError(f"{host!r} holds a zone, which no other node could use.")
    return ip


def _scope(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Scope:
    """Return how far an IP address reaches; unknown special ranges count as local."""
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return Scope.LOOPBACK  # never believed from elsewhere
    if ip.is_loopback:
        return Scope.LOOPBACK
    return Scope.PUBLIC if ip.is_global else Scope.LOCAL


def _is_broadcast(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return ip.packed == b"\xff\xff\xff\xff"


@functools.lru_cache(maxsize=65536)
def address_of(host: str, port: int) -> Address:
    """Return the one shared `Address` of a socket's host and port."""
    return Address(host, port)


@functools.lru_cache(maxsize=65536)
def unpack_address(packed: bytes) -> Address:
    """Read family (4 or 6), IP and port; raises `DatagramError`."""
    family = packed[0] if packed else 0
    if (family, len(packed)) not in {(4, PACKED_IPV4_BYTES), (6, PACKED_IPV6_BYTES)}:
        raise DatagramError("address")
    ip = ipaddress.ip_address(packed[1:-2])
    return address_of(str(ip), int.from_bytes(packed[-2:], "big"))


def source_address(host: str, port: int) -> Address | None:
    """Return the address a datagram came from, or None where none can answer it.

    That is a link-local IPv6 address, whose zone has no meaning elsewhere.
    """
    try:
        return address_of(host, port)
    except AddressError:
        return None
