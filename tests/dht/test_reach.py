"""Reach: what others see of us, and whether they can ask us."""

from __future__ import annotations

from dht import Address
from dht.limits import SENT_TO_MEMORY_SECONDS
from dht.reach import Observed, UdpReach
from tests.dht.builders import address

ME = Address("77.1.1.1", 4747)
NATTED = Address("77.9.9.9", 61000)
LAN = Address("192.168.1.5", 4747)


def reach(read_only: bool | None = None, own: str = ME.host) -> UdpReach:
    return UdpReach(read_only=read_only, is_own=lambda host: host == own)


def test_in_private_ranges_a_node_is_reachable_at_once() -> None:
    """A network on a desk works without waiting for anybody's report."""
    assert not reach().is_read_only(LAN)
    assert not reach().is_read_only(Address("127.0.0.1", 4747))
    assert reach().is_read_only(address(1))


def test_a_node_that_is_seen_at_its_own_address_is_reachable() -> None:
    """No NAT lies between."""
    mine = reach()
    mine.report(ME, address(1))
    assert not mine.is_read_only(address(2))


def test_a_node_behind_a_nat_stays_read_only_until_it_is_asked_unasked() -> None:
    """Only a request from a host it never sent to shows a way in."""
    mine = reach()
    mine.sent(address(1), 0.0)
    mine.report(NATTED, address(1))
    assert mine.is_read_only(address(2))
    assert mine.needs_probe(4)
    mine.received(address(1), 1.0)
    mine.received(LAN, 1.0)
    assert mine.is_read_only(address(2))
    mine.received(address(3), 2.0)
    assert not mine.is_read_only(address(2))
    assert not mine.needs_probe(4)


def test_a_host_is_forgotten_after_ten_minutes() -> None:
    """The hole in the NAT has closed by then."""
    mine = reach()
    mine.sent(address(1), 0.0)
    mine.received(address(1), SENT_TO_MEMORY_SECONDS + 1)
    assert not mine.is_read_only(address(2))


def test_what_the_user_says_holds() -> None:
    """Either way, everywhere."""
    assert reach(read_only=True).is_read_only(LAN)
    assert not reach(read_only=False).is_read_only(address(1))


def test_one_liar_does_not_change_what_most_report() -> None:
    """And its own report contradicts theirs."""
    mine = reach()
    for number in range(5):
        assert not mine.contradicts(ME, address(number))
        mine.report(ME, address(number))
    assert mine.contradicts(NATTED, address(9))
    mine.report(NATTED, address(9))
    assert mine.observed[4].address() == ME


def test_three_reports_make_a_majority() -> None:
    """Before that nobody is refused."""
    observed = Observed()
    for number in range(2):
        observed.report(ME, address(number))
    assert not observed.contradicts(NATTED, address(9))
    observed.report(ME, address(2))
    assert observed.contradicts(NATTED, address(9))


def test_one_group_has_one_voice() -> None:
    """Fifty nodes of one /24 cannot outvote three others."""
    observed = Observed()
    for number in range(50):
        observed.report(NATTED, Address(f"99.1.1.{number + 1}", 4747))
    for number in range(3):
        observed.report(ME, address(number))
    assert observed.address() == ME
    assert not observed.contradicts(ME, address(5))


def test_a_new_address_wins_in_time() -> None:
    """After the provider gave us another IP, all agree on it soon."""
    observed = Observed()
    for number in range(16):
        observed.report(ME, address(number))
    for number in range(16):
        observed.report(NATTED, address(100 + number))
    assert observed.address() == NATTED
    assert not observed.contradicts(NATTED, address(300))


def test_an_address_is_signed_only_where_observers_agree_on_it() -> None:
    """One liar, two of three, or a quarter of many move nothing."""
    mine = reach(own="10.0.0.1")
    assert not mine.may_sign(ME, address(1))
    mine.report(ME, address(1))
    assert mine.may_sign(ME, address(1))
    assert not mine.may_sign(NATTED, address(1))
    mine.report(NATTED, address(2))
    assert not mine.may_sign(NATTED, address(2))
    mine.report(ME, address(3))
    assert mine.may_sign(ME, address(3))
    assert not mine.may_sign(NATTED, address(2))
    for number in range(4, 14):
        mine.report(ME, address(number))
    mine.report(NATTED, address(14))
    assert not mine.may_sign(NATTED, address(14))
    assert mine.may_sign(ME, address(14))


def test_a_machines_own_address_needs_no_observers() -> None:
    """On a LAN, and for a public host without NAT."""
    mine = reach(own=ME.host)
    assert mine.may_sign(Address(ME.host, 9999), address(1))
    assert not mine.may_sign(NATTED, address(1))


def test_two_addresses_of_one_node_can_both_be_agreed_on() -> None:
    """A NAT with several addresses shows one to some and another to others."""
    mine = reach(own="10.0.0.1")
    for number in range(10):
        mine.report(ME if number % 2 else NATTED, address(number))
    assert mine.may_sign(ME, address(1))
    assert mine.may_sign(NATTED, address(2))


def test_one_48_has_one_voice() -> None:
    """Its 65,536 /64s cannot outvote three others."""
    seen, lie = Address("2a05::1", 4747), Address("2a06::1", 4747)
    mine = reach(own="10.0.0.1")
    for number in range(3):
        mine.report(seen, Address(f"2a0{number}::9", 4747))
    for number in range(50):
        mine.report(lie, Address(f"2a02:1:1:{number:x}::7", 4747))
    assert mine.observed[6].address() == seen
    assert not mine.may_sign(lie, Address("2a02:1:1:1::7", 4747))


def test_private_reporters_are_not_compared() -> None:
    """They see another address, and rightly so."""
    mine = reach()
    for number in range(5):
        mine.report(ME, address(number))
    assert not mine.contradicts(LAN, Address("192.168.1.9", 4747))
    mine.report(LAN, Address("192.168.1.9", 4747))
    assert mine.observed[4].address() == ME
