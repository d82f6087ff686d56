"""What is signed is what counts: one way to write it, and evidence is two bodies."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht import Address, Delegation, Network, ProviderRecord, RecordError, ReleaseRecord
from dht.identity import verify_ed25519
from dht.record_client import Tally
from dht.record_store import RecordStore
from dht.records import verify_record
from dht.wire import Stored
from tests.dht.builders import NETWORK, NOW, core, key, private_key, release, signer
from tests.dht.builders import provider as provider_record

if TYPE_CHECKING:
    from collections.abc import Iterator

LAB = Network("lab", b"s" * 32)


def delegation(epoch: int = 3) -> Delegation:
    return Delegation.sign(
        private_key(1), signer(2).public_key, epoch=epoch, not_after=NOW + 1000
    )


def delegated() -> ReleaseRecord:
    return release(by=private_key(2), epoch=3, delegation=delegation())


SIGNED = {
    "release": release().raw,
    "delegation": delegation().raw,
    "delegated release": delegated().raw,
}


def rewritten(raw: bytes) -> Iterator[bytes]:
    """Yield other bytes that say the same, as a stranger can write them."""
    kind, body, signature = msgpack.unpackb(raw)
    pack = msgpack.packb
    yield b"\x93\xcc" + bytes([kind]) + pack(body) + pack(signature)
    yield b"\x93\xcd\x00" + bytes([kind]) + pack(body) + pack(signature)
    yield b"\x93\xd0" + bytes([kind]) + pack(body) + pack(signature)
    for head, size in ((b"\xc5", 2), (b"\xc6", 4)):
        for part in (body, signature):
            long = head + len(part).to_bytes(size, "big") + part
            short = [pack(body), pack(signature)]
            short[(body, signature).index(part)] = long
            yield b"\x93" + bytes([kind]) + b"".join(short)
    yield b"\xdc\x00\x03" + raw[1:]
    yield b"\xdd\x00\x00\x00\x03" + raw[1:]
    for more in (b"\xc0", b"\x00", b"\xc4\x00", b"\x90", b"\xa0"):
        yield b"\x94" + raw[1:] + more
    yield raw + b"\xc0"


@pytest.mark.parametrize("name", SIGNED)
def test_a_record_written_in_another_way_is_refused(name: str) -> None:
    """The outer array is not signed, so there is one way to write it."""
    raw = SIGNED[name]
    assert verify_record(raw, NOW).raw == raw
    for other in rewritten(raw):
        if other == raw:
            continue
        with pytest.raises(RecordError):
            verify_record(other, NOW)
        with pytest.raises(RecordError):
            ReleaseRecord.peek(other)


@pytest.mark.parametrize("name", SIGNED)
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_mutated_record_is_refused_with_one_kind_of_error(
    name: str, data: st.DataObject
) -> None:
    """Whatever the change: nothing but `RecordError` leaves a verifier."""
    raw = bytearray(SIGNED[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(raw) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "add"]))
        if change == "set":
            raw[place] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del raw[place : place + data.draw(st.integers(1, 4))]
        else:
            raw[place:place] = data.draw(st.binary(min_size=1, max_size=4))
        if not raw:
            break
    if bytes(raw) != SIGNED[name]:
        with pytest.raises(RecordError):
            verify_record(bytes(raw), NOW)
    with contextlib.suppress(RecordError):
        ReleaseRecord.peek(bytes(raw))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=900))
def test_any_bytes_at_all_are_refused_with_one_kind_of_error(raw: bytes) -> None:
    """A stranger sends what he likes."""
    for verify in (verify_record, ReleaseRecord.verify, Delegation.verify):
        with pytest.raises(RecordError):
            verify(raw, NOW)
    with pytest.raises(RecordError):
        ReleaseRecord.peek(raw)
    with pytest.raises(RecordError):
        ProviderRecord.unpack(key(0), raw).verify(NETWORK.tag, NOW, verify_ed25519)


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, 190), bit=st.integers(0, 7))
def test_a_changed_bit_of_a_provider_record_is_refused(place: int, bit: int) -> None:
    """Node record and slice are all signed, and have one form."""
    packed = bytearray(provider_record(key(0), 1, Address("8.8.8.8", 4747)).packed)
    assert len(packed) == 191
    packed[place] ^= 1 << bit
    with pytest.raises(RecordError):
        ProviderRecord.unpack(key(0), bytes(packed)).verify(
            NETWORK.tag, NOW, verify_ed25519
        )


def test_a_signed_body_with_one_more_field_is_refused() -> None:
    """Even its own publisher cannot add what others would not see."""
    kind, body, _ = msgpack.unpackb(release().raw)
    fields = [*msgpack.unpackb(body), b"more"]
    packed = msgpack.packb(fields)
    signature = signer(1).sign(b"caravan release 1" + packed)
    with pytest.raises(RecordError):
        ReleaseRecord.verify(msgpack.packb([kind, packed, signature]), NOW)


def test_a_signed_body_in_another_encoding_is_refused() -> None:
    """Otherwise one statement would have two bodies, both truly signed."""
    kind, body, _ = msgpack.unpackb(release(sequence=5).raw)
    assert body.count(b"\x05") >= 1
    place = body.index(b"\x00\x05") + 1
    longer = body[:place] + b"\xcc" + body[place:]
    signature = signer(1).sign(b"caravan release 1" + longer)
    with pytest.raises(RecordError, match="one way"):
        ReleaseRecord.verify(msgpack.packb([kind, longer, signature]), NOW)


def another_signature() -> ReleaseRecord:
    """Return `release()` as if its publisher had signed it a second time.

    Ed25519 as in RFC 8032 gives one signature for one message, but a publisher may
    use any other nonce. Here the signature is only another one, unverified.
    """
    record = release()
    kind, body, signature = msgpack.unpackb(record.raw)
    raw = msgpack.packb([kind, body, signature[::-1]])
    fields = {name: getattr(record, name) for name in ReleaseRecord.__slots__}
    return ReleaseRecord(**{**fields, "raw": raw})


def test_the_same_body_signed_twice_is_the_same_record() -> None:
    """It renews what is kept, and is no evidence of anything."""
    one, two = release(), another_signature()
    assert one.raw != two.raw
    assert one.is_same(two)
    assert one == two
    kept = RecordStore()
    place = one.key(NETWORK)
    for record in (one, two):
        result = kept.put(place, record, path=(b"s",), now=0.0, lifetime=1e9)
        assert result.status is Stored.STORED
    assert kept.conflict(place, 1.0) == b""
    assert kept.newest(place, 1.0) is one


def test_a_search_counts_bodies_and_not_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two holders of two signatures under one body confirm the same record."""
    one, two, other = release(), another_signature(), release(version="2.0")
    by_raw = {each.raw: each for each in (one, two, other)}
    monkeypatch.setattr(
        "dht.record_client.verify_record", lambda raw, now, network: by_raw[raw]
    )
    node = core()
    tally = Tally(node, one.key(NETWORK))
    tally.add(one.raw, provider_record(key(0), 1).contact)
    tally.add(two.raw, provider_record(key(0), 2).contact)
    assert tally.newest is not None
    assert tally.confirmed(tally.newest) == 2
    assert tally.conflicts(tally.newest) == ()
    tally.add(other.raw, provider_record(key(0), 3).contact)
    assert tally.conflicts(one) == (other,)


def test_a_release_is_valid_in_its_network_alone() -> None:
    """What was published in a private network says nothing in another."""
    private, public = release(network=LAB), release()
    other = Network("lab", b"t" * 32)
    assert ReleaseRecord.verify(private.raw, NOW, network=LAB) == private
    for network in (NETWORK, other, Network("lab")):
        with pytest.raises(RecordError, match="signature"):
            ReleaseRecord.verify(private.raw, NOW, network=network)
    with pytest.raises(RecordError, match="signature"):
        ReleaseRecord.verify(public.raw, NOW, network=LAB)


def test_a_delegation_is_valid_in_every_network() -> None:
    """Package files carry it from one to another."""
    raw = delegation().raw
    assert verify_record(raw, NOW) == verify_record(raw, NOW, network=LAB)
