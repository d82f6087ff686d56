"""One end of a hole, or the introducer where two ends meet, as a process of its own.

    python -m scripts.benchmarks.parties.punching introducer PORT
    python -m scripts.benchmarks.parties.punching end

It reads one JSON document a line and answers with one: the introducer gets a token to
expect, an end what `punch` takes.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from typing import Any

from dht import Address
from node import sockets
from node.background import Background
from node.reach.punching import meeting_point, punch
from transfer.connection import wire

TOKEN_BYTES = 16
EXCHANGE_SECONDS = 3.0


async def introducer(port: int) -> None:
    """Let ends meet whose token was named before."""
    background = Background()
    point = meeting_point(background)
    point.is_open = True
    (listener,) = sockets.listen([Address("0.0.0.0", port)])
    listener.setblocking(False)
    background.start(_accept(listener, point), "accepting")
    async for asked in _lines():
        _say({"ok": point.expect(bytes.fromhex(asked["token"]))})


async def _accept(listener: socket.socket, point: Any) -> None:
    loop = asyncio.get_running_loop()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        opening = await loop.sock_recv(sock, len(wire.MAGIC_MEET) + TOKEN_BYTES)
        point.join(opening[len(wire.MAGIC_MEET) :], sock)


async def end() -> None:
    """Punch as often as it is asked to."""
    async for asked in _lines():
        token, port = bytes.fromhex(asked["token"]), asked["port"]
        (listener,) = sockets.listen([Address("0.0.0.0", port)])
        began = time.monotonic()
        at = (asked["at"], asked["at_port"])
        sock = await punch(port, at, token, host=asked["host"])
        ok = sock is not None and await _exchange(sock, token)
        listener.close()
        _say({"ok": ok, "seconds": time.monotonic() - began})


async def _exchange(sock: socket.socket, token: bytes) -> bool:
    """Send the token over the new connection; whether the other end's came."""
    loop = asyncio.get_running_loop()
    with sock:
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS):
                await loop.sock_sendall(sock, token)
                return await loop.sock_recv(sock, TOKEN_BYTES) == token
        except OSError:
            return False


async def _lines() -> Any:
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "introducer":
        asyncio.run(introducer(int(sys.argv[2])))
    else:
        asyncio.run(end())
