"""The routing table against simple models."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht import Address, Contact
from dht.limits import CONTACT_STALE_SECONDS, SLICE_CONTACTS_MAX, K
from dht.routing import ID_BITS, Table
from tests.dht.builders import address, contact, key

OWN = contact(0).node_id


def table_of(contacts: list[Contact]) -> Table:
    table = Table(OWN, 0.0)
    for each in contacts:
        table.add(each, 0.0)
    return table


@pytest.mark.parametrize("count", [1, 3, 8, 20])
def test_neighbours_are_exact(count: int) -> None:
    """For any number, also one below k, as a sort of all contacts gives them."""
    table = table_of([contact(n) for n in range(1, 600)])
    members = list(table)
    for number in range(40):
        target = int.from_bytes(key(10_000 + number), "big")
        expected = sorted(members, key=lambda c: c.long_id ^ target)[:count]
        assert table.nearest(target, count) == expected


def test_ids_of_256_bits_fill_about_log_n_buckets() -> None:
    """Only the bucket of the own id is split."""
    table = table_of([contact(n) for n in range(1, 2000)])
    assert 5 <= len(table.buckets) <= 12
    assert all(len(bucket) <= K for bucket in table.buckets)
    assert table.buckets[0].range[0] == 0
    assert table.buckets[-1].range[1] == 2**ID_BITS - 1


def test_the_table_keeps_the_own_neighbourhood_whole() -> None:
    """All of the nearest nodes are known, however full the rest is."""
    contacts = [contact(n) for n in range(1, 2000)]
    table = table_of(contacts)
    own = int.from_bytes(OWN, "big")
    nearest = sorted(contacts, key=lambda c: c.long_id ^ own)[: K // 2]
    assert all(each in table for each in nearest)


def test_the_own_id_is_never_a_contact() -> None:
    """Whatever address it comes from."""
    table = table_of([contact(0, address(5))])
    assert len(table) == 0
    assert not table.wants(contact(0), 0.0)


def test_a_full_bucket_keeps_live_contacts_and_names_a_silent_one() -> None:
    """The least recently seen one is to be pinged once it was silent for long."""
    far = [c for c in map(contact, range(1, 4000)) if c.node_id[0] >> 7 != OWN[0] >> 7]
    table = table_of([contact(n) for n in range(1, 400)])
    newcomer = next(c for c in far if c not in table and table.wants is not None)
    before = list(table)
    assert table.add(newcomer, 1.0) is None
    assert list(table) == before
    late = CONTACT_STALE_SECONDS + 1
    other = next(c for c in reversed(far) if c not in table)
    oldest = table.add(other, late)
    assert oldest in table


def test_a_contact_leaves_at_its_second_failure_and_a_replacement_moves_up() -> None:
    """One lost datagram costs nobody its place."""
    table = table_of([contact(n) for n in range(1, 400)])
    victim = next(iter(table))
    count = len(table)
    table.failed(victim, 1.0)
    assert victim in table
    table.heard(victim, 2.0)
    table.failed(victim, 3.0)
    assert victim in table
    table.failed(victim, 4.0)
    assert victim not in table
    assert len(table) == count


def test_a_contact_that_failed_comes_last() -> None:
    """It is told to others only where there are not enough."""
    table = table_of([contact(n) for n in range(1, 30)])
    target = int.from_bytes(key(77), "big")
    first = table.nearest(target, 1)[0]
    table.failed(first, 1.0)
    assert first not in table.nearest(target, 5)
    assert first in table.nearest(target, 100)


def test_a_key_that_moves_takes_its_contact_along() -> None:
    """The newly proven address replaces the old one."""
    table = table_of([contact(1)])
    moved = contact(1, address(9))
    assert table.wants(moved, 1.0)
    table.add(moved, 1.0)
    assert list(table) == [moved]


def test_the_round_trip_time_is_smoothed() -> None:
    """One slow answer does not make a contact slow."""
    table = table_of([contact(1)])
    for rtt in (0.1, 0.1, 0.5):
        table.heard(contact(1), 1.0, rtt)
    status = table.status(contact(1))
    assert status is not None
    assert status.rtt_seconds == pytest.approx(0.2)


def test_one_group_gets_three_places_and_two_in_a_bucket() -> None:
    """Ten thousand ids from one /24 stay ten thousand claims."""
    table = table_of([contact(n) for n in range(1, 100)])
    for number in range(10_000):
        table.add(contact(20_000 + number, Address("99.1.1.7", 2000 + number)), 0.0)
    same = [c for c in table if c.address.host == "99.1.1.7"]
    assert len(same) <= 3
    for bucket in table.buckets:
        of_group = [c for c in bucket.members() if c.address.host == "99.1.1.7"]
        assert len(of_group) <= 2


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.1.7"])
def test_private_ranges_are_exempt_from_diversity(host: str) -> None:
    """A LAN is one /24."""
    table = table_of([contact(n, Address(host, 2000 + n)) for n in range(1, 40)])
    assert len(table) >= 20


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "fail", "remove", "heard"]),
        st.integers(1, 60),
        st.integers(0, 5),
    ),
    max_size=120,
)


@settings(deadline=None)
@given(actions)
def test_the_invariants_hold_whatever_happens(
    steps: list[tuple[str, int, int]],
) -> None:
    """Bounds, groups and the exactness of neighbours, after any sequence."""
    table = Table(OWN, 0.0)
    for now, (what, number, group) in enumerate(steps):
        each = contact(number, Address(f"99.1.{group}.7", 2000 + number))
        if what == "add":
            table.add(each, float(now))
        elif what == "fail":
            table.failed(each, float(now))
        elif what == "heard":
            table.heard(each, float(now))
        else:
            table.remove(each)
    everybody = [c for bucket in table.buckets for c in bucket.members()]
    ids = [c.node_id for c in everybody]
    assert len(ids) == len(set(ids))
    counts: dict[bytes | None, int] = {}
    for each in everybody:
        counts[each.address.group] = counts.get(each.address.group, 0) + 1
    assert dict(table._groups) == counts
    assert all(count <= 3 for count in counts.values())
    for bucket in table.buckets:
        assert all(
            bucket.range[0] <= c.long_id <= bucket.range[1] for c in bucket.members()
        )
    for each in table:
        assert table.get(each.node_id) == each


def near(target: int, number: int, where: Address) -> Contact:
    """Return a contact whose id shares the first eleven bits with a target."""
    for attempt in range(1_000_000):
        found = Contact(key(number * 1_000_000 + attempt), where)
        if (found.long_id ^ target) >> 245 == 0:
            return found
    raise AssertionError("No such id.")


@pytest.mark.parametrize("lan", [False, True])
def test_ids_that_crowd_in_a_slice_of_a_bucket_get_few_places(lan: bool) -> None:
    """Ids ground for a key are alike. In a LAN nothing is counted."""
    own = int.from_bytes(OWN, "big")
    target = own ^ (1 << 255) ^ (0b1011 << 240)
    # Contacts of the own half split the bucket; then the far half comes.
    table = table_of([contact(n) for n in range(1, 300)])
    far = [each for each in table if (each.long_id ^ own) >> 255]
    for each in far:
        table.remove(each)
    bucket = table._bucket(target)
    assert not bucket.has_in_range(table.node)
    for number in range(12):
        host = f"192.168.1.{number + 1}" if lan else f"61.1.{number}.1"
        table.add(near(target, number, Address(host, 4747)), 0.0)
    crowd = [each for each in bucket.members() if (each.long_id ^ target) >> 245 == 0]
    assert len(crowd) == (12 if lan else SLICE_CONTACTS_MAX)
    for each in far:
        table.add(each, 0.0)
    assert len(bucket) >= K - SLICE_CONTACTS_MAX
