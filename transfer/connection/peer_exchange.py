"""Peers that download the same thing: where they are, and who may tell of them.

A seeder tells a leecher of others that serve while they download (docs/protocol-
transfer.md, section 7). It names the IP address that their connection came from, so
that nobody can have a third party dialled, and the node key that has to be met there.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING

from transfer.connection.peer import Peer
from transfer.errors import WireError
from transfer.limits import FELLOW_PORT_MIN, FELLOWS_PER_SEEDER_MAX

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from transfer.leeching.chunk_receiver import PeerRequest

_ENTRY = struct.Struct(">32s16sH")


def peer_seen(host: str, port: int, public_key: bytes) -> Peer | None:
    """Return the peer that serves on `port` of the host that a connection came from.

    None where others could not use that: no port, a reserved one, or an IPv6 zone.
    """
    if port < FELLOW_PORT_MIN or "%" in host:
        return None
    return Peer(_plain(ipaddress.ip_address(host)), port, public_key)


def reach(host: str) -> int:
    """Return 0 for a public address, 1 for one of a private range, 2 for loopback.

    Who is at an address of some reach may tell of addresses up to that reach, and
    be told of them; others could only be misled by them.
    """
    address = ipaddress.ip_address(_plain(ipaddress.ip_address(host.partition("%")[0])))
    if address.is_loopback:
        return 2
    return 0 if address.is_global else 1


def pack(peers: Iterable[Peer]) -> bytes:
    """Return the entries of a `fellows` message."""
    return b"".join(
        _ENTRY.pack(peer.public_key or b"", _mapped(peer.host), peer.port)
        for peer in peers
    )


def unpack(entries: bytes) -> list[Peer]:
    """Read the entries of a `fellows` message; raises WireError."""
    if len(entries) % _ENTRY.size:
        raise WireError("The seeder named fellows in a form that cannot be read.")
    found = []
    for public_key, packed, port in _ENTRY.iter_unpack(entries):
        if port < FELLOW_PORT_MIN:
            raise WireError("The seeder named a fellow on a reserved port.")
        found.append(Peer(_plain(ipaddress.IPv6Address(packed)), port, public_key))
    return found


class PexHints:
    """What a download makes of the fellows that its seeders name."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        own_key: bytes,
        meet: Callable[[list[Peer]], None],
    ) -> None:
        self._loop = loop
        self._own_key = own_key
        self._meet = meet
        self._named: dict[Peer, set[Peer]] = {}

    def hear(self, line: PeerRequest, entries: bytes) -> None:
        """Take what a seeder says, in any thread; raises WireError.

        Of one seeder so many are believed and no more, and none of them is nearer
        than the seeder itself.
        """
        seeder = line.connection.peer
        named = self._named.setdefault(seeder, set())
        believed = []
        for peer in unpack(entries):
            if (
                peer.public_key != self._own_key
                and peer not in named
                and len(named) < FELLOWS_PER_SEEDER_MAX
                and reach(peer.host) <= reach(seeder.host)
            ):
                named.add(peer)
                believed.append(peer)
        if believed:
            self._loop.call_soon_threadsafe(self._meet, believed)


def _plain(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _mapped(host: str) -> bytes:
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return ipaddress.IPv6Address(f"::ffff:{address}").packed
    return address.packed
