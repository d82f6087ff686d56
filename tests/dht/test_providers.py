"""Provider records: nobody can offer in another's name."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import Address, ProviderRecord, RecordError, verify_ed25519
from dht.limits import PROVIDER_SECONDS
from tests.dht.builders import NETWORK, NOW, address, key, provider


@pytest.mark.parametrize("where", [address(1), Address("2001:4860::1", 5000)])
def test_a_record_travels_both_ways(where: Address) -> None:
    """In an announce and in a reply, for both families."""
    record = provider(key(1), 2, where)
    record.verify(NETWORK.tag, NOW, verify_ed25519)
    assert ProviderRecord.unpack(key(1), record.packed) == record
    assert ProviderRecord.from_entry(record.entry, record.public_key, where) == record
    assert record.contact.address == where


@pytest.mark.parametrize(
    "change",
    [
        {"key": key(2)},
        {"address": address(5)},
        {"address": Address(address(1).host, 4748)},
        {"expires_at": int(NOW) + 60},
        {"public_key": key(3)},
    ],
)
def test_no_field_can_be_changed(change: dict) -> None:  # type: ignore[type-arg]
    """The signature covers all of them."""
    record = dataclasses.replace(provider(key(1), 1), **change)
    with pytest.raises(RecordError, match="signature"):
        record.verify(NETWORK.tag, NOW, verify_ed25519)


def test_a_record_holds_in_its_network_only() -> None:
    """The tag is signed too."""
    with pytest.raises(RecordError, match="signature"):
        provider(key(1), 1).verify(b"otherone", NOW, verify_ed25519)


def test_expired_and_too_long_lived_records_are_refused() -> None:
    """Five hours and the clock's error, not more."""
    record = provider(key(1), 1)
    with pytest.raises(RecordError, match="expired"):
        record.verify(NETWORK.tag, NOW + PROVIDER_SECONDS, verify_ed25519)
    with pytest.raises(RecordError, match="too long"):
        record.verify(NETWORK.tag, NOW - 3600, verify_ed25519)


@given(st.binary(max_size=130))
def test_any_bytes_are_a_record_or_an_error(packed: bytes) -> None:
    """Hostile bytes raise `RecordError` only."""
    try:
        record = ProviderRecord.unpack(key(1), packed)
    except RecordError:
        return
    with pytest.raises(RecordError):
        record.verify(NETWORK.tag, NOW, verify_ed25519)
