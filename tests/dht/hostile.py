"""Hostile traffic on real sockets, as much of it as the caller wants.

The tests send a small, seeded share of it; `scripts/bench hostile` sends all.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dht import Address, Contact, Dht, Network, ProviderRecord
from dht.limits import PROVIDER_SECONDS
from dht.tokens import write_scope
from dht.wire import (
    Announce,
    FindNode,
    FindProviders,
    FindRecord,
    Notify,
    Ping,
    Reply,
    Request,
    StoreRecord,
    decode,
    encode,
    kind_of,
)
from tests.dht.builders import announce
from tests.simulation.swarm import CheapSigner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BATCH = 256


def bodies(rng: random.Random) -> list[Any]:
    """Return one well-formed body of each kind of request."""
    key = rng.randbytes(32)
    return [
        Ping(),
        FindNode(key),
        FindProviders(key),
        FindRecord(key),
        Announce(
            rng.randbytes(8),
            5000,
            rng.randrange(1 << 40),
            rng.randbytes(64),
            rng.randbytes(5),
            [rng.randbytes(79)],
        ),
        StoreRecord(key, rng.randbytes(8), rng.randbytes(300)),
        Notify(rng.randbytes(300)),
    ]


def request(body: Any, sender: bytes, rng: random.Random, **fields: Any) -> bytes:
    """Return the datagram of a request."""
    message = Request(
        1,
        kind_of(body),
        rng.randbytes(8),
        sender,
        fields.get("flags", 4),
        fields.get("token", b""),
        body,
        bytes(fields.get("padding", 0)),
    )
    return Network().tag + encode(message)


def mutated(rng: random.Random) -> Iterator[bytes]:
    """Yield well-formed requests with a few bytes changed, cut or added."""
    good = [request(body, rng.randbytes(32), rng) for body in bodies(rng)]
    while True:
        datagram = bytearray(rng.choice(good))
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(datagram))
            change = rng.randrange(4)
            if change == 0:
                datagram[place] ^= 1 << rng.randrange(8)
            elif change == 1:
                datagram[place] = rng.randrange(256)
            elif change == 2:
                del datagram[place : place + rng.randrange(1, 9)]
            else:
                datagram[place:place] = rng.randbytes(rng.randrange(1, 9))
            if not datagram:
                break
        yield bytes(datagram)


@dataclass
class Spent:
    """What a hostile run took and left."""

    datagrams: int
    handled: int
    seconds: float
    cpu_seconds: float
    memory_mb: float

    def figures(self) -> dict[str, float]:
        """Return them for a report."""
        return {
            "datagrams": self.datagrams,
            "handled": self.handled,
            "per_second": round(self.handled / self.seconds),
            "per_cpu_second": round(self.handled / self.cpu_seconds),
            "memory_mb": round(self.memory_mb, 1),
        }


def memory_mb() -> float:
    """Return the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


async def send_all(node: Dht, datagrams: list[tuple[int, bytes]], hosts: int) -> Spent:
    """Send datagrams (each from one of several hosts), as fast as they are read."""
    sockets = []
    for number in range(hosts):
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.bind((f"127.0.{number // 200 + 1}.{number % 200 + 1}", 0))
        sockets.append(opened)
    to = (node.addresses[0].host, node.addresses[0].port)
    before, memory = node.stats()["received"], memory_mb()
    started_at, cpu = time.perf_counter(), time.process_time()
    sent = 0
    try:
        for start in range(0, len(datagrams), BATCH):
            for host, datagram in datagrams[start : start + BATCH]:
                sockets[host].sendto(datagram, to)
                sent += 1
            await read_by(node, before + sent)
    finally:
        for opened in sockets:
            opened.close()
    return Spent(
        sent,
        node.stats()["received"] - before,
        time.perf_counter() - started_at,
        time.process_time() - cpu,
        memory_mb() - memory,
    )


async def read_by(node: Dht, count: int, seconds: float = 0.2) -> None:
    """Wait until a node has read so many datagrams, or some were lost on the way."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while node.stats()["received"] < count and loop.time() < end:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def fuzz(node: Dht, count: int, seed: int) -> Spent:
    """Send mutated datagrams to a node."""
    source = mutated(random.Random(seed))
    total = Spent(0, 0, 0.0, 0.0, 0.0)
    for start in range(0, count, 20_000):
        part = [(0, next(source)) for _ in range(min(20_000, count - start))]
        add(total, await send_all(node, part, 1))
    return total


def add(total: Spent, part: Spent) -> None:
    """Add what a part of a run took to the whole."""
    total.datagrams += part.datagrams
    total.handled += part.handled
    total.seconds += part.seconds
    total.cpu_seconds += part.cpu_seconds
    total.memory_mb += part.memory_mb


async def flood(node: Dht, count: int, seed: int, hosts: int = 1) -> Spent:
    """Send well-formed questions without a token to a node."""
    rng = random.Random(seed)
    sender = rng.randbytes(32)
    asked = [FindNode(rng.randbytes(32)), FindProviders(rng.randbytes(32)), Ping()]
    datagrams = [request(body, sender, rng, padding=300) for body in asked]
    part = [(n % hosts, datagrams[n % len(datagrams)]) for n in range(count)]
    return await send_all(node, part, hosts)


async def write_token(sock: socket.socket, node: Dht, signer: CheapSigner) -> bytes:
    """Ask a node, as an honest newcomer would, for leave to write near its key 0."""
    loop = asyncio.get_running_loop()
    to = (node.addresses[0].host, node.addresses[0].port)
    rng = random.Random(signer.public_key)
    datagram = request(FindNode(bytes(32)), signer.public_key, rng, padding=600)
    for _ in range(20):
        sock.sendto(datagram, to)
        try:
            async with asyncio.timeout(1):
                reply = await loop.sock_recv(sock, 2048)
        except TimeoutError:
            continue
        message = decode(reply[8:])
        assert isinstance(message, Reply)
        return bytes(message.body.write_token)
    raise AssertionError("The node gives no token.")


async def spam_stores(node: Dht, count: int, hosts: int) -> Spent:
    """Announce so many keys from so many addresses, eight slices in a datagram.

    The node must have been made with `cheap_verify`: what is measured is storing.
    """
    rng = random.Random("spam")
    total = Spent(0, 0, 0.0, 0.0, 0.0)
    async for sock, signer, token in writers(node, hosts):
        host = sock.getsockname()[0]
        to = (node.addresses[0].host, node.addresses[0].port)
        before, memory = node.stats()["received"], memory_mb()
        started_at, cpu = time.perf_counter(), time.process_time()
        mine = count // hosts // 8
        for number in range(mine):
            records = []
            for _ in range(8):
                key = bytes([rng.randrange(16)]) + rng.randbytes(31)
                assert write_scope(key) == write_scope(bytes(32))
                record = ProviderRecord.sign(
                    signer,
                    tag=Network().tag,
                    key=key,
                    address=Address(host, 5000),
                    expires_at=time.time() + PROVIDER_SECONDS,
                )
                records.append(record)
            body = announce(records[0], token, *(r.slice.packed for r in records[1:]))
            sock.sendto(request(body, signer.public_key, rng), to)
            if number % 32 == 31:
                await read_by(node, before + number + 1)
        await read_by(node, before + mine)
        spent = Spent(
            mine,
            node.stats()["received"] - before,
            time.perf_counter() - started_at,
            time.process_time() - cpu,
            memory_mb() - memory,
        )
        add(total, spent)
    return total


async def writers(
    node: Dht, hosts: int
) -> AsyncIterator[tuple[socket.socket, CheapSigner, bytes]]:
    """Yield sockets at addresses of their own, with a key and a write token each."""
    for number in range(hosts):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.bind((f"127.0.{number // 200 + 1}.{number % 200 + 1}", 0))
            signer = CheapSigner(b"spam %d" % number)
            yield sock, signer, await write_token(sock, node, signer)


def announce_of(signer: CheapSigner, host: str, token: bytes) -> Announce:
    """Return an announce of key 0 by a node at a host."""
    record = ProviderRecord.sign(
        signer,
        tag=Network().tag,
        key=bytes(32),
        address=Address(host, 5000),
        expires_at=time.time() + PROVIDER_SECONDS,
    )
    return announce(record, token)


def fake_contact(number: int) -> Contact:
    """Return a contact that nobody can prove to be."""
    rng = random.Random(f"fake {number}")
    return Contact(rng.randbytes(32), Address("127.0.0.1", 20_000 + number))
