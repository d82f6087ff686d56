"""What reads foreign bytes ends in one error, and in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from transfer.connection import peer_exchange
from transfer.content import bitmap
from transfer.content.digest import Digest
from transfer.content.manifest import Manifest
from transfer.errors import DigestError, ManifestError, WireError
from transfer.limits import CHUNKS_MAX

HEAD = b"caravan manifest 1"
LONG = 1_000_000


@given(st.text(max_size=200))
@example("sha256:" + "é" * 64)
@example("ni:///sha-256;" + "\ud800" * 43)
@example("\x00")
def test_any_text_is_a_digest_or_a_digest_error(text):
    try:
        Digest.parse(text)
    except DigestError:
        return


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_manifest_or_a_manifest_error(data, headed):
    try:
        Manifest.decode(HEAD + data if headed else data)
    except ManifestError:
        return


@given(st.binary(max_size=64), st.integers(0, CHUNKS_MAX))
def test_any_bytes_are_a_bitmap_or_a_wire_error(data, count):
    try:
        assert len(bitmap.unpack(data, count)) == count
    except WireError:
        return


@given(st.binary(max_size=900))
def test_any_bytes_are_peers_or_a_wire_error(data):
    try:
        peer_exchange.unpack(data)
    except WireError:
        return


@pytest.mark.parametrize(
    "text",
    [
        "sha256:" * LONG,
        "a" * LONG,
        "ni:///" + "-" * LONG,
        "sha512-" + "=" * LONG,
        " " * LONG,
        "sha256=" + "f" * LONG + "g",
    ],
    ids=["prefixes", "hex", "ni", "padding", "spaces", "nearly hex"],
)
def test_a_megabyte_of_text_is_refused_at_once(text):
    began = time.process_time()
    with pytest.raises(DigestError):
        Digest.parse(text)
    assert time.process_time() - began < 0.5
