"""Discovery on the local network by multicast DNS (RFC 6762, RFC 6763).

Each link gets its own responder and browser of the service `_caravan._udp.local`.
The instance name is random, the TXT record holds the network's tag and nothing
else. What another host announces is an address to try, no more: it must lie on the
link itself, so that a forged record aims this node at no stranger, and only a node
that proves its key there becomes a neighbour.

The links are looked at again every two seconds. A link that has come, gone or
changed its addresses gets a fresh responder, and so do all after a suspend: then
everything is announced and asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from dht import Address, AddressError
from node.reach.moves import SUSPEND_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from dht import Contact
    from node.reach.lan_peers import LanPeers
    from node.reach.links import Link

SERVICE = "_caravan._udp.local."
TAG_PROPERTY = b"n"
POLL_SECONDS = 2.0
CONFIRM_SECONDS = 30.0
"""Neighbours are pinged that often; see `LAN_PEER_SECONDS`."""
RESOLVE_MILLISECONDS = 3000
RESOLVING_MAX = 32
"""Announcements of one link that are resolved at once; others are dropped."""
ADDRESSES_PER_HOST_MAX = 4
"""Of one announcement; twice as many of one host are tried in a minute."""
TRIES_PER_MINUTE_MAX = 120
"""Addresses of one link that are tried in a minute, from all announcers together."""

_log = logging.getLogger(__name__)


class Lan:
    """Announces this node to its links and meets the nodes that it finds there."""

    def __init__(
        self,
        tag: bytes,
        port: int,
        *,
        links: Callable[[], tuple[Link, ...]],
        meet: Callable[[Iterable[Address]], Awaitable[Sequence[Contact]]],
        peers: LanPeers,
    ) -> None:
        """`meet` pings addresses and returns the contacts that proved their key.

        They are noted in `peers`.
        """
        self.peers = peers
        self._tag = tag
        self._port = port
        self._links = links
        self._meet = meet
        self._responders: dict[Link, Responder] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Announce and look until cancelled; then take the announcements back."""
        confirm_at = 0.0
        try:
            while True:
                began = time.time()
                await self._follow_links()
                if time.monotonic() >= confirm_at:
                    self._spawn(self._confirm())
                    confirm_at = time.monotonic() + CONFIRM_SECONDS
                await asyncio.sleep(POLL_SECONDS)
                # The monotonic clock stands still in a suspend; this one does not.
                if time.time() - began > POLL_SECONDS + SUSPEND_SECONDS:
                    await self._close_responders()
        finally:
            for task in self._tasks:
                task.cancel()
            await self._close_responders()

    @property
    def links(self) -> tuple[Link, ...]:
        """The links on which this node is announced now."""
        return tuple(self._responders)

    async def _follow_links(self) -> None:
        """Bring the responders in step with the links that there are."""
        there = set(self._links())
        gone = [link for link in self._responders if link not in there]
        for link in gone:
            await self._responders.pop(link).close()
        for link in there - self._responders.keys():
            responder = Responder(
                link, tag=self._tag, port=self._port, found=self._found
            )
            try:
                await responder.start()
            except (OSError, ZeroconfError) as error:
                # Another program may hold the port alone, or the link just went.
                _log.info("no discovery on %s: %s", link.name, error)
                await responder.close()
                continue
            self._responders[link] = responder

    async def _close_responders(self) -> None:
        responders = list(self._responders.values())
        self._responders.clear()
        for responder in responders:
            await responder.close()

    def _found(self, addresses: list[Address]) -> None:
        self._spawn(self._try(addresses))

    async def _try(self, addresses: Iterable[Address]) -> None:
        """Meet the nodes that answer at these addresses."""
        for contact in await self._meet(addresses):
            self.peers.met(contact, time.monotonic())

    async def _confirm(self) -> None:
        """Ping all neighbours, so that those that are gone are noticed."""
        await self._try([one.address for one in self.peers.remembered()])
        alive = {one.public_key for one in self.peers.contacts(time.monotonic())}
        for contact in self.peers.remembered():
            if contact.public_key not in alive:
                self.peers.forget(contact.public_key)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("a local contact could not be tried: %s", error)


class Responder:
    """The mDNS responder and browser of one link."""

    def __init__(
        self,
        link: Link,
        *,
        tag: bytes,
        port: int,
        found: Callable[[list[Address]], None],
    ) -> None:
        self._link = link
        self._tag = tag.hex().encode()
        self._port = port
        self._found = found
        self._name = f"{secrets.token_hex(8)}.{SERVICE}"
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._announcing: asyncio.Future[Any] | None = None
        self._resolving: set[asyncio.Task[None]] = set()
        self._tries = Tries(TRIES_PER_MINUTE_MAX)

    async def start(self) -> None:
        """Announce this node on the link and begin to listen; raises OSError."""
        self._zeroconf = AsyncZeroconf(
            interfaces=_interfaces(self._link), ip_version=_version(self._link)
        )
        info = AsyncServiceInfo(
            SERVICE,
            self._name,
            port=self._port,
            properties={TAG_PROPERTY: self._tag},
            server=f"{self._name.partition('.')[0]}.local.",
            parsed_addresses=list(self._link.hosts),
        )
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE, handlers=[self._changed]
        )
        # A random name collides with nobody, so nothing is probed for first.
        announcing = await self._zeroconf.async_register_service(
            info, cooperating_responders=True
        )
        self._announcing = asyncio.ensure_future(announcing)
        self._announcing.add_done_callback(_heed)

    async def close(self) -> None:
        """Take the announcement back and close the sockets."""
        for task in self._resolving:
            task.cancel()
        with contextlib.suppress(OSError, ZeroconfError, TimeoutError):
            async with asyncio.timeout(1.0):
                if self._browser is not None:
                    await self._browser.async_cancel()
                if self._zeroconf is not None:
                    await self._zeroconf.async_close()

    def _changed(
        self,
        *,
        zeroconf: Any,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        """Resolve what was announced; its removal is learnt by pings."""
        if state_change is ServiceStateChange.Removed or name == self._name:
            return
        if len(self._resolving) >= RESOLVING_MAX:
            return
        task = asyncio.get_running_loop().create_task(
            self._resolve(zeroconf, service_type, name)
        )
        self._resolving.add(task)
        task.add_done_callback(self._resolving.discard)

    async def _resolve(self, zeroconf: Any, service_type: str, name: str) -> None:
        info = AsyncServiceInfo(service_type, name)
        try:
            if not await info.async_request(zeroconf, RESOLVE_MILLISECONDS):
                return
        except Exception as error:  # noqa: BLE001 - strangers write what is read here
            _log.debug("%s could not be resolved: %s", name, error)
            return
        hosts = info.parsed_addresses(IPVersion.All)
        addresses = believable(
            self._link, self._tag, info.properties, hosts=hosts, port=info.port
        )
        # Another node of this machine has the same hosts, and another port.
        own = self._link.hosts if info.port == self._port else ()
        addresses = [one for one in addresses if one.host not in own]
        addresses = self._tries.allow(addresses, time.monotonic())
        if addresses:
            self._found(addresses)


class Tries:
    """How many addresses may be tried in a minute; the time is an argument."""

    def __init__(self, most: int, per_host: int = 2 * ADDRESSES_PER_HOST_MAX) -> None:
        """`most` of all hosts together, `per_host` of one, so none takes all."""
        self._most = most
        self._per_host = per_host
        self._of_host: Counter[str] = Counter()
        self._until = 0.0

    def allow(self, addresses: list[Address], now: float) -> list[Address]:
        """Return as many of the addresses as may still be tried."""
        if now >= self._until:
            self._of_host.clear()
            self._until = now + 60.0
        allowed = []
        for address in addresses:
            of_host = self._of_host[address.host]
            if of_host < self._per_host and self._of_host.total() < self._most:
                self._of_host[address.host] += 1
                allowed.append(address)
        return allowed


def believable(
    link: Link,
    tag: bytes,
    properties: dict[bytes, bytes | None],
    *,
    hosts: Iterable[str],
    port: int | None,
) -> list[Address]:
    """Return the addresses of an announcement that are worth a ping.

    The tag must be this network's, and each address must lie on the link.
    """
    if properties != {TAG_PROPERTY: tag} or port is None:
        return []
    addresses = []
    for host in hosts:
        if not link.has(host):
            continue
        with contextlib.suppress(AddressError):
            address = Address(host, port)
            if address.dialable:
                addresses.append(address)
    return addresses[:ADDRESSES_PER_HOST_MAX]


def _interfaces(link: Link) -> list[str | int]:
    """Return what selects a link for multicast: IPv4 addresses, and the number."""
    chosen: list[str | int] = [str(o.ip) for o in link.interfaces if o.version == 4]
    if any(one.version == 6 for one in link.interfaces):
        chosen.append(link.zone)
    return chosen


def _version(link: Link) -> IPVersion:
    versions = {one.version for one in link.interfaces}
    if versions == {4}:
        return IPVersion.V4Only
    return IPVersion.V6Only if versions == {6} else IPVersion.All


def _heed(task: asyncio.Future[Any]) -> None:
    """Take note of how the announcing ended; the link may have gone meanwhile."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.info("the announcement on the local network failed: %s", error)
