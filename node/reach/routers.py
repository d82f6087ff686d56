"""Routers that can be asked for a port: by PCP, by NAT-PMP, by UPnP.

All three do the same three things: map a port, say where the outside is, and remove
a mapping. `RouterError` says why one of them could not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from node.reach import pcp
from node.reach.pcp import Grant, Outer, RouterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from node.reach.pcp import Transport

T = TypeVar("T")

FIRST_WAIT_SECONDS = 0.25
TRIES = 4
"""Sendings of one request, each after twice the pause (RFC 6886, section 3.1)."""
UPNP_DISCOVERY_MILLISECONDS = 500
UPNP_PORTS_TRIED = 4
_DESCRIPTION = "caravan"
_ROUTES = Path("/proc/net/route")
_ROUTE_IS_GATEWAY = 0x2


class Router(Protocol):
    """A router that maps ports."""

    name: str
    """The protocol, as people know it."""

    async def map(
        self, transport: Transport, port: int, *, outer: int, seconds: int
    ) -> Grant:
        """Map an inner port, if possible to `outer`; raises `RouterError`."""

    async def outer(self) -> Outer:
        """Return the outer address and the epoch; raises `RouterError`."""

    async def remove(self, transport: Transport, port: int, outer: int) -> None:
        """Remove a mapping; raises `RouterError`."""


def default_gateway(routes: Path = _ROUTES) -> str | None:
    """Return the IPv4 address of the default route's gateway, None without one."""
    try:
        lines = routes.read_text("ascii").splitlines()[1:]
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if len(fields) < 4 or fields[1] != "00000000":
            continue
        if int(fields[3], 16) & _ROUTE_IS_GATEWAY:
            return socket.inet_ntoa(struct.pack("<I", int(fields[2], 16)))
    return None


def address_towards(host: str) -> str | None:
    """Return the own address from which a host is reached; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, pcp.ROUTER_PORT))
        except OSError:
            return None
        return str(probe.getsockname()[0])


class PcpRouter:
    """A router that speaks PCP."""

    name = "PCP"

    def __init__(
        self, gateway: str, client: str, *, port: int = pcp.ROUTER_PORT
    ) -> None:
        self._at = (gateway, port)
        self._client = client
        self._nonces: dict[Transport, bytes] = {
            "udp": secrets.token_bytes(pcp.NONCE_BYTES),
            "tcp": secrets.token_bytes(pcp.NONCE_BYTES),
        }

    async def map(
        self, transport: Transport, port: int, *, outer: int, seconds: int
    ) -> Grant:
        """Map a port; the nonce shows the router that a renewal is by the owner."""
        nonce = self._nonces[transport]
        request = pcp.pcp_map_request(
            self._client, transport, port, outer=outer, seconds=seconds, nonce=nonce
        )
        return await ask(
            self._at,
            request,
            lambda reply: pcp.read_pcp_map(reply, transport, port, nonce=nonce),
        )

    async def outer(self) -> Outer:
        """Return the epoch; PCP tells the address with each mapping."""
        request = pcp.pcp_announce_request(self._client)
        return await ask(self._at, request, pcp.read_pcp_announce)

    async def remove(self, transport: Transport, port: int, outer: int) -> None:
        """Remove a mapping."""
        del outer
        await self.map(transport, port, outer=0, seconds=0)


class NatPmpRouter:
    """A router that speaks NAT-PMP."""

    name = "NAT-PMP"

    def __init__(self, gateway: str, *, port: int = pcp.ROUTER_PORT) -> None:
        self._at = (gateway, port)

    async def map(
        self, transport: Transport, port: int, *, outer: int, seconds: int
    ) -> Grant:
        """Map a port."""
        request = pcp.natpmp_map_request(transport, port, outer=outer, seconds=seconds)
        return await ask(
            self._at, request, lambda reply: pcp.read_natpmp_map(reply, transport, port)
        )

    async def outer(self) -> Outer:
        """Return the outer address and the epoch."""
        request = pcp.natpmp_address_request()
        return await ask(self._at, request, pcp.read_natpmp_address)

    async def remove(self, transport: Transport, port: int, outer: int) -> None:
        """Remove a mapping."""
        del outer
        await self.map(transport, port, outer=0, seconds=0)


class UpnpRouter:
    """A router that speaks UPnP; needs the extra `upnp`.

    The library blocks, so each call runs in a thread. The control URL of a router
    changes when it restarts: after a failure it is looked for anew.
    """

    name = "UPnP"

    def __init__(self, library: Any) -> None:
        self._library = library
        self._device: Any = None

    async def map(
        self, transport: Transport, port: int, *, outer: int, seconds: int
    ) -> Grant:
        """Map a port; where a neighbour has it, another one is tried."""
        return await asyncio.to_thread(
            self._map, transport, port, outer=outer, seconds=seconds
        )

    async def outer(self) -> Outer:
        """Return the outer address; UPnP has no epoch."""
        return await asyncio.to_thread(self._outer)

    async def remove(self, transport: Transport, port: int, outer: int) -> None:
        """Remove a mapping."""
        del port
        await asyncio.to_thread(
            self._call, "deleteportmapping", outer, transport.upper()
        )

    def _map(
        self, transport: Transport, port: int, *, outer: int, seconds: int
    ) -> Grant:
        device = self._found()
        wanted = [outer, *(_random_port() for _ in range(UPNP_PORTS_TRIED - 1))]
        for candidate in wanted:
            try:
                self._call(
                    "addportmapping",
                    candidate,
                    transport.upper(),
                    device.lanaddr,
                    port,
                    _DESCRIPTION,
                    "",
                    seconds,
                )
            except RouterError as error:
                if "Conflict" not in str(error):
                    raise
                continue
            return Grant(candidate, seconds, 0, self._outer().address)
        raise RouterError("every outer port that was tried is taken")

    def _outer(self) -> Outer:
        said = str(self._call("externalipaddress"))
        try:
            return Outer(0, str(ipaddress.IPv4Address(said)))
        except ValueError:
            return Outer(0, None)  # some routers say "" while they have none

    def _found(self) -> Any:
        if self._device is None:
            device = self._library.UPnP()
            device.discoverdelay = UPNP_DISCOVERY_MILLISECONDS
            try:
                device.discover()
                device.selectigd()  # raises where none was discovered
            except Exception as error:  # the library raises bare Exceptions
                raise RouterError("no router answers") from error
            self._device = device
        return self._device

    def _call(self, method: str, *arguments: Any) -> Any:
        device = self._found()
        try:
            return getattr(device, method)(*arguments)
        except Exception as error:  # the library raises bare Exceptions
            if "Conflict" not in str(error):
                self._device = None
            raise RouterError(f"it refused: {error}") from error


async def ask(at: tuple[str, int], request: bytes, read: Callable[[bytes], T]) -> T:
    """Send a request until a reply can be read; raises `RouterError`.

    A reply that cannot be read is the router's answer where none better comes.
    """
    loop = asyncio.get_running_loop()
    problem = RouterError("it does not answer")
    wait = FIRST_WAIT_SECONDS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        try:
            # A connected socket hears the router alone, and its ICMP errors.
            opened.connect(at)
            for _ in range(TRIES):
                until = loop.time() + wait
                await loop.sock_sendall(opened, request)
                try:
                    async with asyncio.timeout_at(until):
                        reply = await loop.sock_recv(opened, pcp.REPLY_BYTES_MAX)
                except TimeoutError:
                    wait *= 2
                    continue
                if pcp.is_natpmp_only(reply) and request[0]:
                    raise RouterError("it speaks NAT-PMP only")
                return read(reply)
        except ConnectionRefusedError:
            raise RouterError("it does not speak the protocol") from None
        except OSError as error:
            raise RouterError(f"it cannot be reached: {error.strerror}") from error
    raise problem


def _random_port() -> int:
    return 1024 + secrets.randbelow(65536 - 1024)
