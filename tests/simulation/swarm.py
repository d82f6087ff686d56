"""A swarm of nodes in virtual time: many `Dht` objects on a simulated network."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Contact, Dht
from dht.contacts import unpack_contact
from dht.identity import KeySigner, verify_ed25519
from tests.simulation.loop import VirtualClock
from tests.simulation.network import Link, SimulatedNetwork, SimulatedSockets

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from dht.identity import Signer
    from tests.simulation.loop import VirtualLoop

T = TypeVar("T")
PORT = 4747


class CheapSigner:
    """Stands in for Ed25519 where thousands of nodes are simulated.

    It is a keyed digest that anybody could make: simulated attackers do not use it
    to forge, and what they must not be able to forge is tested with real keys.
    """

    def __init__(self, seed: bytes) -> None:
        self.public_key = hashlib.sha256(b"cheap" + seed).digest()

    def sign(self, message: bytes) -> bytes:
        return hashlib.blake2b(message, key=self.public_key).digest()

    def secret_with(self, public_key: bytes) -> bytes:
        """Return what both keys share, and here anybody could know."""
        both = int.from_bytes(self.public_key) ^ int.from_bytes(public_key)
        return both.to_bytes(32)


def cheap_verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a `CheapSigner` made the signature."""
    return signature == hashlib.blake2b(message, key=public_key).digest()


class Swarm:
    """Nodes on public addresses of their own, each in its own /24."""

    def __init__(
        self,
        loop: VirtualLoop,
        seed: int,
        *,
        link: Link | None = None,
        cheap_keys: bool = False,
    ) -> None:
        self.loop = loop
        self.seed = seed
        self.rng = random.Random(f"swarm {seed}")
        self.network = SimulatedNetwork(loop, seed, link)
        self.nodes: list[Dht] = []
        self._of_key: dict[bytes, Dht] = {}
        self._cheap = cheap_keys

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end in virtual time."""
        return self.loop.run_until_complete(work)

    def host(self, number: int) -> str:
        """Return the public IP address of a node, alone in its /24."""
        return f"{40 + number // 65536}.{number // 256 % 256}.{number % 256}.7"

    def host6(self, number: int) -> str:
        """Return the public IPv6 address of a node, alone in its /64."""
        return f"2a00:{1 + number // 65535:x}:{1 + number % 65535:x}::7"

    async def add(self, count: int = 1, **options: Any) -> list[Dht]:
        """Start nodes that know nobody yet."""
        added = [
            await self.start(len(self.nodes) + place, **options)
            for place in range(count)
        ]
        self.nodes += added
        return added

    async def start(
        self,
        number: int,
        life: int = 0,
        hosts: Sequence[str] = (),
        **options: Any,
    ) -> Dht:
        """Start the node of a number; in its next life it has the same key.

        It has one IPv4 address unless others are given, at most one of a family.
        """
        hosts = hosts or [self.host(number)]
        node = Dht(
            self.signer(number),
            clock=VirtualClock(self.loop),
            rng=random.Random(f"node {self.seed} {number} {life}"),
            sockets=SimulatedSockets(self.network, *hosts),
            verify=cheap_verify if self._cheap else verify_ed25519,
            **options,
        )
        await node.start([Address(host, PORT) for host in hosts])
        self._of_key[node.public_key] = node
        return node

    def long_id(self, number: int) -> int:
        """Return the id of the node of a number, without starting it."""
        digest = hashlib.sha256(self.signer(number).public_key).digest()
        return int.from_bytes(digest, "big")

    def signer(self, number: int) -> Signer:
        """Return the key of the node of a number."""
        seed = hashlib.sha256(f"node {self.seed} {number}".encode()).digest()
        if self._cheap:
            return CheapSigner(seed)
        return KeySigner(Ed25519PrivateKey.from_private_bytes(seed))

    async def grow(self, count: int, contacts: int = 3) -> None:
        """Start nodes that join one after the other through some earlier ones."""
        for _ in range(count):
            known = [node.addresses[0] for node in self.nodes]
            (node,) = await self.add()
            if known:
                await node.join(self.rng.sample(known, min(contacts, len(known))))

    def kill(self, node: Dht) -> None:
        """Let a node vanish without a word."""
        for address in node.addresses:
            self.network.kill(address.host)

    def contact(self, node: Dht) -> Contact:
        """Return a node as others know it."""
        return Contact(node.public_key, node.addresses[0])

    def at(self, contact: Contact) -> Dht:
        """Return the node of a contact."""
        return self._of_key[contact.public_key]

    def shared_contact(self, node: Dht) -> Contact:
        """Return the one contact object of a node that all nodes share."""
        return unpack_contact(self.contact(node).packed)

    def nearest(self, key: bytes, count: int = 20) -> list[Dht]:
        """Return the nodes that are truly nearest to a key."""
        target = int.from_bytes(key, "big")
        return sorted(
            self.nodes, key=lambda node: int.from_bytes(node.node_id, "big") ^ target
        )[:count]

    async def close(self) -> None:
        """Stop all nodes."""
        await asyncio.gather(*(node.close() for node in self.nodes))
