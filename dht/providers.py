"""Provider records: "this node offers this key", signed by the node itself.

The signature lets no keeper invent a provider. The address is the one under which
the keeper saw the node, so that a node cannot name another's; only the port is the
provider's to choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dht.addresses import Address, unpack_address
from dht.contacts import Contact
from dht.errors import DatagramError, RecordError
from dht.limits import CLOCK_SKEW_SECONDS, PROVIDER_SECONDS

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

    @property
    def contact(self) -> Contact:
        """The provider's key and address; the port is that of its transfer."""
        return Contact(self.public_key, self.address)

    @property
    def packed(self) -> bytes:
        """Public key, expiry, signature and address, as they travel in a reply."""
        expiry = self.expires_at.to_bytes(_EXPIRY_BYTES, "big")
        return self.public_key + expiry + self.signature + self.address.packed

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
    ) -> ProviderRecord:
        """Return this node's record of a key in the network with `tag`."""
        until = int(expires_at)
        message = _message(tag, key, address, expires_at=until)
        signature = signer.sign(message)
        return cls(key, signer.public_key, address, until, signature)

    def verify(self, tag: bytes, now: float, verify: Verify) -> None:
        """Raise `RecordError` unless the record holds now (seconds since 1970)."""
        if now >= self.expires_at:
            raise RecordError("The provider record has expired.")
        if self.expires_at > now + PROVIDER_SECONDS + CLOCK_SKEW_SECONDS:
            raise RecordError("The provider record claims too long a life.")
        message = _message(tag, self.key, self.address, expires_at=self.expires_at)
        if not verify(self.public_key, self.signature, message):
            raise RecordError("The signature of the provider record is wrong.")

    @classmethod
    def unpack(cls, key: bytes, packed: bytes) -> ProviderRecord:
        """Read an unverified record from a reply; raises `RecordError`."""
        try:
            address = unpack_address(packed[104:])
        except DatagramError:
            raise RecordError("The provider record is malformed.") from None
        expires_at = int.from_bytes(packed[32:40], "big")
        return cls(key, packed[:32], address, expires_at, packed[40:104])

    @classmethod
    def from_entry(
        cls, entry: bytes, public_key: bytes, address: Address
    ) -> ProviderRecord:
        """Read an unverified record from an announce."""
        expires_at = int.from_bytes(entry[32:40], "big")
        return cls(entry[:32], public_key, address, expires_at, entry[40:])


def _message(tag: bytes, key: bytes, address: Address, *, expires_at: int) -> bytes:
    expiry = expires_at.to_bytes(_EXPIRY_BYTES, "big")
    return b"".join((PROVIDER_PREFIX, tag, key, address.packed, expiry))
