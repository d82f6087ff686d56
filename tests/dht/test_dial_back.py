"""Dial-back: a verdict by others' word, and nobody to aim at a victim."""

from __future__ import annotations

import pytest

from dht import Address, Reachable
from dht.dial_back import Samples
from dht.dial_back_helper import DialBackHelper, DialBackLimits
from dht.in_flight import Asked
from dht.limits import DIAL_BACKS_PER_HOUR_MAX, DIAL_BACKS_PER_MINUTE_MAX
from dht.tasks import Tasks
from dht.wire import DialBack, DialBackStatus, Request
from tests.dht.builders import HandClock, contact, core

VICTIM = Address("8.8.4.4", 4747)
NONCE = b"nonce---"
PATH = Address("88.1.1.1", 4747).path


def judged(*outcomes: bool) -> Reachable:
    samples = Samples()
    for number, success in enumerate(outcomes):
        samples.add(success=success, by=f"11.{number}.0.1")
    return samples.verdict(1.0).reachable


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ((), Reachable.UNKNOWN),
        ((True, True), Reachable.UNKNOWN),
        ((True, True, True), Reachable.YES),
        ((True, False, True, False, True), Reachable.YES),
        ((False, True, False, False), Reachable.NO),
        ((False, False, True, True), Reachable.UNKNOWN),
    ],
)
def test_three_equal_outcomes_are_a_verdict(outcomes, expected):
    assert judged(*outcomes) is expected


def test_a_verdict_says_whose_word_it_is():
    samples = Samples()
    for host in ("11.1.0.1", "11.2.0.1", "11.3.0.1"):
        samples.add(success=True, by=host)
    samples.add(success=False, by="11.4.0.1")
    assert samples.verdict(7.0).by == ("11.1.0.1", "11.2.0.1", "11.3.0.1")
    assert samples.verdict(7.0).since == 7.0


def test_an_asker_has_twelve_an_hour():
    limits = DialBackLimits()
    given = sum(
        limits.allow(b"asker", f"11.0.{n}.1", 100.0 * n, path=PATH)
        for n in range(DIAL_BACKS_PER_HOUR_MAX + 5)
    )
    assert given == DIAL_BACKS_PER_HOUR_MAX
    assert limits.allow(b"asker", "11.1.0.1", 3601.0, path=PATH)


def test_an_ip_is_dialled_once_a_minute_whoever_asks():
    limits = DialBackLimits()
    assert limits.allow(b"one", VICTIM.host, 0.0, path=PATH)
    assert not limits.allow(b"other", VICTIM.host, 59.0, path=PATH)
    assert limits.allow(b"other", VICTIM.host, 61.0, path=PATH)


def test_a_node_dials_sixty_times_a_minute_in_all():
    limits = DialBackLimits()
    given = 0
    for number in range(1, 200):
        asker = Address(f"{number}.1.1.1", 4747)
        given += limits.allow(asker.source, f"11.0.{number}.1", 0.0, path=asker.path)
    assert given == DIAL_BACKS_PER_MINUTE_MAX


def test_a_network_with_many_addresses_leaves_dial_backs_to_others():
    limits = DialBackLimits()
    for number in range(1000):
        flood = Address(f"2a00:1:1:{number:x}::1", 4747)
        limits.allow(flood.source, flood.host, 0.0, path=flood.path)
    honest = Address("2a00:2::1", 4747)
    assert limits.allow(honest.source, honest.host, 0.0, path=honest.path)


class Bench:
    """A helper whose datagrams and TCP connections are noted instead of made."""

    def __init__(self) -> None:
        self.core = core(1, HandClock())
        self.sent: list[Address] = []
        self.dialled: list[tuple[str, int, bytes]] = []
        self.helper = DialBackHelper(
            self.core,
            self,  # type: ignore[arg-type]
            lambda _, to: self.sent.append(to),
            tasks=Tasks(),
        )
        self.helper.dial_tcp = lambda *what: self.dialled.append(what)
        self.contact = contact(2)
        self.core.tables[4].add(self.contact, 0.0)

    def probe_datagram(self, to: Address, nonce: bytes) -> bytes:
        return nonce

    def ask(self, body: DialBack, *, by=None, echoed: bool = True) -> DialBackStatus:
        sender = by or self.contact
        request = Request(1, 8, b"transact", sender.public_key, 0, b"", body)
        asked = Asked(request, sender, 1000.0, echoed=echoed)
        return DialBackStatus(self.helper.asked(body, asked).status)


@pytest.fixture
def bench():
    return Bench()


def order(target: Address, port: int = 4747) -> DialBack:
    return DialBack(target.packed, port, NONCE)


def test_a_contact_dials_udp_and_tcp(bench):
    assert bench.ask(order(VICTIM)) is DialBackStatus.STARTED
    assert bench.sent == [VICTIM]
    assert bench.dialled == [(VICTIM.host, 4747, NONCE)]


@pytest.mark.parametrize(
    "body",
    [
        order(Address("192.168.1.1", 4747)),
        order(Address("127.0.0.1", 4747)),
        order(Address("8.8.4.4", 53)),
        order(VICTIM, port=22),
        DialBack(b"\x04\x01", 4747, NONCE),
    ],
)
def test_private_addresses_and_low_ports_are_never_dialled(bench, body):
    assert bench.ask(body) is DialBackStatus.REFUSED
    assert bench.sent == []
    assert bench.dialled == []


def test_strangers_and_unproven_addresses_have_nothing_dialled(bench):
    stranger = contact(9)
    assert bench.ask(order(VICTIM), by=stranger) is DialBackStatus.REFUSED
    assert bench.ask(order(VICTIM), echoed=False) is DialBackStatus.REFUSED
    assert bench.sent == []


def test_a_contact_cannot_scan_ports_of_an_ip(bench):
    ports = range(2000, 2100)
    asked = [bench.ask(order(VICTIM, port)) for port in ports]
    assert asked.count(DialBackStatus.STARTED) == 1
    assert len(bench.dialled) == 1


def test_an_asker_names_no_address_of_its_own(bench):
    """The helper hands on the IP that it saw, never one that it was told."""
    assert bench.ask(DialBack(b"", 4747, NONCE)) is DialBackStatus.REFUSED
    assert bench.sent == []
