"""Port mapping: the router is asked to forward the node's port, and kept to it.

PCP, NAT-PMP and UPnP are tried in this order. Four rules, each learnt from a router:

1. UDP and TCP are renewed as a pair, UDP first and TCP last. Renewing UDP deletes the
   TCP rule in some routers, with every answer "ok"; renewing TCP next repairs it.
2. The reply is obeyed: a router may grant another outer port than was asked for.
3. A restart loses mappings. It shows by an announcement (224.0.0.1:5350), by an
   epoch that is smaller than it should be, or by another gateway; then everything is
   mapped again at once.
4. An outer address that is not public, or that others do not see, means that another
   router stands before this one (carrier-grade NAT): the mapping helps nobody there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import struct
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from node.reach import pcp
from node.reach.pcp import RouterError
from node.reach.routers import (
    NatPmpRouter,
    PcpRouter,
    Router,
    UpnpRouter,
    address_towards,
    default_gateway,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from node.reach.pcp import Grant, Outer

LEASE_SECONDS = 3600
EPOCH_SECONDS = 300.0
"""The router is asked that often whether it has restarted."""
RETRY_SECONDS = 30.0
RETRY_SECONDS_MAX = 600.0
POLL_SECONDS = 2.0
REMOVE_SECONDS_MAX = 1.0
ANNOUNCEMENT_PAUSE_SECONDS = 5.0
"""Announcements are heeded once in that time: anybody on the link can send them."""
RENEW_SECONDS_MIN = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PortMapping:
    """What a router forwards to this node now."""

    protocol: str
    address: str | None
    """The outer address as the router says."""
    udp_port: int
    tcp_port: int
    since: float
    """Unix seconds."""

    @property
    def is_public(self) -> bool:
        """Whether the router's outer address can be reached from everywhere."""
        return self.address is not None and ipaddress.ip_address(self.address).is_global

    def is_behind_another(self, seen: str | None) -> bool:
        """Whether another router stands before; `seen` is the address others see."""
        if not self.is_public:
            return True
        return seen is not None and seen != self.address


class EpochWatch:
    """Notices by a router's epoch that it has lost its mappings.

    RFC 6886, section 3.6, and RFC 6887, section 8.5: the epoch grows by a second in a
    second; a clock may run slow by an eighth, and 2 s are forgiven.
    """

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def restarted(self, epoch: int, now: float) -> bool:
        """Note an epoch; whether it is smaller than it must be by now."""
        last, self._last = self._last, (epoch, now)
        if last is None:
            return False
        return epoch + 2 < last[0] + (now - last[1]) * 7 / 8


def find_routers() -> list[Router]:
    """Return how the default gateway may be asked, best first; empty without one."""
    gateway = default_gateway()
    if gateway is None:
        return []
    client = address_towards(gateway)
    if client is None or not ipaddress.ip_address(client).is_private:
        return []  # a public address needs no mapping
    routers: list[Router] = [PcpRouter(gateway, client), NatPmpRouter(gateway)]
    with contextlib.suppress(ImportError):
        import miniupnpc

        routers.append(UpnpRouter(miniupnpc))
    return routers


class PortMapper:
    """Keeps one port mapped for UDP and TCP."""

    def __init__(
        self,
        port: int,
        *,
        changed: Callable[[PortMapping | None], None],
        routers: Callable[[], Sequence[Router]] = find_routers,
        gateway: Callable[[], str | None] = default_gateway,
    ) -> None:
        """Pass each mapping that differs from the one before to `changed`."""
        self._port = port
        self._changed = changed
        self._routers = routers
        self._gateway = gateway
        self._router: Router | None = None
        self._epochs = EpochWatch()
        self._announced = asyncio.Event()
        self._heed_at = 0.0
        self._retry_seconds = RETRY_SECONDS
        self.mapping: PortMapping | None = None
        self.problem = ""
        """Why there is no mapping, in the words of a sentence; empty where one is."""

    async def run(self) -> None:
        """Map and renew until cancelled, then remove the mapping."""
        listener = _listen_for_announcements(self._announced.set)
        try:
            while True:
                gateway = self._gateway()
                renew_seconds = await self._map_again()
                await self._rest(gateway, renew_seconds)
        finally:
            if listener is not None:
                asyncio.get_running_loop().remove_reader(listener.fileno())
                listener.close()
            await self._remove()

    async def _map_again(self) -> float:
        """Map or renew; return after how many seconds to do so again."""
        routers = [self._router] if self._router is not None else []
        problems = []
        for router in routers or self._routers():
            try:
                seconds = await self._map_pair(router)
            except RouterError as error:
                problems.append(f"{router.name}: {error}")
                continue
            self._retry_seconds = RETRY_SECONDS
            return max(seconds / 2, RENEW_SECONDS_MIN)
        self.problem = "; ".join(problems) or "there is no router to ask"
        self._set(None)
        if self._router is not None:
            # It was asked alone; the next turn looks for all that there is.
            self._router = None
            return 0.0
        pause = self._retry_seconds
        self._retry_seconds = min(2 * pause, RETRY_SECONDS_MAX)
        return pause

    async def _map_pair(self, router: Router) -> int:
        """Map UDP first and TCP last; return the seconds for which both are granted."""
        last = self.mapping
        outer = last.udp_port if last is not None else self._port
        udp = await router.map("udp", self._port, outer=outer, seconds=LEASE_SECONDS)
        # One number for both, if it can be had: people forward ports by number.
        wanted = last.tcp_port if last is not None else udp.port
        tcp = await router.map("tcp", self._port, outer=wanted, seconds=LEASE_SECONDS)
        address = tcp.address or (await router.outer()).address
        self._epochs.restarted(tcp.epoch, time.monotonic())
        self._router = router
        self.problem = ""
        self._set(_mapping(router, address, udp=udp, tcp=tcp))
        return min(udp.seconds, tcp.seconds)

    def _set(self, mapping: PortMapping | None) -> None:
        last = self.mapping
        if last is not None and mapping is not None:
            if replace(mapping, since=last.since) == last:
                return
        elif last is mapping:
            return
        self.mapping = mapping
        if mapping is None:
            _log.info("the router forwards no port: %s", self.problem)
        else:
            _log.info("the router forwards a port by %s: %s", mapping.protocol, mapping)
        self._changed(mapping)

    async def _rest(self, gateway: str | None, seconds: float) -> None:
        """Wait for the next renewal, or for a sign that mappings were lost."""
        now = time.monotonic()
        renew_at, epoch_at = now + seconds, now + EPOCH_SECONDS
        while (now := time.monotonic()) < renew_at:
            if self._gateway() != gateway:
                self._router = None
                self._retry_seconds = RETRY_SECONDS
                return
            if now >= epoch_at:
                epoch_at = now + EPOCH_SECONDS
                if await self._has_restarted():
                    return
            left = min(renew_at, epoch_at) - now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(left, POLL_SECONDS))):
                    await self._announced.wait()
            if self._announced.is_set():
                await asyncio.sleep(max(0.0, self._heed_at - time.monotonic()))
                self._heed_at = time.monotonic() + ANNOUNCEMENT_PAUSE_SECONDS
                self._announced.clear()
                return

    async def _has_restarted(self) -> bool:
        """Ask the router for its epoch; whether it has lost its mappings."""
        if self._router is None:
            return False
        try:
            outer: Outer = await self._router.outer()
        except RouterError:
            return True
        if self.mapping is not None and outer.address not in (
            None,
            self.mapping.address,
        ):
            return True  # the provider has given the router another address
        return self._epochs.restarted(outer.epoch, time.monotonic())

    async def _remove(self) -> None:
        """Remove the mapping; a router that does not answer forgets it by itself."""
        mapping, router = self.mapping, self._router
        if mapping is None or router is None:
            return
        with contextlib.suppress(RouterError, TimeoutError):
            async with asyncio.timeout(REMOVE_SECONDS_MAX):
                await router.remove("udp", self._port, mapping.udp_port)
                await router.remove("tcp", self._port, mapping.tcp_port)


def _mapping(
    router: Router, address: str | None, *, udp: Grant, tcp: Grant
) -> PortMapping:
    return PortMapping(router.name, address, udp.port, tcp.port, time.time())


def _listen_for_announcements(heard: Callable[[], None]) -> socket.socket | None:
    """Call `heard` for each restart that a router announces; None if it cannot be.

    What is announced is not believed: it only makes this node ask the router.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        opened.bind(("", pcp.ANNOUNCEMENT_PORT))
        group = socket.inet_aton(pcp.ANNOUNCEMENT_GROUP)
        joined = group + struct.pack("=I", socket.INADDR_ANY)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
    except OSError as error:
        _log.debug("restarts of the router are not heard: %s", error)
        opened.close()
        return None

    def read() -> None:
        with contextlib.suppress(OSError):
            data = opened.recv(pcp.REPLY_BYTES_MAX)
            if _is_announcement(data):
                heard()

    asyncio.get_running_loop().add_reader(opened.fileno(), read)
    return opened


def _is_announcement(data: bytes) -> bool:
    for read in (pcp.read_pcp_announce, pcp.read_natpmp_address):
        with contextlib.suppress(RouterError):
            read(data)
            return True
    return False
