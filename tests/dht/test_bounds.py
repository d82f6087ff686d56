"""Bookkeeping: fair shares, allowances, memory of others, the waiting line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import Address
from dht.bounded import TtlSet
from dht.budgets import TokenBuckets
from dht.fair_queue import FairQueue
from dht.limits import (
    DEAD_SECONDS,
    PEERS_REMEMBERED_MAX,
    PROOF_SECONDS,
    SOFT_TIMEOUT_SECONDS,
    SOFT_TIMEOUT_SECONDS_MAX,
    SOFT_TIMEOUT_SECONDS_MIN,
    TOKEN_USE_SECONDS,
)
from dht.peer_memory import PeerMemory, RoundTrips, UnresponsivePeers
from tests.dht.builders import address, contact


def test_a_token_bucket_refills_over_time() -> None:
    """A burst, then a rate, for each name by itself."""
    buckets = TokenBuckets(2.0, 3.0)
    assert [buckets.consume(b"a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.consume(b"b", 0.0)
    assert buckets.consume(b"a", 0.5)
    assert not buckets.consume(b"a", 0.5)


def test_token_buckets_remember_a_bounded_number_of_names() -> None:
    """A flood of names costs no memory."""
    buckets = TokenBuckets(1.0, 1.0)
    for number in range(10_000):
        buckets.consume(b"%d" % number, 0.0)
    assert len(buckets._levels) == 4096


def test_what_is_remembered_is_forgotten_in_time_and_in_number() -> None:
    """Both are bounded."""
    remembered: TtlSet[bytes] = TtlSet(60.0, 5)
    for number in range(9):
        remembered.add(b"%d" % number, float(number))
    assert len(remembered) == 5
    assert remembered.has(b"8", 60.0)
    assert not remembered.has(b"8", 68.0)
    assert not remembered.has(b"1", 10.0)
    remembered.discard(b"8")
    assert not remembered.has(b"8", 10.0)


def test_the_soft_timeout_follows_the_round_trips() -> None:
    """From a first guess, between a floor and a ceiling."""
    trips = RoundTrips()
    assert trips.soft_timeout == SOFT_TIMEOUT_SECONDS
    for _ in range(100):
        trips.add(0.001)
    assert trips.soft_timeout == SOFT_TIMEOUT_SECONDS_MIN
    for _ in range(100):
        trips.add(5.0)
    assert trips.soft_timeout == SOFT_TIMEOUT_SECONDS_MAX


def test_silence_is_remembered_for_a_minute() -> None:
    """Unless the address answers before."""
    unresponsive = UnresponsivePeers()
    unresponsive.add(address(1), 0.0)
    unresponsive.add(address(2), 0.0)
    unresponsive.discard(address(2))
    assert unresponsive.has(contact(1, address(1)), DEAD_SECONDS - 1)
    assert not unresponsive.has(contact(1, address(1)), DEAD_SECONDS + 1)
    assert not unresponsive.has(contact(1, address(2)), 1.0)


def test_a_host_with_three_silent_ports_is_left_alone() -> None:
    """A victim named in 10,000 false contacts gets a handful of requests."""
    unresponsive, tried = UnresponsivePeers(), 0
    for number in range(10_000):
        victim = Address("99.1.1.1", 2000 + number)
        if not unresponsive.has(contact(1, victim), 0.0):
            tried += 1
            unresponsive.add(victim, 0.0)
    assert tried <= 3
    assert not unresponsive.has(contact(1, Address("99.1.1.2", 2000)), 0.0)


def test_silent_ports_of_the_own_machine_do_not_count_together() -> None:
    """On loopback every port is another node."""
    unresponsive = UnresponsivePeers()
    for number in range(50):
        unresponsive.add(Address("127.0.0.1", 2000 + number), 0.0)
    assert not unresponsive.has(contact(1, Address("127.0.0.1", 3000)), 0.0)


def test_tokens_and_proofs_end_and_are_bounded() -> None:
    """Each in its time."""
    known = PeerMemory()
    known.remember_token(address(1), b"12345678", 0.0)
    known.remember_proof(contact(1), 0.0)
    assert known.token(address(1), TOKEN_USE_SECONDS - 1) == b"12345678"
    assert known.token(address(1), TOKEN_USE_SECONDS + 1) == b""
    assert known.is_proven(contact(1), PROOF_SECONDS - 1)
    assert not known.is_proven(contact(1), PROOF_SECONDS + 1)
    assert not known.is_proven(contact(1, address(2)), 1.0)
    for number in range(PEERS_REMEMBERED_MAX + 50):
        known.remember_token(Address("10.0.0.1", 2000 + number), b"12345678", 0.0)
        known.remember_proof(contact(1, Address("10.0.0.1", 2000 + number)), 0.0)
    assert len(known._tokens) == len(known._proven) == PEERS_REMEMBERED_MAX
    known.expire(PROOF_SECONDS + 1)
    assert not known._tokens
    assert not known._proven


def test_sources_take_turns() -> None:
    """Who sends a hundred datagrams does not delay who sends one."""
    line = FairQueue()
    for number in range(100):
        line.put(b"flood %d" % number, address(1))
    line.put(b"honest", address(2))
    first_two = [line.get(), line.get()]
    assert (b"honest", address(2)) in first_two
    assert len(line) == 99


def test_a_full_line_drops_from_the_source_that_has_most() -> None:
    """And never grows."""
    line = FairQueue(limit=10)
    for number in range(50):
        line.put(b"flood %d" % number, address(1))
    for number in range(4):
        line.put(b"honest %d" % number, address(2 + number))
    assert len(line) == 10
    assert line.dropped == 44
    waiting = [line.get() for _ in range(10)]
    assert sum(1 for each in waiting if each and each[0].startswith(b"honest")) == 4
    assert line.get() is None


@pytest.mark.parametrize("limit", [1, 3])
@given(steps=st.lists(st.integers(0, 4), max_size=60))
def test_the_line_keeps_its_books(limit: int, steps: list[int]) -> None:
    """Whatever comes and goes."""
    line = FairQueue(limit=limit)
    for step in steps:
        if step == 4:
            line.get()
        else:
            line.put(b"x", address(step))
        assert len(line) <= limit
        assert len(line) == sum(len(each) for each in line._lines.values())
