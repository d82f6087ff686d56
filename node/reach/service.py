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

from dht import Address, Contact, Reachable
from node import commands, results
from node.errors import UsageError
from node.reach.connector import Connector
from node.reach.invitation import CONTACTS_MAX, Invitation
from node.reach.lan_peers import LanPeers
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

POLL_SECONDS = 5.0
"""The own address is looked at that often."""
SUSPEND_SECONDS = 10.0
"""A pause of the process beyond the poll that counts as a suspend."""
MOVES_SECONDS_MIN = 15.0
"""Between two announcements of everything because of changed addresses."""


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


class Moves:
    """Notices that this machine is somewhere else, or was away; a plain object.

    A machine that was suspended may have been carried elsewhere, and what routers and
    other nodes knew of it is gone, so that counts as well. One more address is no
    move: what was announced of the others is still true.
    """

    def __init__(self) -> None:
        self._hosts: frozenset[str] = frozenset()
        self._looked_at: float | None = None
        self._moved_at = -math.inf
        self._is_news = False

    def has_moved(self, hosts: frozenset[str], now: float) -> bool:
        """Note the own addresses at a time (Unix seconds); whether to announce all.

        No address at all, as with a cable that is out, is no place. Where addresses
        come and go, everything is announced once in 15 s at most.
        """
        last, self._looked_at = self._looked_at, now
        was_away = last is not None and now - last > POLL_SECONDS + SUSPEND_SECONDS
        if not hosts:
            return False
        before, self._hosts = self._hosts, hosts
        if before and (was_away or before - hosts):
            self._is_news = True
        if not self._is_news or 0 <= now - self._moved_at < MOVES_SECONDS_MIN:
            return False
        self._is_news, self._moved_at = False, now
        return True


def own_hosts(listen: list[str]) -> frozenset[str]:
    """Return the addresses of this machine at which a node that listens is met."""
    from node.reach.links import links

    return frozenset(host for link in links(listen) for host in link.hosts)


def invited_contacts(
    dht: Dht, *, port_mapping: PortMapping | None
) -> tuple[Contact, ...]:
    """Return whom an invited machine is to ask: this node first, then old contacts.

    This node stands there with its outer address, if others see one, and with those
    of its links. Others are taken from different networks.
    """
    own = [Contact(dht.public_key, one) for one in _own(dht, port_mapping)]
    found = own[: CONTACTS_MAX - 1]
    groups = {one.address.group for one in found}
    for status in sorted(dht.contacts(), key=lambda one: -one.age_seconds):
        contact = status.contact
        new = contact.address.group is None or contact.address.group not in groups
        if len(found) < CONTACTS_MAX and new:
            groups.add(contact.address.group)
            found.append(contact)
    return tuple(found)


def _own(dht: Dht, port_mapping: PortMapping | None) -> list[Address]:
    """Return the addresses of this node, the outer one first."""
    found = []
    if dht.observed is not None:
        mapped = port_mapping is not None and port_mapping.is_public
        port = port_mapping.udp_port if mapped and port_mapping else None
        found.append(Address(dht.observed.host, port or dht.observed.port))
    for bound in dht.addresses:
        if not ipaddress.ip_address(bound.host).is_unspecified:
            found.append(bound)
            continue
        from node.reach.links import links

        hosts = [host for link in links([bound.host]) for host in link.hosts]
        found += [Address(host, bound.port) for host in hosts[:2]]
    return list(dict.fromkeys(found))
