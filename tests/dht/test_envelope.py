"""Prefixes: a public tag tells networks apart, a private MAC keeps strangers out."""

from __future__ import annotations

import random

import pytest

from dht import Network
from dht.envelope import PrivateEnvelope, ReplayWindow, envelope_for
from dht.errors import DatagramError
from dht.limits import DATAGRAM_BYTES_MAX, REPLAY_MACS_MAX
from tests.dht.builders import HandClock

SECRET = Network("lab", b"s" * 32)


def _private(clock: HandClock, network: Network = SECRET, seed: int = 1):  # type: ignore[no-untyped-def]
    return PrivateEnvelope(network, clock, random.Random(seed))


def test_a_public_datagram_is_tag_and_message() -> None:
    """And is refused in another network."""
    one = envelope_for(Network("one"), HandClock(), random.Random(1))
    two = envelope_for(Network("two"), HandClock(), random.Random(1))
    assert one.open(one.wrap(b"message")) == b"message"
    with pytest.raises(DatagramError, match="network"):
        two.open(one.wrap(b"message"))
    with pytest.raises(DatagramError, match="long"):
        one.open(one.wrap(bytes(DATAGRAM_BYTES_MAX)))


def test_a_private_datagram_is_opened_by_members_only() -> None:
    """Another secret, another name or no MAC at all: refused."""
    clock = HandClock()
    datagram = _private(clock).wrap(b"message")
    assert _private(clock, seed=2).open(datagram) == b"message"
    for other in (Network("lab", b"t" * 32), Network("lab2", b"s" * 32)):
        with pytest.raises(DatagramError, match="mac"):
            _private(clock, other).open(datagram)
    with pytest.raises(DatagramError, match="short"):
        _private(clock).open(b"short")


def test_one_changed_bit_is_refused() -> None:
    """The MAC covers time, nonce and message."""
    clock = HandClock()
    datagram = bytearray(_private(clock).wrap(b"message"))
    for place in (0, 16, 20, 24, -1):
        changed = bytearray(datagram)
        changed[place] ^= 1
        with pytest.raises(DatagramError, match="mac"):
            _private(clock).open(bytes(changed))


def test_a_replay_is_dropped_and_the_same_message_may_be_sent_again() -> None:
    """A retransmission within the same second has another nonce."""
    clock = HandClock()
    sender, receiver = _private(clock), _private(clock, seed=2)
    first, second = sender.wrap(b"message"), sender.wrap(b"message")
    assert receiver.open(first) == receiver.open(second) == b"message"
    with pytest.raises(DatagramError, match="replay"):
        receiver.open(first)


@pytest.mark.parametrize("seconds", [-121, 121, 1e6])
def test_what_is_too_old_or_too_new_is_dropped(seconds: float) -> None:
    """Within 120 seconds a wrong clock is tolerated."""
    clock = HandClock()
    datagram = _private(clock).wrap(b"message")
    clock.move(seconds)
    with pytest.raises(DatagramError, match="time"):
        _private(clock).open(datagram)


def test_the_replay_window_is_bounded_and_forgets_no_replay_into_acceptance() -> None:
    """What falls out of it is refused from then on."""
    window = ReplayWindow()
    for number in range(REPLAY_MACS_MAX + 10):
        window.is_new(number.to_bytes(16, "big"), 1000 + number % 3, 1001.0)
        assert window._count <= REPLAY_MACS_MAX
    assert not window.is_new((0).to_bytes(16, "big"), 1000, 1001.0)
    assert not window.is_new(b"never seen, stamped", 1000, 1001.0)
    assert not window.is_new((1).to_bytes(16, "big"), 1001, 1001.0)
    assert window.is_new(b"a later second", 1002, 1001.0)
