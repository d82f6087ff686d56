"""Provider records: "this node offers this key", signed by the node itself.

The signature lets no keeper invent a provider. The address is the one under which
the keeper saw the node, so that a node cannot name another's; only the port is the
provider's to choose.
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
from dht.limits import CLOCK_SKEW_SECONDS, INTRODUCERS_MAX, PROVIDER_SECONDS

if TYPE_CHECKING:
    from dht.identity import Signer, Verify

PROVIDER_PREFIX: Final = b"caravan provider 1"
_EXPIRY_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class ProviderRecord:
    """A node that offers a key until `expires_at` (seconds since 1970)."""

    key: bytes
    public_key: bytes
    address: Address
    expires_at: int
    signature: bytes
    introducers: tuple[Contact, ...] = ()
    """Through whom the node is called where it cannot be dialled; empty: dial it."""

    @property
    def contact(self) -> Contact:
        """The provider's key and address; the port is that of its transfer."""
        return Contact(self.public_key, self.address)

    @property
    def packed(self) -> bytes:
        """Public key, expiry, signature and address, as they travel in a reply."""
        expiry = self.expires_at.to_bytes(_EXPIRY_BYTES, "big")
        head = self.public_key + expiry + self.signature + self.address.packed
        return head + pack_contacts(self.introducers)

    @property
    def entry(self) -> bytes:
        """Key, expiry and signature, as they travel in an announce."""
        expiry = self.expires_at.to_bytes(_EXPIRY_BYTES, "big")
        return self.key + expiry + self.signature

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
        """Return this node's record of a key in the network with `tag`."""
        until = int(expires_at)
        record = cls(key, signer.public_key, address, until, b"", introducers)
        return replace(record, signature=signer.sign(record.signed_part(tag)))

    def signed_part(self, tag: bytes) -> bytes:
        """Return the bytes that the signature is of."""
        expiry = self.expires_at.to_bytes(_EXPIRY_BYTES, "big")
        head = (PROVIDER_PREFIX, tag, self.key, self.address.packed, expiry)
        return b"".join((*head, pack_contacts(self.introducers)))

    def verify(self, tag: bytes, now: float, verify: Verify) -> None:
        """Raise `RecordError` unless the record holds now (seconds since 1970)."""
        if now >= self.expires_at:
            raise RecordError("The provider record has expired.")
        if self.expires_at > now + PROVIDER_SECONDS + CLOCK_SKEW_SECONDS:
            raise RecordError("The provider record claims too long a life.")
        if not verify(self.public_key, self.signature, self.signed_part(tag)):
            raise RecordError("The signature of the provider record is wrong.")

    @classmethod
    def unpack(cls, key: bytes, packed: bytes) -> ProviderRecord:
        """Read an unverified record from a reply; raises `RecordError`."""
        try:
            end = 104 + (
                PACKED_IPV6_BYTES if packed[104:105] == b"\x06" else PACKED_IPV4_BYTES
            )
            address = unpack_address(packed[104:end])
            introducers = read_introducers(packed[end:], address)
        except DatagramError:
            raise RecordError("The provider record is malformed.") from None
        expires_at = int.from_bytes(packed[32:40], "big")
        return cls(key, packed[:32], address, expires_at, packed[40:104], introducers)

    @classmethod
    def from_entry(
        cls,
        entry: bytes,
        public_key: bytes,
        address: Address,
        *,
        introducers: tuple[Contact, ...] = (),
    ) -> ProviderRecord:
        """Read an unverified record from an announce."""
        expires_at = int.from_bytes(entry[32:40], "big")
        return cls(entry[:32], public_key, address, expires_at, entry[40:], introducers)


def read_introducers(packed: bytes, by: Address) -> tuple[Contact, ...]:
    """Read the introducers that a node at an address names; raise `DatagramError`."""
    found = tuple(unpack_contacts(packed, INTRODUCERS_MAX)) if packed else ()
    if not all(by.believes(each.address) for each in found):
        raise DatagramError("introducers")
    return found
