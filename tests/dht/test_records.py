"""Release records and delegations: only what is right becomes a record."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import Delegation, RecordError, ReleaseRecord
from dht.limits import RECORD_BYTES_MAX
from dht.packing import pack, unpack
from dht.records import verify_record
from tests.dht.builders import NETWORK, NOW, key, private_key, release, signer


def _delegation(epoch: int = 3, not_after: float = NOW + 1000) -> Delegation:
    return Delegation.sign(
        private_key(1), signer(2).public_key, epoch=epoch, not_after=not_after
    )


def test_what_was_signed_is_verified() -> None:
    """Signing and verifying give the same record."""
    record = release(urgency="security", sequence=7)
    assert ReleaseRecord.verify(record.raw, NOW) == record
    assert record.order == (0, 7)
    assert record.key(NETWORK) != release(name="other").key(NETWORK)


def test_a_release_key_signs_for_its_publisher() -> None:
    """With a delegation of the same epoch."""
    record = release(by=private_key(2), epoch=3, delegation=_delegation())
    verified = ReleaseRecord.verify(record.raw, NOW)
    assert verified == record
    assert verified.signer == signer(2).public_key
    assert verified.publisher == signer(1).public_key


def test_a_delegation_is_a_record_of_its_own() -> None:
    """It is found under the publisher's delegation key."""
    delegation = _delegation()
    assert verify_record(delegation.raw, NOW) == delegation
    assert delegation.order == (3, 0)


@pytest.mark.parametrize("position", [0, 1, 5, 40, 100, -65, -64, -1])
def test_one_changed_byte_is_refused(position: int) -> None:
    """Wherever it is."""
    raw = bytearray(release().raw)
    raw[position] ^= 1
    with pytest.raises(RecordError):
        ReleaseRecord.verify(bytes(raw), NOW)


def test_the_largest_record_fits_a_datagram() -> None:
    """Long names, a delegation and all: at most 700 bytes."""
    record = release(
        by=private_key(2),
        name="n" * 214,
        version="v" * 128,
        epoch=3,
        sequence=2**63 - 1,
        delegation=_delegation(),
    )
    assert len(record.raw) <= RECORD_BYTES_MAX
    with pytest.raises(RecordError, match="700"):
        release(
            by=private_key(2),
            name="n" * 300,
            version="v" * 128,
            epoch=3,
            delegation=_delegation(),
        )


@pytest.mark.parametrize(
    ("changes", "now", "why"),
    [
        ({}, NOW + 401 * 86400, "expired"),
        ({"issued_at": NOW + 3600}, NOW, "future"),
        ({"epoch": 4, "by": private_key(2)}, NOW, "may not sign"),
        ({"expires_at": NOW - 100}, NOW, "ends before"),
        ({"name": "n" * 215}, NOW, "name"),
        ({"name": ""}, NOW, "malformed"),
        ({"sequence": -1}, NOW, "malformed"),
        ({"package": b"short"}, NOW, "malformed"),
    ],
)
def test_what_is_refused_and_why(changes: dict, now: float, why: str) -> None:  # type: ignore[type-arg]
    """Each refusal says its reason."""
    with pytest.raises(RecordError, match=why):
        ReleaseRecord.verify(release(**changes).raw, now)


def test_a_clock_ten_minutes_off_is_tolerated() -> None:
    """But never for a record that has ended."""
    ReleaseRecord.verify(release(issued_at=NOW + 500).raw, NOW)
    ending = release(expires_at=NOW + 10)
    with pytest.raises(RecordError, match="expired"):
        ReleaseRecord.verify(ending.raw, NOW + 10)


def test_a_delegation_does_not_outlive_its_end() -> None:
    """Nor do the records that were signed under it."""
    record = release(by=private_key(2), epoch=3, delegation=_delegation())
    with pytest.raises(RecordError, match="ended"):
        ReleaseRecord.verify(record.raw, NOW + 1001)
    with pytest.raises(RecordError, match="ended"):
        Delegation.verify(_delegation().raw, NOW + 1001)


def test_a_delegation_counts_for_its_epoch_and_publisher_only() -> None:
    """A release key cannot raise its own epoch."""
    with pytest.raises(RecordError, match="epoch"):
        release(by=private_key(2), epoch=4, delegation=_delegation(epoch=3))
    stranger = Delegation.sign(
        private_key(5), signer(2).public_key, epoch=3, not_after=NOW + 1000
    )
    with pytest.raises(RecordError, match="publisher"):
        release(by=private_key(2), epoch=3, delegation=stranger)


def test_a_small_order_publisher_is_refused() -> None:
    """Its signatures can be forged by anybody."""
    kind, body, _ = unpack(release().raw)
    fields = unpack(body, text=True)
    fields[0] = (1).to_bytes(32, "little")
    forged = pack([kind, pack(fields), (1).to_bytes(32, "little") + bytes(32)])
    with pytest.raises(RecordError, match="signature"):
        ReleaseRecord.verify(forged, NOW)


def test_a_signature_for_one_kind_serves_no_other() -> None:
    """A delegation's signature cannot make a release record, nor the reverse."""
    delegation = _delegation()
    assert pack([1, *unpack(delegation.raw)[1:]]) != delegation.raw
    with pytest.raises(RecordError):
        ReleaseRecord.verify(delegation.raw, NOW)
    with pytest.raises(RecordError):
        Delegation.verify(release().raw, NOW)


def test_text_in_the_place_of_bytes_is_refused() -> None:
    """A second encoding of the same record would be a second record."""
    kind, body, signature = unpack(release().raw)
    fields = unpack(body, text=True)
    fields[5] = base64.b64encode(fields[5]).decode()
    with pytest.raises(RecordError, match="malformed"):
        ReleaseRecord.peek(pack([kind, pack(fields), signature]))


def test_peek_tells_what_is_claimed() -> None:
    """Without a signature being verified."""
    claim = ReleaseRecord.peek(release(sequence=9).raw)
    assert (claim.name, claim.epoch, claim.sequence) == ("demo", 0, 9)


@given(st.binary(max_size=800))
def test_any_bytes_are_refused_with_a_record_error(raw: bytes) -> None:
    """Hostile bytes raise nothing else."""
    with pytest.raises(RecordError):
        verify_record(raw, NOW)


@given(st.integers(0, 300), st.binary(min_size=1, max_size=4))
def test_mutations_of_a_good_record_are_refused(place: int, change: bytes) -> None:
    """Unless the change changes nothing."""
    good = release().raw
    raw = good[:place] + change + good[place + len(change) :]
    if raw == good:
        return
    with pytest.raises(RecordError):
        verify_record(raw, NOW)


def test_the_key_of_a_record_depends_on_the_network() -> None:
    """A record of one name is kept in one place only."""
    assert release().key(NETWORK) == release(package=key(5)).key(NETWORK)
