"""Identity: Ed25519 keys, and how a node proves that it holds its own.

The node key signs nothing without a prefix that names the purpose, so a signature
given for one can never serve another. `Signer` and `Verify` are the seam through
which a simulation of ten thousand nodes may pass a cheaper scheme; everything else
uses `KeySigner` and `verify_ed25519`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNATURE_BYTES: Final = 64
PROOF_PREFIX: Final = b"caravan proof 1"

Verify: TypeAlias = "Callable[[bytes, bytes, bytes], bool]"
"""(public key, signature, message) -> whether the key made the signature."""

_FIELD_PRIME: Final = 2**255 - 19
# The y coordinates of the eight points whose order divides 8. A signature under such
# a key can be forged for any message.
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _FIELD_PRIME - 1,
        int.from_bytes(
            bytes.fromhex(
                "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
            ),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex(
                "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
            ),
            "little",
        ),
    }
)


class Signer(Protocol):
    """Holds a private key and signs with it."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""


class KeySigner:
    """Signs with an Ed25519 private key (RFC 8032)."""

    __slots__ = ("_key", "public_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key: bytes = key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        return self._key.sign(message)


def is_weak_key(public_key: bytes) -> bool:
    """Whether a key is of small order or not in its canonical form."""
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    return y >= _FIELD_PRIME or y in _SMALL_ORDER_Y


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `public_key` signed `message`; False for a small-order key."""
    if len(public_key) != 32 or is_weak_key(public_key):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def proof_message(tag: bytes, asker: bytes, transaction: bytes, body: bytes) -> bytes:
    """Return what a proof of id signs.

    `asker` is the key of the node that is to be convinced, `body` the message up to
    its proof. A reply's body holds the address the asker was seen from and a
    request's body holds the token that the asker gave, so neither can be relayed.
    """
    return b"".join((PROOF_PREFIX, tag, asker, transaction, body))
