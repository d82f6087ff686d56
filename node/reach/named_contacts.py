"""Contacts given by a host name that DNS did not know when the node started.

A laptop boots before its network, and a name may move to another address. So a name is
asked for again while the node knows nobody.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from dht import Address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dht import Dht

log = logging.getLogger(__name__)

ALONE_SECONDS = 10.0
JOINED_SECONDS = 60.0


class NamedContacts:
    """Joins through host names, as soon as one of them leads somewhere."""

    def __init__(self, dht: Dht, names: Sequence[str]) -> None:
        """`names` are HOST:PORT."""
        self._dht = dht
        self._names = names

    async def round(self) -> float:
        """Ask once where nobody is known; return the seconds until the next time."""
        if self._dht.contacts():
            return JOINED_SECONDS
        found = await asyncio.to_thread(_resolved, self._names)
        if found:
            await self._dht.join(found)
        return ALONE_SECONDS


def _resolved(names: Sequence[str]) -> list[Address]:
    """Return the addresses that DNS gives for the names; unknown ones are left out."""
    addresses: list[Address] = []
    for name in names:
        host, _, port = name.rpartition(":")
        try:
            found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            log.info("the host %s is not known: %s", host, error)
            continue
        addresses += [Address(str(one[4][0]), int(port)) for one in found]
    return addresses
