"""Signatures are verified strictly: weak keys sign nothing."""

from __future__ import annotations

import pytest

from dht import is_weak_key, verify_ed25519
from tests.dht.builders import signer

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def _small_order_keys() -> list[bytes]:
    """Compute the encodings of all points whose order divides 8."""
    # A point of the curve -x^2 + y^2 = 1 + d x^2 y^2 times the group order's odd
    # part lies in the small subgroup; multiples of an order-8 point give all eight.
    order = 2**252 + 27742317777372353535851937790883648493
    for y in range(2, 100):
        point = _decompress(y)
        if point is None:
            continue
        small = _times(order, point)
        points = {_times(n, small) for n in range(8)}
        if len(points) == 8:
            return [(y | (x & 1) << 255).to_bytes(32, "little") for x, y in points]
    raise AssertionError("no point of order 8")


def _decompress(y: int) -> tuple[int, int] | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for root in (x, x * pow(2, (P - 1) // 4, P) % P):
        if root * root % P == square:
            return root, y
    return None


def _plus(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    product = D * a[0] * b[0] * a[1] * b[1] % P
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P)
    return x % P, y % P


def _times(n: int, point: tuple[int, int]) -> tuple[int, int]:
    result = (0, 1)
    while n:
        if n & 1:
            result = _plus(result, point)
        point = _plus(point, point)
        n >>= 1
    return result


@pytest.mark.parametrize("weak", _small_order_keys())
def test_every_point_of_small_order_is_refused(weak: bytes) -> None:
    """All eight, computed here from the curve's equation."""
    assert is_weak_key(weak)


def test_a_forged_signature_under_a_small_order_key_is_refused() -> None:
    """The identity key with R = identity and S = 0 would verify for any message."""
    identity = (1).to_bytes(32, "little")
    assert not verify_ed25519(identity, identity + bytes(32), b"anything")


@pytest.mark.parametrize("offset", [0, 1, 5, 18])
def test_keys_that_are_not_canonical_are_refused(offset: int) -> None:
    """One key has one encoding, and so one node id."""
    assert is_weak_key((P + offset).to_bytes(32, "little"))


def test_a_signature_holds_for_its_message_only() -> None:
    """And only under its key."""
    one, other = signer(1), signer(2)
    signature = one.sign(b"message")
    assert verify_ed25519(one.public_key, signature, b"message")
    assert not verify_ed25519(one.public_key, signature, b"massage")
    assert not verify_ed25519(other.public_key, signature, b"message")
    assert not verify_ed25519(one.public_key[:31], signature, b"message")
    assert not verify_ed25519(one.public_key, signature[:63], b"message")
