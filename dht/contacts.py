"""Contacts: a node's public key and the address where it answers.

The id of a node is SHA-256 of its key, so a node that claims an id can be asked to
prove it. Contacts are shared: reading the same bytes twice gives the same object,
which lets ten thousand simulated nodes live in one process.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dht.addresses import (
    PACKED_IPV4_BYTES,
    PACKED_IPV6_BYTES,
    Address,
    unpack_address,
)
from dht.errors import DatagramError

if TYPE_CHECKING:
    from collections.abc import Iterable

PUBLIC_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Contact:
    """A node as others know it."""

    public_key: bytes
    address: Address
    node_id: bytes = field(init=False, compare=False, repr=False)
    long_id: int = field(init=False, compare=False, repr=False)
    packed: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        node_id = hashlib.sha256(self.public_key).digest()
        object.__setattr__(self, "node_id", node_id)
        object.__setattr__(self, "long_id", int.from_bytes(node_id, "big"))
        # Public key and packed address, as contacts travel.
        object.__setattr__(self, "packed", self.public_key + self.address.packed)

    def __repr__(self) -> str:
        return f"<Contact {self.node_id.hex()[:16]} at {self.address}>"

    @property
    def id(self) -> bytes:
        """The node id, under the name that the routing table's buckets use."""
        return self.node_id


@dataclass(frozen=True, slots=True)
class ContactStatus:
    """A contact of the table and how well it is known."""

    contact: Contact
    rtt_seconds: float | None
    age_seconds: float


@functools.lru_cache(maxsize=65536)
def unpack_contact(packed: bytes) -> Contact:
    """Return the one shared contact of these bytes; raises `DatagramError`."""
    return Contact(packed[:PUBLIC_KEY_BYTES], unpack_address(packed[PUBLIC_KEY_BYTES:]))


def contact_of(public_key: bytes, address: Address) -> Contact:
    """Return the one shared contact of a key at an address."""
    return unpack_contact(public_key + address.packed)


def pack_contacts(contacts: Iterable[Contact]) -> bytes:
    """Join contacts for a message."""
    return b"".join([contact.packed for contact in contacts])


def split_contacts(packed: bytes, limit: int) -> list[bytes]:
    """Split joined contacts; raise `DatagramError` past `limit`."""
    contacts = []
    position, end = 0, len(packed)
    while position < end:
        family = position + PUBLIC_KEY_BYTES
        ipv6 = family < end and packed[family] == 6
        after = family + (PACKED_IPV6_BYTES if ipv6 else PACKED_IPV4_BYTES)
        contacts.append(packed[position:after])
        position = after
    if len(contacts) > limit:
        raise DatagramError("contacts")
    return contacts


def unpack_contacts(packed: bytes, limit: int) -> list[Contact]:
    """Read joined contacts; raise `DatagramError` past `limit`."""
    return [unpack_contact(each) for each in split_contacts(packed, limit)]
