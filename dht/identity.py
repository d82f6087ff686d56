"""Identity: Ed25519 keys, and how a node proves that it holds its own.

Records are signed, because any node may read them. A proof of id convinces one node
only, so it is a MAC instead: two keys agree on a secret (X25519, RFC 7748, with the
Ed25519 keys in their Montgomery form) that no third party can compute. It
costs two nodes less to agree once, in both directions, than one signature does.

The node key signs nothing without a prefix that names the purpose, so a signature
given for one can never serve another. `Signer` and `Verify` are the seam through
which a simulation of ten thousand nodes may pass a cheaper scheme; everything else
uses `KeySigner` and `verify_ed25519`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)

from dht.bounded import BoundedDict
from dht.limits import SECRETS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNATURE_BYTES: Final = 64
PROOF_BYTES: Final = 16
PROOF_PREFIX: Final = b"caravan proof 1"
SECRET_PREFIX: Final = b"caravan secret 1"

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
    """Holds a private key, signs with it, and agrees on secrets."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""

    def secret_with(self, public_key: bytes) -> bytes | None:
        """Return the secret shared with a key, the same to both; None if weak."""


class KeySigner:
    """Signs with an Ed25519 private key (RFC 8032) and remembers its secrets."""

    __slots__ = ("_agreeing", "_key", "_secrets", "public_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key: bytes = key.public_key().public_bytes_raw()
        # The scalar of an Ed25519 key (RFC 8032, section 5.1.5) is an X25519 key.
        scalar = hashlib.sha512(key.private_bytes_raw()).digest()[:32]
        self._agreeing = X25519PrivateKey.from_private_bytes(scalar)
        self._secrets: BoundedDict[bytes, bytes] = BoundedDict(SECRETS_MAX)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of a message."""
        return self._key.sign(message)

    def secret_with(self, public_key: bytes) -> bytes | None:
        """Return the secret shared with a key, the same to both; None if weak.

        The last 4,096 are remembered: after the first one, proofs cost next to
        nothing in either direction.
        """
        secret = self._secrets.get(public_key)
        if secret is None:
            shared = self._agree(public_key)
            if shared is None:
                return None
            keys = sorted((self.public_key, public_key))
            secret = hashlib.sha256(b"".join((SECRET_PREFIX, shared, *keys))).digest()
            self._secrets[public_key] = secret
        return secret

    def _agree(self, public_key: bytes) -> bytes | None:
        """Return what X25519 gives with an Ed25519 key in its Montgomery form."""
        if len(public_key) != 32 or is_weak_key(public_key):
            return None
        y = int.from_bytes(public_key, "little") & (2**255 - 1)
        u = (1 + y) * pow(1 - y, -1, _FIELD_PRIME) % _FIELD_PRIME
        try:
            other = X25519PublicKey.from_public_bytes(u.to_bytes(32, "little"))
            return self._agreeing.exchange(other)
        except ValueError:  # all zero: not a secret
            return None


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


def prove(secret: bytes, *, tag: bytes, prover: bytes, part: bytes) -> bytes:
    """Return the proof of id that `prover` gives to the key it shares a secret with.

    `part` is the message up to its proof. It holds the transaction; a reply's holds
    the address the asker was seen from and a request's the token that the asker
    gave, so neither can be relayed. It is BLAKE2b (RFC 7693) of 16 bytes.
    """
    return hashlib.blake2b(
        b"".join((PROOF_PREFIX, tag, prover, part)), key=secret, digest_size=PROOF_BYTES
    ).digest()


def is_proof(
    proof: bytes, secret: bytes | None, *, tag: bytes, prover: bytes, part: bytes
) -> bool:
    """Whether `prove` gave that; False without a secret."""
    return secret is not None and hmac.compare_digest(
        proof, prove(secret, tag=tag, prover=prover, part=part)
    )
