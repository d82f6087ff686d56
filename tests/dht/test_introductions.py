"""Introductions: calls are passed on, and nobody can be flooded by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dht import Address, CalledBy, Contact, Way
from dht.in_flight import Asked, ProvenReply
from dht.introductions import CallLimits, Introducer, Introductions, Reservations
from dht.limits import (
    CALLS_PER_MINUTE_MAX,
    CALLS_PER_SOURCE_PER_MINUTE_MAX,
    RESERVATION_SECONDS,
    RESERVATIONS_MAX,
    RESERVATIONS_PER_GROUP_MAX,
)
from dht.tasks import Tasks
from dht.wire import (
    Call,
    Called,
    CallStatus,
    CallTaken,
    Introduced,
    Ping,
    Pong,
    Request,
    Reserve,
)
from tests.dht.builders import HandClock, contact, core

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = b"call token here-"
CALLER = Address("88.1.1.1", 4747)


class Bench:
    """Introductions whose requests are noted instead of sent."""

    def __init__(self) -> None:
        self.core = core(1, HandClock())
        self.core.reach.judge(4, True)
        self.asked: list[tuple[object, object]] = []
        self.calls: list[CalledBy] = []
        self.introductions = Introductions(self.core, self, tasks=Tasks())  # type: ignore[arg-type]
        self.introductions.tcp_port = 4747
        self.introductions.on_called = self._called

    def ask(self, to: object, body: object, done: Callable[..., None]) -> None:
        self.asked.append((to, body))
        self.answer = done

    def _called(self, call: CalledBy) -> bool:
        self.calls.append(call)
        return True

    def send(self, body, sender=None, *, proven=True, echoed=True):
        sender = sender or contact(77, CALLER)
        if proven:
            self.core.peer_memory.remember_proof(sender, 1000.0)
        request = Request(1, 9, b"transact", sender.public_key, 0, b"", body)
        asked = Asked(request, sender, 1000.0, echoed=echoed)
        return CallStatus(self.introductions.asked(body, asked).status)


@pytest.fixture
def bench():
    return Bench()


def call(way: int = Way.REVERSE, port: int = 4747) -> Call:
    return Call(contact(5).public_key, port, TOKEN, way)


def test_a_call_is_passed_on_to_who_has_a_reservation(bench):
    assert bench.send(call()) is CallStatus.UNKNOWN
    assert bench.send(Reserve(), contact(5)) is CallStatus.DONE
    assert bench.send(call()) is CallStatus.DONE
    assert bench.asked == [
        (contact(5), Called(CALLER.packed, 4747, TOKEN, Way.REVERSE))
    ]


def test_a_reservation_needs_a_proven_key(bench):
    """Else anybody could take another's calls."""
    assert bench.send(Reserve(), contact(5), proven=False) is CallStatus.UNPROVEN
    assert bench.send(call()) is CallStatus.UNKNOWN


def test_a_node_that_cannot_be_dialled_introduces_nobody(bench):
    bench.introductions.tcp_port = 0
    assert bench.send(Reserve(), contact(5)) is CallStatus.REFUSED


def test_the_address_that_is_called_back_has_echoed_a_token(bench):
    bench.send(Reserve(), contact(5))
    assert bench.send(call(), echoed=False) is CallStatus.REFUSED
    assert bench.send(call(port=22)) is CallStatus.REFUSED
    assert bench.asked == []


def test_an_introducer_is_no_flooder(bench):
    bench.send(Reserve(), contact(5))
    passed = [bench.send(call()) for _ in range(100)]
    assert passed.count(CallStatus.DONE) == CALLS_PER_SOURCE_PER_MINUTE_MAX


def test_calls_have_a_total():
    limits = CallLimits()
    sources = [Address(f"{n % 200 + 1}.{n}.1.1", 4747) for n in range(250)]
    passed = [limits.allow(source, 0.0) for source in sources]
    assert sum(passed) == CALLS_PER_MINUTE_MAX
    assert limits.allow(sources[-1], 61.0)


def test_a_network_with_many_addresses_leaves_calls_to_others():
    limits = CallLimits()
    for number in range(1000):
        limits.allow(Address(f"2a00:1:1:{number:x}::1", 4747), 0.0)
    assert limits.allow(CALLER, 0.0)
    assert limits.allow(Address("2a00:2::1", 4747), 0.0)


@pytest.mark.parametrize("status", [CallStatus.REFUSED, CallStatus.DONE, None])
def test_a_call_that_the_called_node_refuses_is_taken_back(bench, status):
    bench.send(Reserve(), contact(5))
    bench.send(call())
    refused = []
    bench.introductions.on_refused = refused.append
    answer = ProvenReply(contact(5), CallTaken(status), 0, CALLER)
    bench.answer(answer if status is not None else None)
    assert refused == ([] if status is CallStatus.DONE else [TOKEN])


async def test_an_introducer_calls_the_node_itself(bench):
    """It asks nobody else, least of all its own address."""
    bench.send(Reserve(), contact(5))
    myself = Contact(bench.core.signer.public_key, Address("88.9.9.9", 4747))
    place = {"port": 4747, "token": TOKEN}
    call = bench.introductions.call
    target = contact(5).public_key
    assert await call(target, [myself], way=Way.REVERSE, **place) == (myself, 4747)
    assert bench.asked == [
        (contact(5), Called(myself.address.packed, 4747, TOKEN, Way.REVERSE))
    ]
    assert await call(target, [myself], way=Way.PUNCH, **place) is None
    assert len(bench.asked) == 1


async def test_an_introducer_that_does_not_answer_is_passed_over(bench):
    dead, alive = contact(7), contact(8)

    def ask(to, body, done, late=None):
        if to == dead:
            late()
        else:
            reply = Introduced(CallStatus.DONE, 4747)
            done(
                ProvenReply(to, Pong() if isinstance(body, Ping) else reply, 0, CALLER)
            )

    bench.ask = ask
    found = await bench.introductions.call(
        contact(5).public_key, [dead, alive], port=4747, token=TOKEN, way=Way.REVERSE
    )
    assert found == (alive, 4747)


def test_a_relay_that_is_closed_passes_no_such_call_on(bench):
    bench.send(Reserve(), contact(5))
    assert bench.send(call(Way.RELAY)) is CallStatus.REFUSED
    bench.introductions.expect_relay = lambda token: token == TOKEN
    assert bench.send(call(Way.RELAY)) is CallStatus.DONE


def called(caller: Address = CALLER, port: int = 4747) -> Called:
    return Called(caller.packed, port, TOKEN, Way.REVERSE)


def test_only_an_introducer_that_was_chosen_is_obeyed(bench):
    assert bench.send(called(), contact(6)) is CallStatus.REFUSED
    bench.introductions._introducers[contact(6).public_key] = Introducer(
        contact(6), 4747, False
    )
    assert bench.send(called(), contact(6)) is CallStatus.DONE
    assert bench.send(called(), contact(7)) is CallStatus.REFUSED
    (one,) = bench.calls
    assert (one.caller, one.port, one.token) == (CALLER, 4747, TOKEN)


@pytest.mark.parametrize(
    "body",
    [
        called(Address("192.168.1.1", 4747)),
        called(Address("127.0.0.1", 4747)),
        called(port=25),
        Called(b"\x04\x01", 4747, TOKEN, Way.REVERSE),
    ],
)
def test_a_lying_introducer_aims_at_no_private_address_and_no_low_port(bench, body):
    bench.introductions._introducers[contact(6).public_key] = Introducer(
        contact(6), 4747, False
    )
    assert bench.send(body, contact(6)) is CallStatus.REFUSED
    assert bench.calls == []


def test_reservations_are_bounded_in_all_and_for_one_network():
    reservations = Reservations()
    same = [contact(n, Address(f"88.1.1.{n}", 4747)) for n in range(1, 20)]
    kept = [reservations.put(one, 0.0) for one in same]
    assert sum(kept) == RESERVATIONS_PER_GROUP_MAX
    for number in range(2, 200):
        reservations.put(contact(number, Address(f"88.{number}.2.1", 4747)), 0.0)
    assert len(reservations) == RESERVATIONS_MAX
    assert reservations.put(same[0], 0.0)


def test_a_network_with_many_addresses_takes_no_reservation_from_others():
    """65,536 /64s of one /48 come first; honest nodes come later and stay."""
    reservations = Reservations()
    for number in range(1000):
        host = f"2a00:1:1:{number:x}::1"
        reservations.put(contact(number, Address(host, 4747)), 0.0)
    assert len(reservations) == RESERVATIONS_MAX
    honest = [contact(5000 + n, Address(f"88.{n}.1.1", 4747)) for n in range(30)]
    assert all(reservations.put(one, 0.0) for one in honest)
    for number in range(1000, 2000):
        host = f"2a00:1:1:{number:x}::1"
        reservations.put(contact(number, Address(host, 4747)), 1.0)
    assert all(reservations.find(one.public_key, 2.0) for one in honest)


def test_a_reservation_ends():
    reservations = Reservations()
    reservations.put(contact(5), 0.0)
    assert reservations.find(contact(5).public_key, 1.0) == contact(5)
    assert reservations.find(contact(5).public_key, RESERVATION_SECONDS + 1) is None
