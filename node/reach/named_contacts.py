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
from node import results
from node.errors import UsageError
from node.reach.contacts import is_named, read_contacts
from node.settings.source import SettingSource
from node.settings.values import read_contacts as read_numeric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dht import Dht
    from node.commands import MeetCommand, Progress

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


class JoinCommands:
    """Joins through contacts that are named while the node runs."""

    def __init__(self, dht: Dht) -> None:
        self._dht = dht

    async def meet(
        self, command: MeetCommand, _progress: Progress
    ) -> results.MeetResult:
        """Ask contacts; those that do not answer are tried again."""
        keyed = [text for text in command.contacts if "@" in text]
        plain = [text for text in command.contacts if "@" not in text]
        source = SettingSource("HOST:PORT", UsageError)
        known = await asyncio.to_thread(read_numeric, plain, source)
        found = read_contacts(text for text in known if not is_named(text))
        answered = await self._dht.join([*read_contacts(keyed), *found])
        return results.MeetResult(asked=len(command.contacts), answered=answered)


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
