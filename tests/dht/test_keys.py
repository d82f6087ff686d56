"""Keys have separate name spaces, and private networks their own keys."""

from __future__ import annotations

import hashlib

import pytest

from dht import Network, delegation_key, follow_key, provider_key, release_key
from dht.keys import distance


def test_a_provider_key_is_the_hash_that_the_protocol_names() -> None:
    """The formula is part of the wire."""
    digest = bytes(range(32))
    expected = hashlib.sha256(b"caravan provider" + b"sha256" + digest).digest()
    assert provider_key(Network(), "sha256", digest) == expected


def test_no_two_uses_share_a_key() -> None:
    """The same publisher and name give four different keys."""
    network, publisher = Network(), bytes(32)
    keys = {
        provider_key(network, "sha256", publisher),
        follow_key(network, publisher, "x"),
        release_key(network, publisher, "x"),
        delegation_key(network, publisher),
    }
    assert len(keys) == 4


def test_a_private_network_has_other_keys_and_another_tag() -> None:
    """Without the secret its keys cannot be guessed from a digest."""
    private = Network("caravan", b"s" * 32)
    assert private.tag != Network().tag
    assert private.key(b"x") != Network().key(b"x")
    assert private.key(b"x") != Network("caravan", b"t" * 32).key(b"x")
    assert "s" * 32 not in repr(private)


def test_a_secret_has_32_bytes() -> None:
    """Passphrases are not secrets."""
    with pytest.raises(ValueError, match="32 bytes"):
        Network("caravan", b"hunter2")


def test_distance_is_xor() -> None:
    """As the Kademlia paper has it."""
    assert distance(b"\x0f" + bytes(31), b"\xf0" + bytes(31)) == 0xFF << 248
