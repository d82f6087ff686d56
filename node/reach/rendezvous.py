"""The rendezvous: when to look for first contacts, and whom to ask for them.

The order is remembered contacts, the local network, named contacts, and only then
this. A node that has enough contacts only announces itself, every 15 minutes, because
announcements end after 30.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Final

from dht import Address, AddressError
from node.reach.mainline import MainlineClient, info_hash

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dht import Dht, Network

ANNOUNCE_SECONDS = 900.0
START_SECONDS = 3.0
"""Remembered contacts and the local network have that long to answer first."""
RETRY_SECONDS = 30.0
CONTACTS_ENOUGH: Final = 8
TRIES_MAX: Final = 16
"""Addresses of one lookup that are pinged."""
TRY_AGAIN_SECONDS: Final = 3600.0
PER_HOST_MAX: Final = 2
NODES_KEPT_MAX: Final = 50
NODES_FILE = "mainline.nodes"
DEFAULT_NODES = (
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
)

_log = logging.getLogger(__name__)


class Tried:
    """Which found addresses may be pinged; the time is an argument."""

    def __init__(self) -> None:
        self._until: dict[Address, float] = {}

    def choose(self, found: Iterable[Address], now: float) -> list[Address]:
        """Return a few that were not tried for an hour, few of one host."""
        self._until = {one: end for one, end in self._until.items() if end > now}
        chosen: list[Address] = []
        for address in found:
            of_host = sum(one.host == address.host for one in (*chosen, *self._until))
            if address in self._until or of_host >= PER_HOST_MAX:
                continue
            chosen.append(address)
            if len(chosen) == TRIES_MAX:
                break
        self._until |= dict.fromkeys(chosen, now + TRY_AGAIN_SECONDS)
        return chosen


class Rendezvous:
    """Announces this node in Mainline and meets the nodes that it finds there."""

    def __init__(
        self,
        dht: Dht,
        network: Network,
        *,
        home: Path,
        rng: random.Random,
        nodes: Sequence[str] = DEFAULT_NODES,
    ) -> None:
        self._dht = dht
        self._target = info_hash(network)
        self._file = home / NODES_FILE
        self._nodes = nodes
        self._tried = Tried()
        self._client = MainlineClient(dht.send_foreign, rng)

    async def run(self) -> None:
        """Look and announce until cancelled."""
        self._dht.on_foreign(self._client.received)
        await asyncio.sleep(START_SECONDS)
        while True:
            if await self.meet() or len(self._dht.contacts()) >= CONTACTS_ENOUGH:
                await asyncio.sleep(ANNOUNCE_SECONDS)
            else:
                await asyncio.sleep(RETRY_SECONDS)

    async def meet(self) -> int:
        """Look up and announce once; return how many nodes proved their key."""
        seeds = self._remembered() or await asyncio.to_thread(self._resolved)
        found = await self._client.find(self._target, seeds, announce=True)
        if not found.nodes:
            _log.info("no node of Mainline answers")
            return 0
        self._remember(found.nodes)
        if len(self._dht.contacts()) >= CONTACTS_ENOUGH:
            return 0
        own = self._dht.observed
        addresses = [one for one in found.peers if one != own]
        return len(
            await self._dht.meet(self._tried.choose(addresses, time.monotonic()))
        )

    def _remembered(self) -> list[Address]:
        try:
            lines = self._file.read_text("ascii").splitlines()[:NODES_KEPT_MAX]
        except (OSError, ValueError):
            return []
        return _parsed(lines)

    def _remember(self, nodes: Sequence[Address]) -> None:
        kept = dict.fromkeys([*nodes, *self._remembered()])
        lines = [str(one) for one in kept][:NODES_KEPT_MAX]
        fresh = self._file.with_suffix(".fresh")
        try:
            fresh.write_text("\n".join(lines) + "\n", "ascii")
            fresh.replace(self._file)
        except OSError as error:
            _log.info("the nodes of Mainline are not remembered: %s", error)

    def _resolved(self) -> list[Address]:
        """Return the addresses of the nodes that everybody begins with."""
        found = []
        for text in self._nodes:
            host, _, port = text.rpartition(":")
            try:
                entries = socket.getaddrinfo(
                    host, int(port), socket.AF_INET, socket.SOCK_DGRAM
                )
            except OSError:
                continue
            found += [f"{entry[4][0]}:{port}" for entry in entries]
        return _parsed(found)


def _parsed(lines: Iterable[str]) -> list[Address]:
    found = []
    for line in lines:
        try:
            address = Address.parse(line)
        except AddressError:
            continue
        if address.dialable:
            found.append(address)
    return found
