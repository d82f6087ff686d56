"""Keys and networks: what is looked up, and who can talk to whom.

A key is 256 bits. Each use has its own name space, so that it is impossible to make one
thing be found under the key of another. In a private network all keys are HMACs
with its secret, so that they tell an outsider nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

KEY_BYTES: Final = 32
TAG_BYTES: Final = 8
SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Network:
    """Who can talk to whom: a name and, for a private network, a secret."""

    name: str = "caravan"
    secret: bytes | None = field(default=None, repr=False)
    tag: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.secret is not None and len(self.secret) != SECRET_BYTES:
            raise ValueError(f"The secret of a network has {SECRET_BYTES} bytes.")
        tag = self.key(b"caravan network" + self.name.encode())[:TAG_BYTES]
        if tag.startswith(b"d"):
            # Messages of BitTorrent's DHT begin so; the same socket may see both.
            tag = b"D" + tag[1:]
        object.__setattr__(self, "tag", tag)

    def key(self, text: bytes) -> bytes:
        """Return the 32-byte key of a text in this network."""
        if self.secret is None:
            return hashlib.sha256(text).digest()
        return hmac.digest(self.secret, text, "sha256")


PUBLIC_NETWORK: Final = Network()


def provider_key(network: Network, algorithm: str, digest: bytes) -> bytes:
    """Return the key under which those who offer an artifact are found."""
    return network.key(b"caravan provider" + algorithm.encode() + digest)


def follow_key(network: Network, publisher: bytes, name: str) -> bytes:
    """Return the key under which the followers of a publisher's name are found."""
    return network.key(b"caravan follow" + publisher + name.encode())


def release_key(network: Network, publisher: bytes, name: str) -> bytes:
    """Return the key under which a name's newest release record is kept."""
    return network.key(b"caravan release" + publisher + name.encode())


def delegation_key(network: Network, publisher: bytes) -> bytes:
    """Return the key under which a publisher's newest delegation is kept."""
    return network.key(b"caravan delegation" + publisher)


def distance(one: bytes, other: bytes) -> int:
    """Return the XOR distance of two ids or keys (Kademlia paper, section 2.1).

    >>> distance(bytes(31) + bytes([5]), bytes(31) + bytes([3]))
    6
    """
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")
