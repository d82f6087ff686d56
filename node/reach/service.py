"""How a node meets others without being told: what runs beside the DHT for that."""

from __future__ import annotations

import functools
import ipaddress
from typing import TYPE_CHECKING

from node.reach.lan_peers import LanPeers

if TYPE_CHECKING:
    from dht import Dht, Network
    from node.background import Background
    from node.settings import Settings


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
        self._dht = dht
        self._network = network
        self._settings = settings
        self._background = background

    def start(self) -> None:
        """Begin in the background; a node on loopback alone meets nobody this way."""
        hosts = [address.host for address in self._dht.addresses]
        if all(ipaddress.ip_address(host).is_loopback for host in hosts):
            return
        if self._settings.lan:
            # Only here: a node on loopback needs none of it.
            from node.reach.lan import Lan
            from node.reach.links import links

            lan = Lan(
                self._network.tag,
                self._dht.addresses[0].port,
                links=functools.partial(links, hosts),
                meet=self._dht.meet,
                peers=self.neighbours,
            )
            self._background.start(lan.run(), "discovery on the local network")
