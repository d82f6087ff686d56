"""Tokens bind an address, a scope and a time."""

from __future__ import annotations

import random

from dht import Address
from dht.tokens import Tokens, write_scope
from tests.dht.builders import address

HERE = address(1)


def test_a_token_is_good_for_its_address_and_scope_only() -> None:
    """IP, port and key are all bound."""
    tokens = Tokens(random.Random(1), 0.0)
    token = tokens.issue(HERE, 0.0, scope=b"k")
    assert tokens.is_valid(token, HERE, 1.0, scope=b"k")
    assert not tokens.is_valid(token, HERE, 1.0, scope=b"x")
    assert not tokens.is_valid(token, HERE, 1.0)
    assert not tokens.is_valid(token, address(2), 1.0, scope=b"k")
    assert not tokens.is_valid(token, Address(HERE.host, 4748), 1.0, scope=b"k")
    assert not tokens.is_valid(b"", HERE, 1.0, scope=b"k")
    assert not tokens.is_valid(token[:7], HERE, 1.0, scope=b"k")


def test_a_token_lives_five_to_ten_minutes() -> None:
    """Two secrets are known, each for five minutes as the newer one."""
    tokens = Tokens(random.Random(1), 0.0)
    early, late = tokens.issue(HERE, 0.0), tokens.issue(HERE, 299.0)
    assert tokens.is_valid(early, HERE, 301.0)
    assert tokens.is_valid(late, HERE, 598.0)
    assert not tokens.is_valid(late, HERE, 601.0)


def test_after_a_long_silence_no_old_token_is_good() -> None:
    """Both secrets are replaced at once."""
    tokens = Tokens(random.Random(1), 0.0)
    token = tokens.issue(HERE, 0.0)
    assert not tokens.is_valid(token, HERE, 5000.0)


def test_neighbouring_keys_share_a_write_token() -> None:
    """One first half byte is one scope, so that a sweep needs few tokens."""
    assert write_scope(b"\x10" + bytes(31)) == write_scope(b"\x1f" + b"\xff" * 31)
    assert write_scope(b"\x10" + bytes(31)) != write_scope(b"\x20" + bytes(31))
