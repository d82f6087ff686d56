"""Clients of a site door: many machines, each with a connection and an address."""

from __future__ import annotations

import asyncio
import time

ADDRESSES = "127.1.0.{}"  # any of 127.0.0.0/8 is this machine


class DoorClient(asyncio.Protocol):
    """Asks for one file after the other over one connection, and takes the times."""

    def __init__(self, host: str, paths: list[str], until: float) -> None:
        self._requests = [
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for path in paths
        ]
        self._until = until
        self._asked_at = 0.0
        self._missing = -1  # bytes of the answer; unknown before its head has come
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self.seconds: list[float] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first file."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """End, with an error where the connection was cut."""
        if not self.ended.done():
            self.ended.set_exception(error or ConnectionError("the door closed"))

    def data_received(self, data: bytes) -> None:
        """Count what has come of an answer."""
        if self._missing < 0:
            self._head += data
            head, end, body = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self.ended.set_exception(ConnectionError(repr(head[:80])))
                return
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            self._missing, data = int(length), body
        self._missing -= len(data)
        if self._missing == 0:
            self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._asked_at)
        if now < self._until:
            self._ask()
        elif self._transport is not None and not self.ended.done():
            self.ended.set_result(None)
            self._transport.close()

    def _ask(self) -> None:
        assert self._transport is not None
        self._missing, self._head = -1, b""
        self._asked_at = time.perf_counter()
        self._transport.write(self._requests[len(self.seconds) % len(self._requests)])


async def ask_door(
    site: str, paths: list[str], *, clients: int, seconds: float
) -> list[float]:
    """Let clients of as many addresses ask a door; return how long each answer took."""
    host, _, port = site.rpartition(":")
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    running: list[DoorClient] = []
    for number in range(clients):
        mine = paths[number:] + paths[:number]
        _, client = await loop.create_connection(
            lambda mine=mine: DoorClient(site, mine, until),  # type: ignore[misc]
            host,
            int(port),
            local_addr=(ADDRESSES.format(number + 1), 0),
        )
        running.append(client)
    await asyncio.gather(*(client.ended for client in running))
    return [one for client in running for one in client.seconds]
