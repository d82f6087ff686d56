"""How a node meets others without being told: what runs beside the DHT for that."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
from typing import TYPE_CHECKING

from node.reach.lan_peers import LanPeers
from node.reach.port_mapping import PortMapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht import Dht, Network
    from node.background import Background
    from node.reach.port_mapping import PortMapping
    from node.settings import Settings

POLL_SECONDS = 5.0
"""The own address is looked at that often."""


class Reaching:
    """Starts what helps this node to find others and others to reach it."""

    def __init__(
        self,
        dht: Dht,
        network: Network,
        *,
        settings: Settings,
        background: Background,
    ) -> None:
        self.neighbours = LanPeers()
        self._changed = asyncio.Event()
        self._mapper: PortMapper | None = None
        self._dht = dht
        self._network = network
        self._settings = settings
        self._background = background

    @property
    def port_mapping(self) -> PortMapping | None:
        """What the router forwards to this node."""
        return self._mapper.mapping if self._mapper is not None else None

    def start(self, use_port: Callable[[int], None]) -> None:
        """Begin in the background; a node on loopback alone meets nobody this way.

        `use_port` gets the TCP port under which this node is to be announced.
        """
        hosts = [address.host for address in self._dht.addresses]
        if all(ipaddress.ip_address(host).is_loopback for host in hosts):
            return
        port = self._dht.addresses[0].port
        if self._settings.lan:
            # Only here: a node on loopback needs none of it.
            from node.reach.lan import Lan
            from node.reach.links import links

            lan = Lan(
                self._network.tag,
                port,
                links=functools.partial(links, hosts),
                meet=self._dht.meet,
                peers=self.neighbours,
            )
            self._background.start(lan.run(), "discovery on the local network")
        if self._settings.port_mapping and any(":" not in host for host in hosts):
            self._mapper = PortMapper(port, changed=self._mapping_changed)
            self._background.start(self._mapper.run(), "port mapping")
        self._background.start(self._follow(port, use_port), "own address")

    def _mapping_changed(self, mapping: PortMapping | None) -> None:
        del mapping
        self._changed.set()

    async def _follow(self, port: int, use_port: Callable[[int], None]) -> None:
        """Keep the announced port in step with what the router forwards."""
        while True:
            mapping, seen = self.port_mapping, self._dht.observed
            outer = port
            if mapping is not None and not mapping.is_behind_another(
                seen.host if seen is not None else None
            ):
                outer = mapping.tcp_port
            use_port(outer)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._changed.wait()
