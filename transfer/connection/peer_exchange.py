"""Peer exchange (after BEP 11): a seeder names the other leechers of an artifact.

Only leechers that serve while they download are named (docs/protocol-transfer.md,
section 7). Unlike BEP 11, an entry carries the IP address that the leecher's own
connection came from, so that nobody can have a third party dialled, and the node key
that the dialler must meet there.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TYPE_CHECKING

from transfer.connection.peer import Peer
from transfer.errors import WireError
from transfer.limits import PEX_PEERS_PER_SEEDER_MAX, PEX_PORT_MIN

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable


_ENTRY = struct.Struct(">32s16sH")


def peer_seen(host: str, port: int, public_key: bytes) -> Peer | None:
    """Return the peer that serves on `port` of a connection's host.

    None if others could not dial it: no port, a reserved port, or an IPv6 zone.
    """
    if port < PEX_PORT_MIN or "%" in host:
        return None
    return Peer(_plain(ipaddress.ip_address(host)), port, public_key)


def reach(host: str) -> int:
    """Return 0 for a public address, 1 for a private range, 2 for loopback.

    A peer may name, and is named, addresses up to its own reach: nobody else
    could use them.
    """
    address = ipaddress.ip_address(_plain(ipaddress.ip_address(host.partition("%")[0])))
    if address.is_loopback:
        return 2
    return 0 if address.is_global else 1


def pack(peers: Iterable[Peer]) -> bytes:
    """Return the entries of a `PeerExchange` message."""
    return b"".join(
        _ENTRY.pack(peer.public_key or b"", _mapped(peer.host), peer.port)
        for peer in peers
    )


def unpack(entries: bytes) -> list[Peer]:
    """Read the entries of a `PeerExchange` message; raise WireError."""
    if len(entries) % _ENTRY.size:
        raise WireError("The seeder sent a peer exchange that cannot be read.")
    found = []
    for public_key, packed, port in _ENTRY.iter_unpack(entries):
        if port < PEX_PORT_MIN:
            raise WireError("The seeder named a peer on a reserved port.")
        found.append(Peer(_plain(ipaddress.IPv6Address(packed)), port, public_key))
    return found


class PexHints:
    """Filters the peers that the seeders of one download name."""

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

    def hear(self, seeder: Peer, entries: bytes) -> None:
        """Read what `seeder` says, in any thread; raise WireError.

        A seeder may name `PEX_PEERS_PER_SEEDER_MAX` peers, none of them in a
        nearer range than its own address: a public seeder cannot have a private
        address dialled.
        """
        named = self._named.setdefault(seeder, set())
        believed = []
        for peer in unpack(entries):
            if (
                peer.public_key != self._own_key
                and peer not in named
                and len(named) < PEX_PEERS_PER_SEEDER_MAX
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
