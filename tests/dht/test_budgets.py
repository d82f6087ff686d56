"""Budgets: the sender pays before a verification, and there is a total."""

from __future__ import annotations

from dht import Address
from dht.budgets import Sender, SenderBudget, Standing
from dht.fair_queue import FairQueue
from dht.limits import BUDGET_SOURCES_MAX
from tests.dht.builders import address, key


def sender(
    where: Address, standing: Standing = Standing.ECHOED, number: int = 0
) -> Sender:
    return Sender(where, standing, key(number))


def in_48(number: int) -> Address:
    return Address(f"2a02:1:1:{number:x}::7", 5000)


def budget(total: float = 100.0) -> SenderBudget:
    return SenderBudget(per_second=10.0, burst=20.0, total_per_second=total)


def test_each_source_has_a_rate() -> None:
    """Ports and addresses of one network share it."""
    mine = budget()
    for number in range(50):
        mine.consume(sender(Address("91.7.3.4", 2000 + number)), 0.0)
    assert not mine.consume(sender(Address("91.7.3.99", 5000)), 0.0)
    assert mine.consume(sender(Address("91.7.4.4", 5000)), 0.0)
    assert mine.consume(sender(Address("91.7.3.4", 2000)), 0.5)


def test_there_is_a_total_whatever_the_number_of_sources() -> None:
    """A hundred sources get no more than the total."""
    mine = budget()
    done = 0
    for step in range(1000):
        now = step / 100
        for number in range(100):
            done += mine.consume(sender(in_48(number)), now)
    assert done <= 10 * 100 + 2 * 100


def test_the_newest_strangers_are_shed_first() -> None:
    """Those who were there before a flood are served through it."""
    mine = budget()
    old = [sender(address(number)) for number in range(3)]
    for each in old:
        assert mine.consume(each, 0.0)
    served = asked = 0
    for step in range(1000):
        now = 600 + step / 100
        for number in range(60):
            mine.consume(sender(in_48(number)), now)
        if step % 20 == 19:
            for each in old:
                served += mine.consume(each, now)
                asked += 1
    assert served >= 0.99 * asked


def test_a_flood_with_forged_addresses_leaves_the_others_alone() -> None:
    """Who echoes a token, or is a contact of the table, has a budget of its own."""
    mine = budget()
    for number in range(5000):
        mine.consume(sender(in_48(number), Standing.CLAIMED), 0.0)
    assert not mine.consume(sender(address(1), Standing.CLAIMED), 0.0)
    assert mine.consume(sender(address(1), Standing.ECHOED), 0.0)
    assert mine.consume(sender(address(1), Standing.TABLED), 0.0)


def test_contacts_of_the_table_are_told_apart_by_key() -> None:
    """Two nodes of one machine do not share a rate, if both are tabled."""
    mine = budget()
    where = Address("127.0.0.1", 5000)
    for _ in range(50):
        mine.consume(sender(where, Standing.TABLED, 1), 0.0)
    assert not mine.consume(sender(where, Standing.TABLED, 1), 0.0)
    assert mine.consume(sender(where, Standing.TABLED, 2), 0.0)


def test_the_memory_of_sources_is_bounded_and_a_flood_forgets_itself() -> None:
    """A /48 has 65,536 sources, and drives nobody out."""
    mine = budget(total=1e9)
    for _ in range(20):
        assert mine.consume(sender(address(1)), 0.0)
    for number in range(3 * BUDGET_SOURCES_MAX):
        mine.consume(sender(in_48(number)), 0.0)
    pool = mine._pools[Standing.ECHOED]
    assert len(pool._sources) == BUDGET_SOURCES_MAX
    assert not mine.consume(sender(address(1)), 0.0)


def test_a_full_queue_drops_from_the_largest_prefix() -> None:
    """A thousand /64s with a datagram each are one network."""
    line = FairQueue(limit=100)
    for number in range(1000):
        line.put(b"flood", in_48(number))
        if number % 50 == 0:
            line.put(b"honest", address(number))
    waiting = [each for _ in range(100) if (each := line.get())]
    assert [each for each, _ in waiting].count(b"honest") == 20
    assert len(line) == 0
