"""Attacks on the DHT: a key crowded with providers, signatures that nobody wants."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, KeySigner, Network, ProviderRecord, provider_key
from dht.inventory import Block
from dht.providers import REGION_DEPTH_MIN
from dht.wire import Announce, FindNode, FindProviders, Reply, decode
from node.demo.processes import NodeProcess
from tests.attacks.lab import Lab, Outcome, repeat
from tests.dht.builders import announce
from tests.dht.hostile import request
from transfer import Digest

CROWD = 1030
SOURCES = 100
DATAGRAMS_PER_SECOND = 700
SECONDS = 6.0


class Source:
    """One UDP socket with a node key of its own, which speaks to one node."""

    def __init__(self, target: tuple[str, int], signer: KeySigner) -> None:
        self.signer, self._target = signer, target
        self._rng = random.Random(signer.public_key)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.settimeout(1)
        self.token = self.write_token = b""

    @property
    def address(self) -> Address:
        """Where it is."""
        return Address("127.0.0.1", self._sock.getsockname()[1])

    def send(self, body: object, **fields: object) -> None:
        """Send a request."""
        datagram = request(body, self.signer.public_key, self._rng, **fields)
        self._sock.sendto(datagram, self._target)

    def read(self) -> Reply:
        """Return the next reply."""
        message = decode(self._sock.recv(2048)[8:])
        assert isinstance(message, Reply)
        return message

    def get_tokens(self, key: bytes) -> None:
        """Ask for the tokens that a store near `key` needs."""
        self.send(FindNode(key), padding=900)
        reply = self.read()
        self.token, self.write_token = reply.token, reply.body.write_token

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def target_of(node: NodeProcess) -> tuple[str, int]:
    """Return where a node takes datagrams."""
    host, _, port = node.address.rpartition(":")
    return host, int(port)


def crowded_key(lab: Lab) -> Outcome:
    """Announce a key from 1,030 sockets of one machine at all of its keepers."""
    keepers = lab.nodes("one", "two", "three")
    path = lab.file(300_000)
    digest = Digest.of_file(path)
    key = provider_key(Network(), "sha256", digest.raw)
    with contextlib.ExitStack() as stack:
        for keeper in keepers:
            _crowd(stack, keeper, key)
        owner = lab.node("owner", keepers[0])
        owner.ask("share", str(path))
        time.sleep(3)
        host, port = target_of(owner)
        packed = Address(host, port).packed
        done = sum(_names(keeper, key, packed) for keeper in keepers)
    return Outcome(tried=len(keepers), done=done)


def _crowd(stack: contextlib.ExitStack, keeper: NodeProcess, key: bytes) -> None:
    for number in range(CROWD):
        seed = number.to_bytes(32, "big")
        signer = KeySigner(Ed25519PrivateKey.from_private_bytes(seed))
        source = Source(target_of(keeper), signer)
        stack.callback(source.close)
        record = ProviderRecord.sign(
            signer,
            tag=Network().tag,
            key=key,
            address=source.address,
            expires_at=time.time() + 4 * 3600,
        )
        with contextlib.suppress(TimeoutError):
            source.get_tokens(key)
            body = announce(record, source.write_token)
            source.send(body, token=source.token, padding=100)
            source.read()


def _names(keeper: NodeProcess, key: bytes, address: bytes) -> bool:
    """Tell whether a keeper names a provider at an address, on any page."""
    source = Source(target_of(keeper), KeySigner(Ed25519PrivateKey.generate()))
    try:
        source.get_tokens(key)
        cursor = 0
        while True:
            source.send(FindProviders(key, cursor), token=source.token, padding=900)
            page = source.read().body
            if any(address in record for record in page.providers):
                return True
            cursor = page.cursor
            if not cursor:
                return False
    finally:
        source.close()


def unwanted_signatures(lab: Lab) -> Outcome:
    """Have a node verify wrong signatures of 100 sources; its owner uses it."""
    node, other = lab.nodes("node", "other")
    digest = lab.share(node, 1000)
    page = f"http://{node.ready['web']}/"

    def use(number: int) -> bool:
        if number % 4 == 3:
            return bool(other.ask("lookup", digest)["providers"])
        with urllib.request.urlopen(page, timeout=20) as answer:
            return bool(answer.read())

    _, quiet = repeat(20, use)
    over = threading.Event()
    with _flood(node, over):
        time.sleep(1)
        done, attacked = repeat(20, use)
    return Outcome(tried=20, done=done, attacked_seconds=attacked, quiet_seconds=quiet)


@contextlib.contextmanager
def _flood(node: NodeProcess, over: threading.Event) -> Iterator[None]:
    key = bytes(32)
    sources = []
    for _ in range(SOURCES):
        source = Source(target_of(node), KeySigner(Ed25519PrivateKey.generate()))
        source.get_tokens(key)
        sources.append(source)

    def send() -> None:
        began, sent = time.monotonic(), 0
        expiry = int(time.time()) + 3600
        while not over.is_set():
            source = sources[sent % SOURCES]
            body = Announce(
                source.write_token,
                5000,
                expiry,
                os.urandom(64),
                Block.of(key, REGION_DEPTH_MIN).packed,
                [],
            )
            source.send(body, token=source.token)
            sent += 1
            over.wait(max(0.0, began + sent / DATAGRAMS_PER_SECOND - time.monotonic()))

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
        for source in sources:
            source.close()
