"""Provider records: nobody can offer in another's name."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import Address, ProviderRecord, RecordError, verify_ed25519
from dht.limits import PROVIDER_SECONDS
from dht.providers import NodeRecord
from tests.dht.builders import (
    NETWORK,
    NOW,
    address,
    contact,
    key,
    provider,
    signer,
)


@pytest.mark.parametrize("where", [address(1), Address("2001:4860::1", 5000)])
def test_a_record_travels_both_ways(where: Address) -> None:
    """Node record and slice, one after the other, for both families."""
    record = provider(key(1), 2, where)
    record.verify(NETWORK.tag, NOW, verify_ed25519)
    assert ProviderRecord.unpack(key(1), record.packed) == record
    assert record.contact.address == where
    other, rest = NodeRecord.unpack(record.node.packed + b"rest")
    assert (other, rest) == (record.node, b"rest")


def test_introducers_travel_and_are_signed() -> None:
    """As many as are named, of both families."""
    named = (contact(7), contact(8, Address("2a00::8", 4747)))
    node = NodeRecord.sign(
        signer(2),
        tag=NETWORK.tag,
        address=address(2),
        expires_at=NOW + 60,
        introducers=named,
    )
    read, rest = NodeRecord.unpack(node.packed)
    assert (read, rest) == (node, b"")
    read.verify(NETWORK.tag, NOW, verify_ed25519)
    fewer = dataclasses.replace(node, introducers=named[:1])
    with pytest.raises(RecordError, match="signature"):
        fewer.verify(NETWORK.tag, NOW, verify_ed25519)


@pytest.mark.parametrize(
    "change",
    [
        {"address": address(5)},
        {"address": Address(address(1).host, 4748)},
        {"expires_at": int(NOW) + 60},
        {"public_key": key(3)},
    ],
)
def test_no_field_can_be_changed(change: dict) -> None:  # type: ignore[type-arg]
    """The signature covers all of them."""
    record = provider(key(1), 1)
    node = dataclasses.replace(record.node, **change)
    with pytest.raises(RecordError, match="signature"):
        node.verify(NETWORK.tag, NOW, verify_ed25519)
    with pytest.raises(RecordError, match="signature"):
        dataclasses.replace(record, node=node).verify(NETWORK.tag, NOW, verify_ed25519)


def test_a_record_offers_the_keys_of_its_slice_only() -> None:
    """Whatever key a keeper says that it is for."""
    record = dataclasses.replace(provider(key(1), 1), key=key(2))
    with pytest.raises(RecordError, match="list"):
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


@given(st.binary(max_size=400))
def test_any_bytes_are_a_record_or_an_error(packed: bytes) -> None:
    """Hostile bytes raise `RecordError` only."""
    try:
        record = ProviderRecord.unpack(key(1), packed)
    except RecordError:
        return
    with pytest.raises(RecordError):
        record.verify(NETWORK.tag, NOW, verify_ed25519)
