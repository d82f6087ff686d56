"""The sockets: one for IPv4, one for IPv6, both as plain as they can be.

Datagrams are read through asyncio-dgram by one task per socket, which drains its
queue (unbounded by design) at once into a bounded one. They are sent straight on
the socket, because asyncio-dgram reports a failed send to the next sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

import asyncio_dgram

from dht.addresses import Address, address_of, source_address
from dht.bounded import BoundedDict
from dht.fair_queue import FairQueue
from dht.limits import (
    DATAGRAM_BYTES_MAX,
    INGRESS_BATCH_DATAGRAMS,
    RECEIVE_BUFFER_BYTES,
)

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

_EVERY_HOST: Final = ("0.0.0.0", "::")  # noqa: S104  # compared, never bound here


class Sockets(Protocol):
    """Where UDP sockets come from; a simulation has its own."""

    def bind(self, address: Address) -> socket.socket:
        """Return a bound, non-blocking socket; raises `OSError`."""

    def is_local(self, host: str) -> bool:
        """Whether an IP address is one of this machine's."""

    def host_towards(self, address: Address) -> str | None:
        """Return the IP address with which this machine reaches another."""


class SystemSockets:
    """The sockets of the operating system."""

    def bind(self, address: Address) -> socket.socket:
        """Return a bound, non-blocking UDP socket; raises `OSError`.

        An IPv6 socket takes IPv6 only: a dual-stack one would know IPv4 peers by
        another address than everybody else does.
        """
        family = socket.AF_INET if address.family == 4 else socket.AF_INET6
        opened = socket.socket(family, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            opened.bind((address.host, address.port))
        except BaseException:
            opened.close()
            raise
        return opened

    def is_local(self, host: str) -> bool:
        """Whether an IP address is one of this machine's."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, 0))
            except OSError:
                return False
        return True

    def host_towards(self, address: Address) -> str | None:
        """Return the IP address with which this machine reaches another.

        Connecting a UDP socket sends nothing; it only picks a route.
        """
        family = socket.AF_INET6 if address.family == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((address.host, address.port))
            except OSError:
                return None
            return str(probe.getsockname()[0])


class Transport:
    """Sends and receives datagrams on the addresses that a node listens on."""

    def __init__(
        self,
        sockets: Sockets,
        on_datagram: Callable[[bytes, Address], None],
        stats: Counter[str],
    ) -> None:
        self._sockets = sockets
        self._on_datagram = on_datagram
        self._stats = stats
        self._ingress = FairQueue()
        self._bound: dict[int, tuple[Address, socket.socket]] = {}
        self._streams: list[asyncio_dgram.aio.DatagramStream] = []
        self._readers: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        self._working = False
        self._towards: BoundedDict[str, str | None] = BoundedDict(1024)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The bound addresses."""
        return tuple(address for address, _ in self._bound.values())

    @property
    def families(self) -> frozenset[int]:
        """The address families that can be reached."""
        return frozenset(self._bound)

    async def open(self, address: Address) -> None:
        """Bind one address; raises `OSError`, also for a second of one family."""
        if address.family in self._bound:
            raise OSError(f"Only one IPv{address.family} address can be listened on.")
        opened = self._sockets.bind(address)
        try:
            stream = await asyncio_dgram.from_socket(opened)
        except BaseException:
            opened.close()
            raise
        host, port = opened.getsockname()[:2]
        self._bound[address.family] = (address_of(host, port), opened)
        self._streams.append(stream)
        name = f"caravan-dht-read-ipv{address.family}"
        self._readers.append(self._loop.create_task(self._read(stream), name=name))

    async def close(self) -> None:
        """Close all sockets and end their readers."""
        for stream in self._streams:
            stream.close()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._streams.clear()
        self._readers.clear()
        self._bound.clear()

    def send(self, datagram: bytes, address: Address) -> bool:
        """Send a datagram; False, and counted, where it cannot be sent."""
        bound = self._bound.get(address.family)
        if bound is None or len(datagram) > DATAGRAM_BYTES_MAX or not address.dialable:
            self._stats["dropped.unsendable"] += 1
            return False
        try:
            bound[1].sendto(datagram, (address.host, address.port))
        except (OSError, ValueError):
            # A full buffer or an unreachable network: UDP promises nothing.
            self._stats["dropped.send"] += 1
            return False
        self._stats["sent"] += 1
        self._stats["bytes_sent"] += len(datagram)
        return True

    def send_once(self, datagram: bytes, address: Address) -> None:
        """Send a datagram from a fresh port, which is closed again."""
        bound = self._bound.get(address.family)
        if bound is None or not address.dialable:
            return
        try:
            fresh = self._sockets.bind(address_of(bound[0].host, 0))
        except OSError:
            self._stats["dropped.send"] += 1
            return
        with contextlib.closing(fresh):
            try:
                fresh.sendto(datagram, (address.host, address.port))
            except OSError:
                self._stats["dropped.send"] += 1

    def is_own(self, host: str) -> bool:
        """Whether an IP address is one that this node is bound to."""
        for address in self.addresses:
            if address.host == host:
                return True
            if address.host in _EVERY_HOST and self._sockets.is_local(host):
                return True
        return False

    def host_towards(self, address: Address) -> str | None:
        """Return the IP address under which another would see this node, sans NAT."""
        bound = self._bound.get(address.family)
        if bound is None:
            return None
        if bound[0].host not in _EVERY_HOST:
            return bound[0].host
        if address.host not in self._towards:
            self._towards[address.host] = self._sockets.host_towards(address)
        return self._towards[address.host]

    async def _read(self, stream: asyncio_dgram.aio.DatagramStream) -> None:
        """Move datagrams to the bounded queue as fast as they come."""
        while True:
            try:
                received: tuple[bytes, Any] = await stream.recv()
            except asyncio_dgram.TransportClosed:
                return
            except OSError:
                self._stats["dropped.receive"] += 1
                continue
            self._stats["received"] += 1
            datagram, sender = received
            source = source_address(sender[0], sender[1])
            if source is None:
                self._stats["dropped.source"] += 1
                continue
            self._ingress.put(datagram, source)
            if not self._working:
                self._working = True
                self._loop.call_soon(self._work)

    def _work(self) -> None:
        """Hand on a batch of datagrams, then let others run."""
        try:
            for _ in range(INGRESS_BATCH_DATAGRAMS):
                entry = self._ingress.get()
                if entry is None:
                    break
                self._on_datagram(*entry)
        finally:
            # Whatever one datagram brought about, the others are read.
            self._stats["dropped.queue"] = self._ingress.dropped
            self._working = len(self._ingress) > 0
            if self._working:
                self._loop.call_soon(self._work)
