"""Many clients at once, in one thread: each asks for its next file at once."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

WARM_UP_SECONDS = 1.0


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    began: float = 0.0
    left: int = 0
    """How many bytes of the answer are still to come; 0 before its head was read."""
    head: bytes = b""


@dataclass(slots=True)
class Load:
    """How fast files came, by the clients' clocks."""

    per_second: float
    latencies: list[float] = field(default_factory=list)
    """In seconds, in order."""

    def percentile(self, part: float) -> float:
        """Return the latency that this part of the requests had at most, in seconds."""
        return self.latencies[
            min(int(len(self.latencies) * part), len(self.latencies) - 1)
        ]


def load(web: str, paths: Sequence[str], *, clients: int, seconds: float) -> Load:
    """Let `clients` connections ask a server for `paths` in turn for a while."""
    host, _, port = web.rpartition(":")
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: {web}\r\n\r\n".encode() for path in paths
    ]
    poll = select.epoll()
    open_: dict[int, _Connection] = {}
    for _ in range(clients):
        made = socket.create_connection((host, int(port)))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_[made.fileno()] = _Connection(made)
        poll.register(made.fileno(), select.EPOLLIN)
    asked = 0
    latencies: list[float] = []
    start = time.perf_counter() + WARM_UP_SECONDS
    end = start + seconds
    try:
        for one in open_.values():
            asked += _ask(one, requests, asked)
        while (now := time.perf_counter()) < end:
            for number, _ in poll.poll(1.0):
                one = open_[number]
                if _receive(one):
                    if now >= start:
                        latencies.append(time.perf_counter() - one.began)
                    asked += _ask(one, requests, asked)
    finally:
        poll.close()
        for one in open_.values():
            one.socket.close()
    return Load(len(latencies) / seconds, sorted(latencies))


def _ask(one: _Connection, requests: Sequence[bytes], number: int) -> int:
    one.began, one.left, one.head = time.perf_counter(), 0, b""
    one.socket.sendall(requests[number % len(requests)])
    return 1


def _receive(one: _Connection) -> bool:
    """Take in what has come; tell whether the answer is whole."""
    data = one.socket.recv(65536)
    if not data:
        raise ConnectionError("the server closed a connection")
    if one.left:
        one.left -= len(data)
        return not one.left
    one.head += data
    head, mark, body = one.head.partition(b"\r\n\r\n")
    if not mark:
        return False
    if not head.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(head.partition(b"\r\n")[0].decode())
    said = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    one.left, one.head = int(said) - len(body), b""
    return not one.left
