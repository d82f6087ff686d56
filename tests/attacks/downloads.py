"""Attacks on transfers: silence, hoarding, false manifests, slow lines, full stores."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.demo.processes import NodeProcess
from tests.attacks.lab import (
    Lab,
    Outcome,
    fetches,
    meanwhile,
    offer,
    repeat,
    stranger,
    timed,
    while_awake,
)
from tests.transfer.hostile import Hostile
from transfer import (
    Digest,
    Identity,
    Leecher,
    LeecherLimits,
    Manifest,
    Peer,
    Seeder,
    SeederLimits,
    Store,
    TransferError,
)
from transfer.connection import wire
from transfer.connection.handshake import Terms, greet_seeder
from transfer.content.manifest import chunk_size_of

MIB = 1024 * 1024
TIMES = 8
COMPLAINT_SECONDS_MAX = 0.15  # SHA-256 of 512 MiB alone takes more than twice as long
ATTACKER = "127.0.0.66"
PLAIN = {"CARAVAN_ENCRYPTION": "false"}


def silent_connections(lab: Lab) -> Outcome:
    """Open 64 connections from one address and never say a word."""
    return _beside(lab, _silent(b"", 64))


def half_frames(lab: Lab) -> Outcome:
    """Begin a frame on each of 60 connections from one address, and never end it."""
    lab.environment |= PLAIN
    return _beside(lab, _half_frames)


def _beside(lab: Lab, attack: Any) -> Outcome:
    """Fetch small files from a seeder, without and with an attack on it."""
    seeder, before, reader = lab.nodes("seeder", "before", "reader")
    digests = [lab.share(seeder, MIB) for _ in range(2 * TIMES)]
    # Another reader than before, so that the attack meets no connection that is open.
    _, quiet = fetches(lab, before, *digests[:TIMES])
    host, _, port = seeder.address.rpartition(":")
    with meanwhile(lambda over: attack((host, int(port)), over)):
        time.sleep(1)
        done, attacked = fetches(lab, reader, *digests[TIMES:])
    return Outcome(
        tried=TIMES, done=done, attacked_seconds=attacked, quiet_seconds=quiet
    )


def _silent(first_bytes: bytes, count: int) -> Any:
    def attack(address: tuple[str, int], over: threading.Event) -> None:
        """Keep so many connections open; one that is closed is opened again."""
        with contextlib.ExitStack() as stack:
            opened: list[socket.socket] = []
            while not over.is_set():
                opened = [one for one in opened if not _is_closed(one)]
                with contextlib.suppress(OSError):
                    while len(opened) < count:
                        sock = socket.create_connection(address, 1, (ATTACKER, 0))
                        stack.callback(sock.close)
                        sock.sendall(first_bytes)
                        opened.append(sock)
                over.wait(0.05)

    return attack


def attackers_socket() -> socket.socket:
    """Return a socket with the attacker's address, which no honest node has."""
    sock = socket.socket()
    sock.bind((ATTACKER, 0))
    sock.setblocking(False)
    return sock


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _half_frames(address: tuple[str, int], over: threading.Event) -> None:
    async def attack(ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        terms = Terms(Identity(Ed25519PrivateKey.generate()))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(60):
                sock = attackers_socket()
                try:
                    await loop.sock_connect(sock, address)
                    channel = await greet_seeder(sock, terms, None, tls=False)
                except (OSError, TransferError):
                    sock.close()
                    continue
                stack.callback(channel.close)
                await channel.write(b"\x00")
            await ended.wait()

    while_awake(attack)(over)


def hoarded_wants(lab: Lab) -> Outcome:
    """Want one file again and again from one address, on many connections."""
    lab.environment |= PLAIN
    node, other = lab.nodes("node", "other")
    digest, second = lab.share(node, 300_000), lab.share(other, 300_000)
    fetched = [lab.share(node, 100_000) for _ in range(3)]
    host, _, port = node.address.rpartition(":")
    attack = _wants((host, int(port)), Digest.parse(digest))
    with meanwhile(while_awake(attack)):
        time.sleep(3)
        own = [("status",), ("fetch", second), ("share", str(lab.file(1000)))]
        done, _ = repeat(3, lambda number: node.run(*own[number]).exit_code == 0)
        others, _ = fetches(lab, other, *fetched)
    return Outcome(tried=6, done=done + others)


def _wants(address: tuple[str, int], digest: Digest) -> Any:
    async def attack(ended: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        terms = Terms(Identity(Ed25519PrivateKey.generate()))
        wants = b"".join(
            wire.encode(wire.Want(number, "sha256", digest.raw, b"", 0))
            for number in range(64)
        )
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(64):
                sock = attackers_socket()
                try:
                    await loop.sock_connect(sock, address)
                    channel = await greet_seeder(sock, terms, None, tls=False)
                    stack.callback(channel.close)
                    await channel.write(wants)
                except (OSError, TransferError):
                    sock.close()
            await ended.wait()

    return attack


class Inflated(Hostile):
    """Names a manifest of zeros of any length, and sends a chunk now and then."""

    def __init__(self, size: int, pause: float) -> None:
        super().__init__(b"")
        self.key = Ed25519PrivateKey.generate()
        self.public_key = self.key.public_key().public_bytes_raw()
        self._pause = pause
        chunk = chunk_size_of(size)
        count = -(-size // chunk)
        last = size - (count - 1) * chunk
        digests = blake3(bytes(chunk)).digest() * (count - 1)
        self.manifest = Manifest(size, chunk, digests + blake3(bytes(last)).digest())

    async def on_get(self, channel: Any, get: wire.Get) -> None:
        await asyncio.sleep(self._pause)
        await self.send_chunk(channel, get, bytes(self.manifest.length(get.index)))


@contextlib.contextmanager
def lying(contact: NodeProcess, digest: str, size: int, pause: float) -> Iterator[None]:
    """Have a provider of a digest that claims another size for it."""
    announced = threading.Event()

    async def attack(ended: asyncio.Event) -> None:
        async with Inflated(size, pause) as liar, stranger(contact, liar.key) as dht:
            await offer(dht, digest, liar.peer.port)
            announced.set()
            await ended.wait()

    with meanwhile(while_awake(attack)):
        announced.wait(15)
        yield


def first_liar(lab: Lab) -> Outcome:
    """Claim 16 GiB for a file of 3 MB that three honest nodes have."""
    lab.environment |= PLAIN
    honest = lab.nodes("one", "two", "three")
    digests = []
    for path in [lab.file(3_000_000) for _ in range(2)]:
        shared = [node.ask("share", str(path))["artifacts"][0] for node in honest]
        digests.append(shared[0]["digest"])
    reader = lab.node("reader", honest[0])
    _, quiet = fetches(lab, reader, digests[0])
    with lying(honest[0], digests[1], 16 << 30, 1.2):
        victims = [lab.node(f"victim-{number}", honest[0]) for number in range(3)]
        found = [fetches(lab, victim, digests[1]) for victim in victims]
    return Outcome(
        tried=len(victims),
        done=sum(done for done, _ in found),
        attacked_seconds=max(seconds for _, seconds in found),
        quiet_seconds=quiet,
    )


def claimed_size(lab: Lab) -> Outcome:
    """Claim a size that would empty a bounded store."""
    lab.environment |= PLAIN
    boot = lab.node("boot")
    victim = lab.node("victim", boot, CARAVAN_STORE_BYTES="40 MB")
    lab.publish(victim, "mine", "1")
    for _ in range(10):
        lab.share(victim, 2_000_000)
    before = victim.ask("list")["artifacts"]
    digest = str(Digest.of(os.urandom(32)))
    with lying(boot, digest, 39_999_990, 0.0):
        victim.run("fetch", digest, seconds=60)
    kept = {one["digest"] for one in victim.ask("list")["artifacts"]}
    return Outcome(tried=len(before), done=sum(one["digest"] in kept for one in before))


def full_store(lab: Lab) -> Outcome:
    """Share eight files at once into a store that is full."""
    node = lab.node("node", CARAVAN_STORE_BYTES="20 MB")
    for _ in range(9):
        lab.share(node, 2_000_000)
    files = [lab.file(2_000_000) for _ in range(9)]
    _, quiet = timed(lambda: node.run("share", str(files[8])).exit_code == 0)

    def share(path: Path) -> tuple[bool, float]:
        return timed(lambda: node.run("share", str(path)).exit_code == 0)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(share, files[:8]))
    return Outcome(
        tried=8,
        done=sum(done for done, _ in results),
        attacked_seconds=max(seconds for _, seconds in results),
        quiet_seconds=8 * quiet,
    )


def slow_line(lab: Lab) -> Outcome:
    """Download where one chunk takes longer than a standstill may last."""
    return Outcome(tried=1, done=asyncio.run(_over_a_slow_line(lab.folder)))


async def _over_a_slow_line(folder: Path) -> bool:
    data = os.urandom(2 * MIB)
    store, target = Store(folder / "seeder"), Store(folder / "leecher")
    artifact = store.add_bytes(data)
    key = Ed25519PrivateKey.generate()
    # A chunk of 256 KiB takes 1.3 s, and 0.5 s without a byte are a standstill.
    seeder = Seeder(store, Identity(key), limits=SeederLimits(bytes_per_second=200_000))
    listener = socket.create_server(("127.0.0.1", 0))
    await seeder.start([listener])
    limits = LeecherLimits(stall_seconds=0.5, pace_window_seconds=0.5)
    leecher = Leecher(target, Identity(Ed25519PrivateKey.generate()), limits=limits)
    peer = Peer("127.0.0.1", listener.getsockname()[1], seeder_key(key))
    try:
        async with asyncio.timeout(60):
            await leecher.download(artifact.digest, [peer])
    except (TransferError, TimeoutError):
        return False
    finally:
        await leecher.close()
        await seeder.close()
        store.close()
        target.close()
    return True


def seeder_key(key: Ed25519PrivateKey) -> bytes:
    """Return the public half of a node key."""
    return key.public_key().public_bytes_raw()


def complaints(lab: Lab) -> Outcome:
    """Complain without reason; no whole file may be read for it."""
    lab.environment |= PLAIN
    node = lab.node("node")
    digests = [Digest.parse(lab.share(node, 512 * MIB))]
    time.sleep(8)  # aliases are computed in the background
    before = processor_seconds(node)
    asyncio.run(_complain(node, digests))
    time.sleep(3)
    spent = processor_seconds(node) - before
    return Outcome(tried=1, done=spent < COMPLAINT_SECONDS_MAX)


async def _complain(node: NodeProcess, digests: list[Digest]) -> None:
    host, _, port = node.address.rpartition(":")
    terms = Terms(Identity(Ed25519PrivateKey.generate()))
    loop = asyncio.get_running_loop()
    for digest in digests:
        sock = attackers_socket()
        await loop.sock_connect(sock, (host, int(port)))
        channel = await greet_seeder(sock, terms, None, tls=False)
        want = wire.Want(0, "sha256", digest.raw, b"", 0)
        await channel.write(wire.encode(want) + wire.encode(wire.Complaint(0, 0)))
        await asyncio.sleep(0.2)
        channel.close()


def processor_seconds(node: NodeProcess) -> float:
    """Return the processor time that a node has used."""
    fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))
