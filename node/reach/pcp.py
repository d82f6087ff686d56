"""PCP (RFC 6887) and NAT-PMP (RFC 6886) as bytes: how a router is asked for a port.

Both speak UDP to port 5351 of the router. Replies are read strictly; anything else
raises `RouterError`.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final, Literal

Transport = Literal["udp", "tcp"]

ROUTER_PORT: Final = 5351
ANNOUNCEMENT_GROUP: Final = "224.0.0.1"
ANNOUNCEMENT_PORT: Final = 5350
NONCE_BYTES: Final = 12
REPLY_BYTES_MAX: Final = 1100
SUCCESS: Final = 0
UNSUPPORTED_VERSION: Final = 1

_NATPMP_OPERATION: Final[dict[Transport, int]] = {"udp": 1, "tcp": 2}
_IP_PROTOCOL: Final[dict[Transport, int]] = {"udp": 17, "tcp": 6}
_REPLY: Final = 128
_PCP_VERSION: Final = 2
_PCP_ANNOUNCE, _PCP_MAP = 0, 1

_NATPMP_REASONS: Final = {
    1: "it does not speak this version of NAT-PMP",
    2: "port mapping is switched off in it",
    3: "it has no outer address itself",
    4: "it has no mapping left",
    5: "it does not know the operation",
}
_PCP_REASONS: Final = {
    1: "it does not speak this version of PCP",
    2: "port mapping is switched off in it",
    3: "it did not understand the request",
    4: "it does not know the operation",
    7: "it has a network failure",
    8: "it has no mapping left, or no outer address itself",
    9: "it does not map this transport protocol",
    10: "this host has too many mappings",
    11: "it cannot give the wanted outer port",
    12: "another router stands before this host",
    13: "too many peers are named",
}


class RouterError(Exception):
    """A router did not answer, answered nonsense, or refused; the text says which."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a router has granted: an outer port for some seconds."""

    port: int
    seconds: int
    epoch: int
    """Seconds since the router lost its mappings last."""
    address: str | None = None
    """The outer address, where the protocol tells it with the mapping."""


@dataclass(frozen=True, slots=True)
class Outer:
    """A router's outer address and its epoch."""

    epoch: int
    address: str | None


def natpmp_address_request() -> bytes:
    """Return the question for the outer address (RFC 6886, section 3.2)."""
    return b"\0\0"


def read_natpmp_address(reply: bytes) -> Outer:
    """Read the answer to it, or an announcement of a restart."""
    if len(reply) != 12 or reply[:2] != bytes([0, _REPLY]):
        raise RouterError("it answered something that is no NAT-PMP address")
    code, epoch = struct.unpack("!HI", reply[2:8])
    _check(code, _NATPMP_REASONS)
    return Outer(epoch, str(ipaddress.IPv4Address(reply[8:12])))


def natpmp_map_request(
    transport: Transport, port: int, *, outer: int, seconds: int
) -> bytes:
    """Return the request to map a port (section 3.3); 0 seconds remove it."""
    operation = _NATPMP_OPERATION[transport]
    return struct.pack("!BBHHHI", 0, operation, 0, port, outer, seconds)


def read_natpmp_map(reply: bytes, transport: Transport, port: int) -> Grant:
    """Read the answer; the outer port may be another than was asked for."""
    expected = bytes([0, _REPLY + _NATPMP_OPERATION[transport]])
    if len(reply) not in (8, 16) or reply[:2] != expected:
        raise RouterError("it answered something that is no NAT-PMP mapping")
    code, epoch = struct.unpack("!HI", reply[2:8])
    _check(code, _NATPMP_REASONS)
    if len(reply) != 16:
        raise RouterError("it answered a mapping that is cut off")
    inner, outer, seconds = struct.unpack("!HHI", reply[8:16])
    if inner != port:
        raise RouterError("it answered with the mapping of another port")
    return Grant(outer, seconds, epoch)


def is_natpmp_only(reply: bytes) -> bool:
    """Whether a reply to PCP says that the router speaks NAT-PMP alone.

    RFC 6887, appendix A: version 0 with "unsupported version".
    """
    return len(reply) >= 4 and reply[0] == 0 and reply[3] == UNSUPPORTED_VERSION


def pcp_announce_request(client: str) -> bytes:
    """Return the question for the epoch (RFC 6887, section 14.1)."""
    return _pcp_header(_PCP_ANNOUNCE, client, 0)


def read_pcp_announce(reply: bytes) -> Outer:
    """Read the answer to it, or an announcement of a restart."""
    _, epoch = _read_pcp_header(reply, _PCP_ANNOUNCE)
    return Outer(epoch, None)


def pcp_map_request(
    client: str,
    transport: Transport,
    port: int,
    *,
    outer: int,
    seconds: int,
    nonce: bytes,
) -> bytes:
    """Return the request to map a port (section 11.1); 0 seconds remove it."""
    any_address = ipaddress.IPv6Address("::ffff:0.0.0.0").packed
    protocol = _IP_PROTOCOL[transport]
    return (
        _pcp_header(_PCP_MAP, client, seconds)
        + nonce
        + struct.pack("!B3xHH", protocol, port, outer)
        + any_address
    )


def read_pcp_map(
    reply: bytes, transport: Transport, port: int, *, nonce: bytes
) -> Grant:
    """Read the answer; the outer port may be another than was asked for."""
    seconds, epoch = _read_pcp_header(reply, _PCP_MAP)
    if len(reply) < 60 or reply[24:36] != nonce:
        raise RouterError("it answered with another mapping than this node's")
    protocol, inner, outer = struct.unpack("!B3xHH", reply[36:44])
    if (protocol, inner) != (_IP_PROTOCOL[transport], port):
        raise RouterError("it answered with the mapping of another port")
    address = ipaddress.IPv6Address(reply[44:60])
    return Grant(outer, seconds, epoch, str(address.ipv4_mapped or address))


def _pcp_header(operation: int, client: str, seconds: int) -> bytes:
    address = ipaddress.ip_address(client)
    if address.version == 4:
        address = ipaddress.IPv6Address(f"::ffff:{address}")
    return struct.pack("!BBHI", _PCP_VERSION, operation, 0, seconds) + address.packed


def _read_pcp_header(reply: bytes, operation: int) -> tuple[int, int]:
    """Return the lifetime and the epoch of a reply."""
    if len(reply) < 24 or reply[:2] != bytes([_PCP_VERSION, _REPLY | operation]):
        raise RouterError("it answered something that is no PCP")
    _check(reply[3], _PCP_REASONS)
    seconds, epoch = struct.unpack("!II", reply[4:12])
    return seconds, epoch


def _check(code: int, reasons: dict[int, str]) -> None:
    if code != SUCCESS:
        raise RouterError(reasons.get(code, f"it refused with code {code}"))
