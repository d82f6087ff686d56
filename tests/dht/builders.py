"""What the tests of the DHT are built of: keys, contacts, records, a hand-set clock."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Contact, KeySigner, Network, ProviderRecord, ReleaseRecord
from dht.contacts import pack_contacts
from dht.core import Core
from dht.identity import verify_ed25519
from dht.inventory import DEPTH_MAX, Block, InventorySlice, pack_entries
from dht.limits import PROVIDER_SECONDS
from dht.providers import REGION_DEPTH_MIN, NodeRecord
from dht.reach import UdpReach
from dht.wire import Announce

NOW = 1_800_000_000.0
NETWORK = Network()


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self, wall: float = NOW) -> None:
        self.wall = wall
        self.ticks = 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def move(self, seconds: float) -> None:
        self.wall += seconds
        self.ticks += seconds


def key(number: int) -> bytes:
    """Return some 32-byte key."""
    return hashlib.sha256(b"key %d" % number).digest()


def private_key(number: int) -> Ed25519PrivateKey:
    """Return some Ed25519 key, always the same for a number."""
    return Ed25519PrivateKey.from_private_bytes(key(number))


def signer(number: int) -> KeySigner:
    return KeySigner(private_key(number))


def address(number: int) -> Address:
    """Return a public address, alone in its /24."""
    return Address(f"45.{number // 250}.{number % 250}.9", 4747)


def contact(number: int, where: Address | None = None) -> Contact:
    """Return a contact whose key is real only in its form."""
    return Contact(key(number), where or address(number))


def provider(
    wanted: bytes, number: int, where: Address | None = None, wall: float = NOW
) -> ProviderRecord:
    """Return a signed provider record."""
    return ProviderRecord.sign(
        signer(number),
        tag=NETWORK.tag,
        key=wanted,
        address=where or address(number),
        expires_at=wall + PROVIDER_SECONDS,
    )


def unsigned(
    wanted: bytes, number: int, where: Address | None = None
) -> ProviderRecord:
    """Return a provider record as a store sees it: verified by somebody else."""
    node = NodeRecord(key(number), where or address(number), int(NOW) + 100, bytes(64))
    block = Block.of(wanted, DEPTH_MAX)
    entries = pack_entries([wanted], DEPTH_MAX)
    listed = InventorySlice(block, int(NOW) * 1000, entries, bytes(64))
    return ProviderRecord(wanted, node, listed)


def announce(
    record: ProviderRecord, write_token: bytes, *more: bytes, summary: bool = False
) -> Announce:
    """Return the announce of a provider record, with more slices if there are."""
    return Announce(
        write_token,
        record.address.port,
        record.expires_at,
        record.node.signature,
        Block.of(record.key, REGION_DEPTH_MIN).packed,
        [record.slice.packed, *more],
        pack_contacts(record.introducers),
        summary,
    )


def release(publisher: int = 1, **changes: Any) -> ReleaseRecord:
    """Return a signed release record."""
    root = private_key(publisher)
    fields: dict[str, Any] = {
        "publisher": root.public_key().public_bytes_raw(),
        "name": "demo",
        "version": "1.0",
        "epoch": 0,
        "sequence": 1,
        "package": key(99),
        "urgency": "routine",
        "issued_at": NOW - 60,
        "expires_at": NOW + 400 * 86400,
    }
    fields.update(changes)
    by = fields.pop("by", root)
    return ReleaseRecord.sign(by, **fields)


def core(number: int = 1, clock: HandClock | None = None, **options: Any) -> Core:
    """Return the core of a node with a real key."""
    return Core(
        signer=signer(number),
        verify=verify_ed25519,
        network=options.pop("network", NETWORK),
        clock=clock or HandClock(),
        rng=random.Random(number),
        reach=UdpReach(
            read_only=options.pop("read_only", False), is_own=lambda host: True
        ),
    )
