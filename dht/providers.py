"""Provider records: "this node offers this key", signed by the node itself.

A provider record is two signed statements of one node: a node record, which says where
the node is and until when, and an inventory slice that lists the key. The signatures
let no keeper invent a provider. The address is the one under which the keeper saw the
node, so that a node cannot name another's; only the port is the provider's to choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dht.addresses import (
    PACKED_IPV4_BYTES,
    PACKED_IPV6_BYTES,
    Address,
    unpack_address,
)
from dht.contacts import Contact, pack_contacts, unpack_contacts
from dht.errors import DatagramError, RecordError
from dht.inventory import DEPTH_MAX, Block, InventorySlice, pack_entries
from dht.limits import CLOCK_SKEW_SECONDS, INTRODUCERS_MAX, PROVIDER_SECONDS

if TYPE_CHECKING:
    from dht.identity import Signer, Verify

NODE_PREFIX: Final = b"caravan node 1"
REGION_DEPTH_MIN: Final = 4
"""A write token covers the keys that share their first four bits."""
_EXPIRY_BYTES: Final = 8
_HEAD_BYTES: Final = 32 + _EXPIRY_BYTES + 64


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node is at an address until `expires_at` (seconds since 1970)."""

    public_key: bytes
    address: Address
    expires_at: int
    signature: bytes
    introducers: tuple[Contact, ...] = ()
    """Through whom the node is called where it cannot be dialled; empty: dial it."""

    @property
    def packed(self) -> bytes:
        """Public key, expiry, signature, address and introducers, as in a reply."""
        expiry = self.expires_at.to_bytes(_EXPIRY_BYTES, "big")
        head = self.public_key + expiry + self.signature + self.address.packed
        named = pack_contacts(self.introducers)
        return head + bytes([len(self.introducers)]) + named

    @classmethod
    def sign(
        cls,
        signer: Signer,
        *,
        tag: bytes,
        address: Address,
        expires_at: float,
        introducers: tuple[Contact, ...] = (),
    ) -> NodeRecord:
        """Return this node's record at an address in the network with `tag`."""
        until = int(expires_at)
        record = cls(signer.public_key, address, until, b"", introducers)
        return replace(record, signature=signer.sign(record.signed_part(tag)))

    def signed_part(self, tag: bytes) -> bytes:
        """Return the bytes that the signature is of."""
        expiry = self.expires_at.to_bytes(_EXPIRY_BYTES, "big")
        head = (NODE_PREFIX, tag, self.address.packed, expiry)
        return b"".join((*head, pack_contacts(self.introducers)))

    def verify(self, tag: bytes, now: float, verify: Verify) -> None:
        """Raise `RecordError` unless the record holds now (seconds since 1970)."""
        if now >= self.expires_at:
            raise RecordError("The node record has expired.")
        if self.expires_at > now + PROVIDER_SECONDS + CLOCK_SKEW_SECONDS:
            raise RecordError("The node record claims too long a life.")
        if not verify(self.public_key, self.signature, self.signed_part(tag)):
            raise RecordError("The signature of the node record is wrong.")

    @classmethod
    def unpack(cls, packed: bytes) -> tuple[NodeRecord, bytes]:
        """Read an unverified record and return the bytes after it.

        Raises `RecordError`.
        """
        try:
            ipv6 = packed[_HEAD_BYTES : _HEAD_BYTES + 1] == b"\x06"
            end = _HEAD_BYTES + (PACKED_IPV6_BYTES if ipv6 else PACKED_IPV4_BYTES)
            address = unpack_address(packed[_HEAD_BYTES:end])
            count = packed[end]
            if count > INTRODUCERS_MAX:
                raise RecordError("The node record names too many introducers.")
            rest = packed[end + 1 :]
            taken = 0
            for _ in range(count):
                taken += 51 if rest[taken + 32 : taken + 33] == b"\x06" else 39
            introducers = read_introducers(rest[:taken], address)
        except (DatagramError, IndexError):
            raise RecordError("The node record is malformed.") from None
        if len(introducers) != count:
            raise RecordError("The node record is malformed.")
        expires_at = int.from_bytes(packed[32:40], "big")
        signature = packed[40:_HEAD_BYTES]
        record = cls(packed[:32], address, expires_at, signature, introducers)
        return record, rest[taken:]


@dataclass(frozen=True, slots=True)
class ProviderRecord:
    """A node that offers a key."""

    key: bytes
    node: NodeRecord
    slice: InventorySlice

    @property
    def public_key(self) -> bytes:
        """The key of the provider."""
        return self.node.public_key

    @property
    def address(self) -> Address:
        """Where the provider is; the port is that of its transfer."""
        return self.node.address

    @property
    def expires_at(self) -> int:
        """Seconds since 1970 until when the provider is there, by its own word."""
        return self.node.expires_at

    @property
    def introducers(self) -> tuple[Contact, ...]:
        """Through whom the provider is called; empty: dial it."""
        return self.node.introducers

    @property
    def contact(self) -> Contact:
        """The provider's key and address; the port is that of its transfer."""
        return Contact(self.public_key, self.address)

    @property
    def packed(self) -> bytes:
        """The node record and the slice, as they travel in a reply."""
        return self.node.packed + self.slice.packed

    @classmethod
    def sign(
        cls,
        signer: Signer,
        *,
        tag: bytes,
        key: bytes,
        address: Address,
        expires_at: float,
        introducers: tuple[Contact, ...] = (),
    ) -> ProviderRecord:
        """Return the record of a node that offers one key.

        Its slice is issued five hours before the record ends.
        """
        node = NodeRecord.sign(
            signer,
            tag=tag,
            address=address,
            expires_at=expires_at,
            introducers=introducers,
        )
        block = Block.of(key, DEPTH_MAX)
        listed = InventorySlice.sign(
            signer,
            tag=tag,
            block=block,
            entries=pack_entries([key], block.depth),
            issued_at=int((expires_at - PROVIDER_SECONDS) * 1000),
        )
        return cls(key, node, listed)

    def verify(self, tag: bytes, now: float, verify: Verify) -> None:
        """Raise `RecordError` unless the record holds now (seconds since 1970)."""
        if not self.slice.offers(self.key):
            raise RecordError("The slice does not list the key.")
        self.node.verify(tag, now, verify)
        self.slice.verify(tag, now, verify, public_key=self.public_key)

    @classmethod
    def unpack(cls, key: bytes, packed: bytes) -> ProviderRecord:
        """Read an unverified record from a reply; raises `RecordError`."""
        node, rest = NodeRecord.unpack(packed)
        return cls(key, node, InventorySlice.unpack(rest))


def read_introducers(packed: bytes, by: Address) -> tuple[Contact, ...]:
    """Read the introducers that a node at an address names; raise `DatagramError`."""
    found = tuple(unpack_contacts(packed, INTRODUCERS_MAX)) if packed else ()
    if not all(by.believes(each.address) for each in found):
        raise DatagramError("introducers")
    return found
