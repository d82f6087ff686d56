"""Prefixes: a public tag tells networks apart, a private MAC keeps strangers out."""

from __future__ import annotations

import random

import pytest

from dht import Network
from dht.envelope import (
    DatagramEnvelope,
    PrivateEnvelope,
    ReplayWindow,
    envelope_for,
)
from dht.errors import DatagramError
from dht.limits import DATAGRAM_BYTES_MAX
from tests.dht.builders import HandClock, address, key

SECRET = Network("lab", b"s" * 32)


ALICE, BOB, CAROL = key(1), key(2), key(3)
THERE = address(1)


def _private(
    clock: HandClock, network: Network = SECRET, own_key: bytes = BOB
) -> PrivateEnvelope:
    return PrivateEnvelope(network, own_key, clock=clock, rng=random.Random(own_key))


def _public(name: str) -> DatagramEnvelope:
    return envelope_for(Network(name), BOB, clock=HandClock(), rng=random.Random(1))


def test_a_public_datagram_is_tag_and_message() -> None:
    """And is refused in another network."""
    one, two = _public("one"), _public("two")
    assert one.open(one.wrap(b"message", BOB), THERE) == (b"message", True)
    with pytest.raises(DatagramError, match="network"):
        two.open(one.wrap(b"message", BOB), THERE)
    with pytest.raises(DatagramError, match="long"):
        one.open(one.wrap(bytes(DATAGRAM_BYTES_MAX), BOB), THERE)


def test_a_private_datagram_is_opened_by_members_only() -> None:
    """Another secret, another name or no MAC at all: refused."""
    clock = HandClock()
    datagram = _private(clock, own_key=ALICE).wrap(b"message", BOB)
    assert _private(clock).open(datagram, THERE) == (b"message", True)
    for other in (Network("lab", b"t" * 32), Network("lab2", b"s" * 32)):
        with pytest.raises(DatagramError, match="mac"):
            _private(clock, other).open(datagram, THERE)
    with pytest.raises(DatagramError, match="short"):
        _private(clock).open(b"short", THERE)


def test_a_private_datagram_is_opened_by_its_receiver_only() -> None:
    """What was caught on its way to Bob says nothing to Carol."""
    clock = HandClock()
    datagram = _private(clock, own_key=ALICE).wrap(b"message", BOB)
    with pytest.raises(DatagramError, match="mac"):
        _private(clock, own_key=CAROL).open(datagram, THERE)


def test_a_datagram_to_an_unknown_receiver_says_so() -> None:
    """Only a first ping may be such."""
    clock = HandClock()
    datagram = _private(clock, own_key=ALICE).wrap(b"message", None)
    assert _private(clock).open(datagram, THERE) == (b"message", False)


def test_one_changed_bit_is_refused() -> None:
    """The MAC covers time, nonce and message."""
    clock = HandClock()
    datagram = bytearray(_private(clock).wrap(b"message", BOB))
    for place in (0, 16, 20, 24, -1):
        changed = bytearray(datagram)
        changed[place] ^= 1
        with pytest.raises(DatagramError, match="mac"):
            _private(clock).open(bytes(changed), THERE)


def test_a_replay_is_dropped_and_the_same_message_may_be_sent_again() -> None:
    """A retransmission within the same second has another nonce."""
    clock = HandClock()
    sender, receiver = _private(clock, own_key=ALICE), _private(clock)
    first, second = sender.wrap(b"message", BOB), sender.wrap(b"message", BOB)
    assert receiver.open(first, THERE) == receiver.open(second, THERE)
    for source in (THERE, address(2)):
        with pytest.raises(DatagramError, match="replay"):
            receiver.open(first, source)


@pytest.mark.parametrize("seconds", [-121, 121, 1e6])
def test_what_is_too_old_or_too_new_is_dropped(seconds: float) -> None:
    """Within 120 seconds a wrong clock is tolerated."""
    clock = HandClock()
    datagram = _private(clock).wrap(b"message", BOB)
    clock.move(seconds)
    with pytest.raises(DatagramError, match="time"):
        _private(clock).open(datagram, THERE)


def test_the_replay_window_is_bounded_and_forgets_no_replay_into_acceptance() -> None:
    """What falls out of it is refused from then on."""
    window = ReplayWindow(3000)
    for number in range(3010):
        mac = number.to_bytes(16, "big")
        window.is_new(mac, 1000 + number % 3, source=THERE, now=1001.0)
        assert len(window) <= 3000
    for mac, stamp in ((0, 1000), (3, 1000), (1, 1001)):
        mac_bytes = mac.to_bytes(16, "big")
        assert not window.is_new(mac_bytes, stamp, source=THERE, now=1001.0)
    assert not window.is_new(b"never seen", 1000, source=THERE, now=1001.0)
    assert window.is_new(b"a later second", 1002, source=THERE, now=1001.0)


@pytest.mark.parametrize("stamp", [1000, 1119])
def test_a_member_that_fills_the_replay_window_shuts_out_itself_alone(
    stamp: int,
) -> None:
    """Whatever times its datagrams carry, those of the future above all."""
    window = ReplayWindow(1000)
    assert window.is_new(b"honest 1", 1000, source=address(2), now=1000.0)
    for number in range(5000):
        mac = number.to_bytes(16, "big")
        window.is_new(mac, stamp - number % 2, source=THERE, now=1000.0)
    assert len(window) <= 1000
    assert not window.is_new(b"honest 1", 1000, source=address(2), now=1000.0)
    for number in range(50):
        mac = b"honest again %d" % number
        assert window.is_new(mac, 1000, source=address(2), now=1001.0)


def test_the_replay_window_forgets_what_is_out_of_it() -> None:
    """Nothing stays for ever."""
    window = ReplayWindow()
    for number in range(100):
        assert window.is_new(b"%d" % number, 1000, source=address(number), now=1000.0)
    assert window.is_new(b"later", 1130, source=THERE, now=1130.0)
    assert len(window) == 1
