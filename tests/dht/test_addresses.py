"""Addresses are canonical, or refused with one sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import Address, AddressError
from dht.addresses import Scope, source_address, unpack_address
from dht.errors import DatagramError


@pytest.mark.parametrize(
    "text", ["1.2.3.4:5", "[::1]:5", "[2001:db8::1]:65535", "127.0.0.1:0"]
)
def test_an_address_is_read_and_printed_alike(text: str) -> None:
    """What parse reads, str writes."""
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:x",
        "1.2.3.4:65536",
        "1.2.3.4:-1",
        "1.2.3.4:+1",
        "1.2.3.4:٣",
        "::1:5",
        "[1.2.3.4]:5",
        "localhost:5",
        "[fe80::1%eth0]:5",
        "01.2.3.4:5",
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(text: str) -> None:
    """The error is a ValueError and reads as a sentence."""
    with pytest.raises(ValueError, match=r"\.$") as caught:
        Address.parse(text)
    assert isinstance(caught.value, AddressError)


def test_an_ipv6_host_is_brought_to_its_short_form() -> None:
    """Two ways to write an address are one address."""
    assert Address("2001:0db8:0:0::1", 5) == Address("2001:db8::1", 5)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_packed_addresses_are_read_back(ip: object, port: int) -> None:
    """Packing loses nothing, for every IP address there is."""
    address = Address(str(ip), port)
    assert unpack_address(address.packed) == address


@given(st.binary(max_size=24))
def test_any_bytes_are_an_address_or_a_wire_error(packed: bytes) -> None:
    """No other error comes of hostile bytes."""
    try:
        address = unpack_address(packed)
    except DatagramError:
        return
    assert address.packed == packed


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("127.0.0.1", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("::ffff:8.8.8.8", Scope.LOOPBACK),
        ("10.1.2.3", Scope.LOCAL),
        ("192.168.0.1", Scope.LOCAL),
        ("169.254.1.1", Scope.LOCAL),
        ("100.64.0.1", Scope.LOCAL),
        ("fe80::1", Scope.LOCAL),
        ("fd00::1", Scope.LOCAL),
        ("8.8.8.8", Scope.PUBLIC),
        ("2001:4860:4860::8888", Scope.PUBLIC),
    ],
)
def test_scopes(host: str, scope: Scope) -> None:
    """Loopback, private and public ranges are told apart."""
    assert Address(host, 4747).scope is scope


def test_only_public_addresses_have_a_group() -> None:
    """A LAN is one /24 and therefore exempt from diversity."""
    assert Address("8.8.8.8", 1).group == Address("8.8.8.99", 2).group is not None
    assert Address("8.8.9.8", 1).group != Address("8.8.8.8", 1).group
    assert Address("2001:4860::1", 1).group == Address("2001:4860::2", 1).group
    assert Address("127.0.0.1", 1).group is None
    assert Address("192.168.1.1", 1).group is None


def test_nobody_is_believed_about_addresses_nearer_than_their_own() -> None:
    """A public node cannot send us to our own machine or network."""
    public, lan, here = (Address(h, 4747) for h in ("8.8.8.8", "10.0.0.1", "127.0.0.1"))
    assert not public.believes(lan)
    assert not public.believes(here)
    assert not lan.believes(here)
    assert lan.believes(public)
    assert here.believes(lan)
    assert here.believes(here)


@pytest.mark.parametrize(
    "where", ["8.8.8.8:53", "0.0.0.0:4747", "224.0.0.1:4747", "255.255.255.255:4747"]
)
def test_some_addresses_are_never_dialled(where: str) -> None:
    """Ports below 1024, multicast and broadcast are left alone."""
    assert not Address.parse(where).dialable


def test_a_link_local_source_with_a_zone_cannot_be_answered() -> None:
    """Its zone means nothing elsewhere."""
    assert source_address("fe80::1%eth0", 4747) is None
