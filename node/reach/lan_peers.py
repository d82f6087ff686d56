"""Nodes of the local network: where each node key was met last, and how lately.

An entry is made only for a node that has proved its key at the address. It is good
for a while and then has to be confirmed by another ping, because mDNS tells late,
or never, that a host is gone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dht import Address, Contact

LAN_PEERS_MAX = 256
LAN_PEER_SECONDS = 90.0
"""How long a node counts as a neighbour after it has answered."""


class LanPeers:
    """Remembers neighbours; the time is given as an argument, in seconds."""

    def __init__(self) -> None:
        self._met: OrderedDict[bytes, tuple[Contact, float]] = OrderedDict()

    def met(self, contact: Contact, now: float) -> None:
        """Note that a node has proved its key at a local address."""
        self._met.pop(contact.public_key, None)
        self._met[contact.public_key] = (contact, now + LAN_PEER_SECONDS)
        if len(self._met) > LAN_PEERS_MAX:
            self._met.popitem(last=False)

    def address_of(self, public_key: bytes, now: float) -> Address | None:
        """Return where a node is met on the local network; None if it is not."""
        contact, until = self._met.get(public_key, (None, 0.0))
        return contact.address if contact is not None and until > now else None

    def contacts(self, now: float) -> list[Contact]:
        """Return the neighbours that answered lately, the latest first."""
        alive = [contact for contact, until in self._met.values() if until > now]
        return alive[::-1]

    def remembered(self) -> list[Contact]:
        """Return all neighbours, also those that have not answered for a while."""
        return [contact for contact, _ in self._met.values()]

    def forget(self, public_key: bytes) -> None:
        """Forget a neighbour."""
        self._met.pop(public_key, None)
