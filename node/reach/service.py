"""How a node meets others on its own: what runs beside the DHT for that."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import math
import random
import socket
import time
from typing import TYPE_CHECKING

from dht import Reachable
from node import commands, results
from node.errors import UsageError
from node.reach.connector import Connector
from node.reach.invitation import Invitation
from node.reach.invited_contacts import invited_contacts
from node.reach.lan_peers import LanPeers
from node.reach.moves import POLL_SECONDS, Moves, own_hosts
from node.reach.openings import Openings
from node.reach.port_mapping import PortMapper
from node.reach.rendezvous import Rendezvous
from node.reach.status import reachability

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht import Dht, Network
    from node.background import Background
    from node.reach.port_mapping import PortMapping
    from node.settings import Settings
    from transfer import Peer


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
        self.openings = Openings(background)
        self.connector = Connector(dht, self.openings, background)
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

    def start(
        self,
        use_port: Callable[[int], None],
        adopt: Callable[[socket.socket, tuple[str, int]], object],
    ) -> None:
        """Begin in the background; a node on loopback alone meets nobody this way.

        `use_port` gets the TCP port under which this node is to be announced, `adopt`
        the sockets of calls that are to be served.
        """
        self.connector.adopt = adopt
        hosts = [address.host for address in self._dht.addresses]
        if all(ipaddress.ip_address(host).is_loopback for host in hosts):
            return
        port = self._dht.addresses[0].port
        self.openings.on_dial_back = self._dht.dial_back.arrived_tcp
        self._dht.dial_back.watch(port, self.openings.dial_back)
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
            self._background.run_forever(lan.run, "discovery on the local network")
        if self._settings.port_mapping and any(":" not in host for host in hosts):
            self._mapper = PortMapper(port, changed=self._mapping_changed)
            self._background.run_forever(self._mapper.run, "port mapping")
        if self._settings.rendezvous == "mainline":
            rendezvous = Rendezvous(
                self._dht,
                self._network,
                home=self._settings.home,
                rng=random.SystemRandom(),
            )
            self._background.run_forever(rendezvous.run, "rendezvous")
        follow = functools.partial(self._follow, port, use_port)
        self._background.run_forever(follow, "own address")

    def reachability(self) -> results.Reachability:
        """Return how others reach this node, and by whose word."""
        problem = self._mapper.problem if self._mapper is not None else ""
        introducers = self._dht.introductions.introducers
        otherwise = "punched" if introducers else ""
        if any(one.relays for one in introducers):
            otherwise = "relayed"
        return reachability(
            self._dht,
            mapping=self.port_mapping,
            problem=problem,
            by_introducers=otherwise,
        )

    def heard(self, peer: Peer) -> float:
        """Return when a peer's key last gave a sign of life at its IP address."""
        if peer.public_key is None:
            return -math.inf
        return self._dht.heard(peer.public_key, peer.host)

    async def invite(
        self, command: commands.InviteCommand, _progress: commands.Progress
    ) -> results.InviteResult:
        """Return a line with which another machine joins this network."""
        network = self._network
        if command.network not in (None, network.name):
            raise UsageError(
                f"this node is in the network {network.name!r}, not in "
                f"{command.network!r}; ask the node of that network (--home)"
            )
        expires = int(time.time()) + command.seconds
        contacts = invited_contacts(self._dht, port_mapping=self.port_mapping)
        made = Invitation(network.name, network.secret, expires, contacts)
        return results.InviteResult(invitation=made.line, expires=expires)

    def _introduce(self, port: int) -> None:
        """Be an introducer where others can dial this node, else look for some."""
        introductions = self._dht.introductions
        tcp = self._dht.dial_back.reachable("tcp").reachable
        is_reachable = tcp is Reachable.YES
        relay = self._settings.relay
        relays = relay == "all" or (
            relay == "members" and self._network.secret is not None
        )
        self.connector.port = port
        introductions.tcp_port = port if is_reachable else 0
        introductions.relays = self.openings.relay.is_open = is_reachable and relays
        self.openings.meeting_point.is_open = is_reachable
        introductions.expect_meeting = self.openings.meeting_point.expect
        introductions.expect_relay = self.openings.relay.expect
        introductions.on_called = self.connector.called
        introductions.on_refused = self.openings.cancel
        introductions.maintain(wanted=tcp is Reachable.NO)

    def _mapping_changed(self, mapping: PortMapping | None) -> None:
        del mapping
        self._dht.dial_back.recheck()
        self._changed.set()

    async def _follow(self, port: int, use_port: Callable[[int], None]) -> None:
        """Keep what is announced in step with the router and the own addresses."""
        hosts = [address.host for address in self._dht.addresses]
        moves = Moves()
        while True:
            if moves.has_moved(own_hosts(hosts), time.time()):
                self._dht.dial_back.address_changed()
            outer = self._outer_port(port)
            if outer != self._dht.dial_back.tcp_port:
                # TCP is dialled where the router lets it in.
                self._dht.dial_back.tcp_port = outer
                self._dht.dial_back.recheck()
            self._introduce(outer)
            use_port(outer)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._changed.wait()

    def _outer_port(self, port: int) -> int:
        """Return the TCP port at which others dial this node."""
        mapping, seen = self.port_mapping, self._dht.observed
        if mapping is None or mapping.is_behind_another(
            seen.host if seen is not None else None
        ):
            return port
        return mapping.tcp_port
