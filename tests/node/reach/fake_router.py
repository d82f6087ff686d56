"""A router on loopback that speaks PCP and NAT-PMP, and can be made to misbehave."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Any

OUTSIDE = "11.0.0.101"


class FakeRouter(asyncio.DatagramProtocol):
    """Answers real datagrams; `mapped` is what it forwards, by protocol and port."""

    def __init__(self, *, speaks: tuple[str, ...] = ("PCP", "NAT-PMP")) -> None:
        self.speaks = speaks
        self.mapped: dict[tuple[str, int], int] = {}
        self.started_at = time.monotonic()
        self.lost_replies = 0
        self.code = 0
        self.granted_port: int | None = None
        self.granted_seconds = 3600
        self.outside = OUTSIDE
        self.kills_tcp_when_udp_is_renewed = False
        self.log: list[tuple[str, int]] = []
        """Transport and lifetime of each mapping that was asked for."""

    async def start(self) -> int:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(
            lambda: self, ("127.0.0.1", 0)
        )
        port: int = self.transport.get_extra_info("sockname")[1]
        return port

    def restart(self) -> None:
        """Forget all mappings, as a router does that was switched off."""
        self.mapped.clear()
        self.started_at = time.monotonic()

    @property
    def epoch(self) -> int:
        return int(time.monotonic() - self.started_at)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        reply = self._reply(data)
        if self.lost_replies:
            self.lost_replies -= 1
        elif reply:
            self.transport.sendto(reply, addr)

    def _reply(self, data: bytes) -> bytes:
        if data[0] == 2:
            if "PCP" in self.speaks:
                return self._pcp(data)
            # RFC 6887, appendix A: what a NAT-PMP router says of version 2.
            return struct.pack("!BBHI", 0, 128 | data[1], 1, self.epoch)
        return self._natpmp(data) if "NAT-PMP" in self.speaks else b""

    def _natpmp(self, data: bytes) -> bytes:
        if data[1] == 0:
            address = socket.inet_aton(self.outside)
            return struct.pack("!BBHI", 0, 128, self.code, self.epoch) + address
        _, operation, _, inner, outer, seconds = struct.unpack("!BBHHHI", data)
        transport = "udp" if operation == 1 else "tcp"
        port, granted = self._map(transport, inner, outer, seconds)
        return struct.pack(
            "!BBHIHHI", 0, 128 + operation, self.code, self.epoch, inner, port, granted
        )

    def _pcp(self, data: bytes) -> bytes:
        operation = data[1]
        _, _, _, seconds = struct.unpack("!BBHI", data[:8])
        if operation == 0:
            return struct.pack("!BBBBII12x", 2, 128, 0, self.code, 0, self.epoch)
        protocol, inner, outer = struct.unpack("!B3xHH", data[36:44])
        transport = "udp" if protocol == 17 else "tcp"
        port, granted = self._map(transport, inner, outer, seconds)
        head = struct.pack("!BBBBII12x", 2, 129, 0, self.code, granted, self.epoch)
        address = bytes(10) + b"\xff\xff" + socket.inet_aton(self.outside)
        return (
            head + data[24:36] + struct.pack("!B3xHH", protocol, inner, port) + address
        )

    def _map(
        self, transport: str, inner: int, outer: int, seconds: int
    ) -> tuple[int, int]:
        if self.code:
            return 0, 0
        self.log.append((transport, seconds))
        if not seconds:
            self.mapped.pop((transport, inner), None)
            return 0, 0
        port = self.granted_port or outer
        renewed = (transport, inner) in self.mapped
        if renewed and transport == "udp" and self.kills_tcp_when_udp_is_renewed:
            self.mapped.pop(("tcp", inner), None)
        self.mapped[transport, inner] = port
        return port, self.granted_seconds
