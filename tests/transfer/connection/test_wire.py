"""The wire: golden bytes, round trips, and nothing but what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.connection import wire
from transfer.content import bitmap
from transfer.errors import WireError
from transfer.limits import REPLY_FRAME_BYTES_MAX

VECTORS = Path(__file__).parents[2] / "vectors" / "transfer_frames.json"
KEY = bytes(range(32))

keys = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 2**32 - 1)
indexes = st.integers(0, 16_383)
messages = st.one_of(
    st.builds(wire.Hello, st.integers(1, 255), keys, keys, st.just(b"") | keys),
    st.builds(wire.Proof, keys),
    st.builds(
        wire.Want,
        numbers,
        st.just("sha256"),
        keys,
        st.just(b"") | keys,
        st.integers(0, 65_535),
    ),
    st.builds(wire.Listing, numbers, st.binary(max_size=300)),
    st.builds(wire.Have, numbers, keys, st.booleans(), st.binary(max_size=64)),
    st.builds(wire.Get, numbers, indexes, st.integers(0, 2**26 - 1)),
    st.builds(wire.Chunk, numbers, indexes, st.integers(0, 2**26)),
    st.builds(wire.Absent, numbers, st.booleans()),
    st.builds(wire.Lacking, numbers, indexes),
    st.builds(wire.Busy, st.integers(0, 600)),
    st.builds(wire.Bye, st.text(max_size=200)),
    st.builds(wire.Complaint, numbers, indexes),
    st.builds(wire.Done, numbers),
    st.builds(wire.PeerExchange, numbers, st.binary(min_size=1, max_size=800)),
    st.builds(wire.Redirect, numbers, indexes, st.binary(min_size=1, max_size=64)),
    st.builds(wire.Ask, numbers, st.just("sha256"), keys, st.integers(0, 256 * 1024)),
    st.builds(wire.Whole, numbers, st.integers(0, 256 * 1024)),
    st.builds(wire.Larger, numbers),
    st.builds(wire.Follow, numbers, st.just("sha256"), keys, st.integers(0, 2**40)),
    st.builds(wire.NameOf, numbers, st.just("sha256"), keys),
    st.builds(wire.Named, numbers, st.from_regex(r"\A[ -.0-~]{0,200}\Z")),
    st.builds(
        wire.Part, numbers, st.integers(0, 2**40), st.integers(0, 2**17), st.booleans()
    ),
)
SAMPLES = [
    wire.Hello(1, KEY, KEY[::-1], b""),
    wire.Proof(KEY),
    wire.Want(7, "sha256", KEY, b"", 4747),
    wire.Listing(7, b"encoded"),
    wire.Have(7, KEY, whole=True, bitmap=b""),
    wire.Get(7, 300, 65_536),
    wire.Chunk(7, 300, 262_144),
    wire.Absent(7, partial=False),
    wire.Lacking(7, 300),
    wire.Busy(2),
    wire.Bye("closing"),
    wire.Complaint(7, 300),
    wire.Done(7),
    wire.PeerExchange(7, KEY + bytes(10) + b"\xff\xff\x08\x08\x04\x04\x12\x8b"),
    wire.Redirect(7, 300, b"\x05"),
    wire.Ask(7, "sha256", KEY, 262_144),
    wire.Whole(7, 20_480),
    wire.Larger(7),
    wire.Follow(7, "sha256", KEY, 65_536),
    wire.Part(7, 1_000_000, 131_072, last=False),
    wire.NameOf(7, "sha256", KEY),
    wire.Named(7, "notes (2).tar.gz"),
]


def body_of(frame: bytes) -> bytes:
    length = wire.body_length(frame[:4], REPLY_FRAME_BYTES_MAX)
    assert len(frame) == 4 + length
    return frame[4:]


def test_golden_bytes():
    """Frames keep their bytes for ever: other implementations rely on them."""
    vectors = json.loads(VECTORS.read_text())
    assert {type(message).__name__ for message in SAMPLES} == set(vectors["frames"])
    for message in SAMPLES:
        frame = bytes.fromhex(vectors["frames"][type(message).__name__])
        assert wire.encode(message) == frame
        assert wire.decode(body_of(frame)) == message
    ours = wire.Hello(1, KEY, KEY[::-1], b"")
    theirs = wire.Hello(1, KEY[::-1], KEY, b"")
    for role, expected in vectors["proofs"].items():
        proof = wire.network_proof(
            bytes(32), seeder=role == "seeder", leecher_hello=ours, seeder_hello=theirs
        )
        assert proof.hex() == expected
    assert wire.MAGIC_TLS.hex() == vectors["magic"]["tls"]
    assert wire.MAGIC_PLAINTEXT.hex() == vectors["magic"]["plaintext"]


@given(messages)
def test_what_is_encoded_is_decoded(message):
    """Every message survives the wire."""
    assert wire.decode(body_of(wire.encode(message))) == message


@settings(max_examples=500)
@given(messages, st.data())
def test_a_changed_frame_is_read_or_refused(message, data):
    """Whatever bytes arrive, WireError is the only error."""
    body = bytearray(body_of(wire.encode(message)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(body)))
    for changed in (bytes(body), bytes(body[:cut]), bytes(body) + b"\x00"):
        try:
            wire.decode(changed)
        except WireError:
            continue


@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused(body):
    """Random bytes raise nothing but WireError."""
    try:
        wire.decode(body)
    except WireError:
        return


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [99, 1],
        [5, 1],
        [5, 1, 2],
        [5, 1, 2, 3, 4],
        [5, -1, 0, 0],
        [5, 2**32, 0, 0],
        [5, 1, 16_384, 0],
        [5, 1, 0, -1],
        [5, 1, 0, 2**26],
        [5, True, 0, 0],
        [5, 1.0, 0, 0],
        [5, "1", 0, 0],
        [4, 1, KEY, 1, b""],
        [4, 1, KEY, True, bytes(2049)],
        [0, 1, KEY[:31], KEY, b""],
        [10, "x" * 201],
        [10, ["x"]],
        {"tag": 5},
        [[[[[]]]]],
    ],
)
def test_a_wrong_shape_is_refused(fields):
    """Missing, further, mistyped and oversized fields are refused."""
    with pytest.raises(WireError):
        wire.decode(msgpack.packb(fields))


@pytest.mark.parametrize("length", [0, 1025, 2**32 - 1])
def test_a_wrong_length_is_refused(length):
    """Nothing is reserved for a length that nobody may announce."""
    with pytest.raises(WireError):
        wire.body_length(length.to_bytes(4, "big"), 1024)


def test_nesting_is_refused():
    """Deeply nested arrays cost nothing and are refused."""
    with pytest.raises(WireError):
        wire.decode(b"\x91" * 1000 + b"\x00")


@given(st.lists(st.integers(0, 1), max_size=100).map(bytearray))
def test_a_bitmap_survives_the_wire(flags):
    """One bit per chunk, there and back."""
    assert bitmap.unpack(bitmap.pack(flags), len(flags)) == flags


def test_a_bitmap_has_exactly_its_bits():
    """Wrong lengths and bits beyond the end are refused; the order is fixed."""
    assert bitmap.pack(bytearray([1, 0, 0, 0, 0, 0, 0, 0, 0, 1])) == b"\x01\x02"
    for packed in (b"", b"\x01", b"\x01\x02\x00", b"\x01\x04"):
        with pytest.raises(WireError):
            bitmap.unpack(packed, 10)


@pytest.mark.parametrize(
    "name", ["a/b", "..\x00", "a\nb", "\x1b[2J", "a\n", "ä", "x" * 201, b"raw", None]
)
def test_a_file_name_is_bounded_and_cannot_drive_a_terminal(name):
    body = msgpack.packb([21, 7, name])
    with pytest.raises(WireError):
        wire.decode(body)
