"""Tokens: an address shows that it receives what is sent to it.

A token is a keyed hash of the IP, the port and a scope; the keeper stores nothing.
Two secrets are in use, each for five minutes as the newer one, so a token is good
for five to ten minutes (as in BitTorrent's BEP 5). The scope of a write token is
the first half byte of the key: one token covers the neighbouring keys of a sweep.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from dht.limits import TOKEN_BYTES, TOKEN_SECRET_SECONDS

if TYPE_CHECKING:
    import random

    from dht.addresses import Address


def write_scope(key: bytes) -> bytes:
    """Return the scope of a write token for a key."""
    return bytes([key[0] >> 4])


class Tokens:
    """Issues tokens and validates them."""

    __slots__ = ("_changed_at", "_newer", "_older", "_rng")

    def __init__(self, rng: random.Random, now: float) -> None:
        self._rng = rng
        self._newer = rng.randbytes(16)
        self._older = rng.randbytes(16)
        self._changed_at = now

    def issue(self, address: Address, now: float, scope: bytes = b"") -> bytes:
        """Return the token of an address for a scope; empty: the address itself."""
        self._rotate(now)
        return _token(self._newer, address, scope)

    def is_valid(
        self, token: bytes, address: Address, now: float, *, scope: bytes = b""
    ) -> bool:
        """Whether this node gave the token to the address in the last minutes."""
        if len(token) != TOKEN_BYTES:
            return False
        self._rotate(now)
        return hmac.compare_digest(
            token, _token(self._newer, address, scope)
        ) or hmac.compare_digest(token, _token(self._older, address, scope))

    def _rotate(self, now: float) -> None:
        """Replace the secrets that have served their time."""
        if now - self._changed_at < TOKEN_SECRET_SECONDS:
            return
        both = now - self._changed_at >= 2 * TOKEN_SECRET_SECONDS
        self._older = self._rng.randbytes(16) if both else self._newer
        self._newer = self._rng.randbytes(16)
        self._changed_at = now


def _token(secret: bytes, address: Address, scope: bytes) -> bytes:
    return hashlib.blake2b(
        address.packed + scope, key=secret, digest_size=TOKEN_BYTES
    ).digest()
