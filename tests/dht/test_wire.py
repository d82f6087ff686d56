"""Messages: what is encoded is decoded, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import wire
from dht.errors import DatagramError
from dht.packing import pack
from dht.wire import Reply, Request, add_proof, decode, encode, encode_unproved

VECTORS = Path(__file__).parents[1] / "vectors" / "dht_messages.json"


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


tokens = st.sampled_from([b"", b"12345678"])
request_bodies = st.one_of(
    st.builds(wire.Ping),
    st.builds(
        wire.DialBack,
        st.sampled_from([b"", b"\x04\x01\x02\x03\x04\x12\x8b"]),
        st.integers(0, 65535),
        exactly(8),
    ),
    st.builds(wire.Reserve),
    st.builds(
        wire.Call, exactly(32), st.integers(1, 65535), exactly(16), st.integers(1, 2)
    ),
    st.builds(
        wire.Called,
        st.sampled_from([b"", b"\x04\x01\x02\x03\x04\x12\x8b"]),
        st.integers(1, 65535),
        exactly(16),
        st.integers(1, 2),
    ),
    st.builds(wire.FindNode, exactly(32)),
    st.builds(wire.FindProviders, exactly(32), st.integers(0, 2**32 - 1)),
    st.builds(
        wire.Announce,
        tokens,
        st.integers(1, 65535),
        st.integers(0, 2**40 - 1),
        exactly(64),
        exactly(5),
        st.lists(st.binary(min_size=75, max_size=171), max_size=3),
        st.binary(max_size=153),
        st.booleans(),
    ),
    st.builds(wire.FindRecord, exactly(32), st.booleans()),
    st.builds(wire.StoreRecord, exactly(32), tokens, st.binary(max_size=700)),
    st.builds(wire.Notify, st.binary(max_size=700), st.binary(max_size=204)),
)
reply_bodies = st.one_of(
    st.builds(wire.Pong),
    st.builds(wire.Nodes, st.binary(max_size=816), tokens),
    st.builds(
        wire.Providers,
        st.binary(max_size=200),
        tokens,
        st.integers(0, 1025),
        st.integers(0, 2**32 - 1),
        st.lists(st.binary(min_size=191, max_size=295), max_size=3),
    ),
    st.builds(
        wire.Announced,
        st.integers(0, 15),
        st.lists(st.integers(0, 15), max_size=8),
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**48 - 1),
    ),
    st.builds(
        wire.RecordFound, st.binary(max_size=300), tokens, st.binary(max_size=700)
    ),
    st.builds(wire.RecordStored, st.integers(0, 15), st.binary(max_size=700)),
    st.builds(wire.Notified),
    st.builds(wire.DialedBack, st.integers(0, 15)),
    st.builds(wire.Reserved, st.integers(0, 15), st.integers(0, 65535), st.booleans()),
    st.builds(wire.Introduced, st.integers(0, 15), st.integers(0, 65535)),
    st.builds(wire.CallTaken, st.integers(0, 15)),
)


@st.composite
def messages(draw: st.DrawFn) -> Request | Reply:
    head = (draw(exactly(8)),)
    if draw(st.booleans()):
        body = draw(request_bodies)
        return Request(
            1,
            wire.kind_of(body),
            *head,
            draw(exactly(32)),
            draw(st.integers(0, 255)),
            draw(tokens),
            body,
            draw(st.binary(max_size=40)),
            draw(st.sampled_from([b"", b"p" * 16])),
        )
    body = draw(reply_bodies)
    return Reply(
        1,
        wire.kind_of(body),
        *head,
        draw(exactly(8)),
        draw(st.sampled_from([b"", b"\x04" + bytes(6), b"\x06" + bytes(18)])),
        draw(tokens),
        draw(st.integers(0, 255)),
        body,
        draw(st.sampled_from([b"", b"p" * 48])),
    )


@given(messages())
def test_every_message_is_read_back(message: Request | Reply) -> None:
    """Encoding and decoding lose nothing, and the proof can be cut off again."""
    packed = encode(message)
    assert decode(packed) == message
    if message.proof:
        part = wire.proved_part(packed, message.proof)
        assert add_proof(part, message.proof) == packed
        assert part == encode_unproved(message)


@given(messages(), st.data())
def test_mutated_messages_raise_one_kind_of_error(
    message: Request | Reply, data: st.DataObject
) -> None:
    """Cut, changed or extended bytes are refused or are another message."""
    packed = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(packed) - 1))
        what = data.draw(st.sampled_from(["change", "cut", "insert"]))
        if what == "change":
            packed[place] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del packed[place : place + data.draw(st.integers(1, 9))]
        else:
            packed[place:place] = data.draw(st.binary(max_size=9))
        if not packed:
            break
    reason = None
    try:
        decode(bytes(packed))
    except DatagramError as error:
        reason = error.reason
    assert reason in {None, "msgpack", "shape", "version", "kind", "proof"}


@given(st.binary(max_size=1200))
def test_any_bytes_are_a_message_or_a_wire_error(packed: bytes) -> None:
    """Nothing else is raised, whatever comes."""
    try:
        decode(packed)
    except DatagramError:
        return


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"", "msgpack"),
        (b"\xc1", "msgpack"),
        (b"\x91" * 1100 + b"\x01", "msgpack"),
        (b"\xdd\xff\xff\xff\xff", "msgpack"),
        (b"\xc6\xff\xff\xff\xff", "msgpack"),
        (pack([1, 1]), "shape"),
        (pack(7), "shape"),
        (pack({}), "shape"),
        (pack([2, 1, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "version"),
        (pack([True, 1, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "version"),
        (pack([1, 0, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "kind"),
        (pack([1, 63, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "kind"),
        (pack([1, 129, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "kind"),
        (pack([1, -63, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "kind"),
        (pack([1, 1.0, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "shape"),
        (pack([1, 1, b"t" * 7, b"k" * 32, 0, b"", [], b"", b""]), "shape"),
        (pack([1, 1, b"t" * 8, b"k" * 31, 0, b"", [], b"", b""]), "shape"),
        (pack([1, 1, b"t" * 8, b"k" * 32, 256, b"", [], b"", b""]), "shape"),
        (pack([1, 1, b"t" * 8, b"k" * 32, 0, b"", [1], b"", b""]), "shape"),
        (pack([1, 2, b"t" * 8, b"k" * 32, 0, b"", [], b"", b""]), "shape"),
        (pack([1, 1, b"t" * 8, b"k" * 32, 0, b"", [], b"", b"p"]), "proof"),
        (pack([1, 1, b"t" * 8, b"k" * 32, 0, b"", [], "", b""]), "shape"),
    ],
)
def test_what_is_refused_is_counted_by_reason(packed: bytes, reason: str) -> None:
    """Every length is bounded and every shape fixed."""
    with pytest.raises(DatagramError) as caught:
        decode(packed)
    assert caught.value.reason == reason


def test_a_proof_in_a_longer_encoding_is_refused() -> None:
    """There is one way only to cut a message into proof and the rest."""
    head = encode_unproved(Request(1, 1, b"t" * 8, b"k" * 32, 0, b"", wire.Ping()))
    packed = head + b"\xc5\x00\x10" + b"p" * 16
    message = decode(packed)
    with pytest.raises(DatagramError):
        wire.proved_part(packed, message.proof)


def announces() -> dict[str, wire.MessageBody]:
    """Return an announce with a slice, and one of introducers for a summary."""
    return {
        "announce": wire.Announce(
            b"writetok",
            4747,
            1_800_018_000,
            b"\x44" * 64,
            b"\x06\xfc\x00\x00\x00",
            [b"\x06\xfc\x00\x00\x00" + b"\x07" * 6 + b"\x55" * 64 + b"\x66" * 8],
        ),
        "announce_introduced": wire.Announce(
            b"writetok",
            4747,
            1_800_018_000,
            b"\x44" * 64,
            b"\x06\xfc\x00\x00\x00",
            [],
            b"\x22" * 32 + b"\x04\x08\x08\x08\x08\x12\x8b",
            summary=True,
        ),
    }


def vector_messages() -> dict[str, Request | Reply]:
    """Return one message of each kind, by name."""
    key, token, record = bytes(range(32)), b"addrtokn", b"record bytes"
    bodies: dict[str, wire.MessageBody] = {
        "ping": wire.Ping(),
        "dial_back": wire.DialBack(b"\x04\x08\x08\x08\x08\x12\x8b", 4747, b"nonce---"),
        "find_node": wire.FindNode(key),
        "find_providers": wire.FindProviders(key, 7 << 16 | 8),
        "find_providers_leased": wire.FindProviders(key, 0, b"\xaa" * 32),
        **announces(),
        "reserve": wire.Reserve(),
        "call": wire.Call(key, 4747, b"call token here-", 1),
        "called": wire.Called(
            b"\x04\x08\x08\x08\x08\x12\x8b", 4747, b"call token here-", 2
        ),
        "reserved": wire.Reserved(0, 4747, relays=True),
        "introduced": wire.Introduced(0, 4747),
        "call_taken": wire.CallTaken(1),
        "find_record": wire.FindRecord(key, conflict=True),
        "store_record": wire.StoreRecord(key, b"writetok", record),
        "notify": wire.Notify(record, b"\x11" * 32 + b"\x04\x08\x08\x08\x08\x12\x8b"),
        "pong": wire.Pong(),
        "nodes": wire.Nodes(
            b"\x22" * 32 + b"\x04\x08\x08\x08\x08\x12\x8b", b"writetok"
        ),
        "providers": wire.Providers(b"", b"writetok", 9, 7 << 16 | 8, [b"\x33" * 191]),
        "providers_leased": wire.Providers(
            b"", b"writetok", 0, 0, [], b"\x22" * 32 + b"\x04\x08\x08\x08\x08\x12\x8b"
        ),
        "announced": wire.Announced(0, [0, 1, 3], 1 << 62, 1_800_000_000_000),
        "record_found": wire.RecordFound(b"", b"writetok", record),
        "record_stored": wire.RecordStored(4, record),
        "notified": wire.Notified(),
        "dialed_back": wire.DialedBack(2),
    }
    found: dict[str, Request | Reply] = {}
    for name, body in bodies.items():
        kind = wire.kind_of(body)
        if kind < wire.REPLY:
            found[name] = Request(
                1, kind, b"transact", b"\xaa" * 32, 5, token, body, bytes(3)
            )
        else:
            seen = b"\x04\x01\x02\x03\x04\x12\x8b"
            found[name] = Reply(
                1, kind, b"transact", b"idhint--", seen, token, 1, body, b"\xbb" * 48
            )
    return found


def test_golden_bytes_of_every_kind() -> None:
    """The wire does not change by accident."""
    golden = json.loads(VECTORS.read_text())
    found = vector_messages()
    assert {name: encode(message).hex() for name, message in found.items()} == golden
    for name, message in found.items():
        assert decode(bytes.fromhex(golden[name])) == message
