"""Sources are prefixes: the largest one loses, and answers are drawn evenly."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht import Address, ProviderRecord
from dht.limits import (
    ENTRY_COST_BYTES,
    PROVIDER_OVERHEAD_BYTES,
    PROVIDERS_PER_REPLY_MAX,
    SLICE_OVERHEAD_BYTES,
)
from dht.prefix_tree import Deal, Path, PrefixTree
from dht.provider_store import ProviderStore
from dht.record_store import RecordStore
from dht.wire import Stored
from tests.dht.builders import NETWORK, key, release, unsigned

HOUR = 3600.0
SLICE = SLICE_OVERHEAD_BYTES + ENTRY_COST_BYTES
ONE = PROVIDER_OVERHEAD_BYTES + SLICE
"""What a provider of one key is counted as."""


def record(number: int, where: Address, wanted: bytes = b"") -> ProviderRecord:
    """Return a record as the store sees it: verified before."""
    return unsigned(wanted or key(0), number, where)


def put(store: ProviderStore, each: ProviderRecord, path: Path) -> bool:
    """Store a record of a source; False if there is no room."""
    status = store.put(each.node, each.slice, path, now=0.0, lifetime=HOUR)
    return status is Stored.STORED


def in_48(number: int) -> Address:
    """Return an address with a /64 of its own in one IPv6 /48."""
    return Address(f"2a02:1:1:{number:x}::7", 5000)


def in_lan(number: int) -> Address:
    """Return a port of one machine of a private network."""
    return Address("192.168.1.66", 2000 + number)


def in_16(number: int) -> Address:
    """Return an address with a /24 of its own in one IPv4 /16."""
    return Address(f"91.7.{number % 250}.{1 + number // 250}", 5000)


FLOODS = {
    "IPv6 /48": (in_48, Address("2a02:2:1::7", 5000)),
    "IPv6 /48, honest beside it in the /32": (in_48, Address("2a02:1:2::7", 5000)),
    "one machine of a LAN": (in_lan, Address("192.168.1.67", 5000)),
    "IPv4 /16": (in_16, Address("92.7.1.1", 5000)),
    "IPv6 /48, honest over IPv4": (in_48, Address("92.7.1.1", 5000)),
}
PATHS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=3, max_size=3)


def test_paths_go_from_the_widest_prefix_to_the_narrowest() -> None:
    """Private ranges are their IP alone: a port costs nothing."""
    six, four = Address("2a02:1:2:3::7", 5000).path, Address("91.7.3.4", 5000).path
    assert [len(each) - 1 for each in six[1:]] == [4, 6, 7, 8]
    assert [len(each) - 1 for each in four[1:]] == [2, 3, 4]
    for host in ("127.0.0.1", "192.168.1.5", "fe80::1", "fd00::1", "10.1.1.1"):
        one, two = Address(host, 5000), Address(host, 6000)
        assert one.path == two.path
        assert one.source == two.source
        assert len(one.path) == 2


@settings(deadline=None)
@given(st.lists(st.tuples(PATHS, st.integers(-2, 4)), max_size=60))
def test_the_tree_knows_what_a_plain_sum_knows(
    steps: list[tuple[list[bytes], int]],
) -> None:
    """Amounts of every prefix, and the largest by descent."""
    tree, model = PrefixTree(), Counter[Path]()
    for names, amount in steps:
        path = tuple(names)
        amount = max(amount, -model[path])
        if not amount:
            continue
        model[path] += amount
        tree.add(path, amount)

    def of(prefix: Path) -> int:
        return sum(n for path, n in model.items() if path[: len(prefix)] == prefix)

    assert tree.total == of(())
    largest = tree.largest()
    assert bool(largest) == bool(tree.total)
    for width in range(1, len(largest) + 1):
        prefix = largest[:width]
        siblings = [of((*prefix[:-1], name)) for name in (b"a", b"b", b"c")]
        assert tree.of(prefix) == of(prefix) == max(siblings)


def test_among_thousands_of_prefixes_the_largest_is_found() -> None:
    """Also after it has shrunk."""
    tree, rng = PrefixTree(), random.Random(1)
    paths = [(b"x", b"%d" % number, b"y") for number in range(2000)]
    for path in paths:
        tree.add(path, rng.randrange(1, 50))
    for _ in range(500):
        largest = tree.largest()
        assert tree.of(largest) == max(map(tree.of, paths))
        tree.add(largest, -1)
        tree.add(rng.choice(paths), 1)


def test_a_newcomer_that_ties_with_the_largest_is_the_one_that_goes() -> None:
    """What is held is stable."""
    tree = PrefixTree()
    tree.add((b"a", b"1"), 2)
    tree.add((b"b", b"1"), 2)
    assert tree.largest((b"b", b"1")) == (b"b", b"1")
    assert tree.largest((b"a", b"1")) == (b"a", b"1")
    tree.add((b"a", b"2"), 1)
    assert tree.largest((b"b", b"1")) == (b"a", b"1")


@given(st.lists(PATHS, max_size=40), st.integers(0, (1 << 21) - 1))
def test_a_deal_gives_every_entry_once_and_prefixes_in_turn(
    paths: list[list[bytes]], seed: int
) -> None:
    """Each of the widest prefixes is among the first so many."""
    deal: Deal[int] = Deal()
    for number, names in enumerate(paths):
        deal.add(tuple(names), number)
    dealt = list(deal.order(seed))
    assert sorted(dealt) == list(range(len(paths)))
    widest = {names[0] for names in paths}
    assert {paths[number][0] for number in dealt[: len(widest)]} == widest


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_from_one_prefix_locks_no_provider_out(name: str) -> None:
    """Whoever comes first: the honest one is stored, stays, and is in every answer."""
    flood, where = FLOODS[name]
    for order in ("before", "after", "between"):
        store = ProviderStore(random.Random(1), bytes_max=600 * ONE, per_key_max=100)
        numbers = list(range(1, 1031))
        cut = {"before": 0, "between": 500, "after": len(numbers)}[order]
        for number in numbers[:cut]:
            place = flood(number)
            put(store, record(number, place), place.path)
        honest = record(9999, where)
        assert put(store, honest, where.path)
        for number in numbers[cut:]:
            place = flood(number)
            put(store, record(number, place), place.path)
        assert len(store) <= 100
        for _ in range(50):
            page = store.page(key(0), 0, 1.0)
            assert len(page.records) == PROVIDERS_PER_REPLY_MAX
            assert honest in page.records


def test_a_flood_over_many_keys_fills_no_store() -> None:
    """The store as a whole has the same rule."""
    store = ProviderStore(random.Random(1), bytes_max=300 * ONE)
    where = Address("2a02:2:1::7", 5000)
    mine = [record(9999, where, key(50_000 + number)) for number in range(30)]
    for each in mine:
        assert put(store, each, where.path)
    for number in range(1030):
        place = in_48(number)
        each = record(number, place, key(60_000 + number))
        put(store, each, place.path)
    assert 299 * ONE < store.bytes_held <= 300 * ONE
    for each in mine:
        assert store.page(each.key, 0, 1.0).records == [each]


def test_who_has_most_is_refused_and_nobody_else() -> None:
    """It learns so, and can show it."""
    store = ProviderStore(random.Random(1), bytes_max=99 * SLICE + ONE)
    place = in_48(1)
    kept = [
        put(store, record(1, place, key(number)), place.path) for number in range(200)
    ]
    assert kept == [True] * 100 + [False] * 100


def test_draws_are_even_over_prefixes_and_inside_of_them() -> None:
    """Ten of one network are given as often, together, as one of another."""
    store = ProviderStore(random.Random(1))
    places = [in_48(number) for number in range(40)]
    places += [Address(f"2a03:{number}::7", 5000) for number in range(1, 21)]
    for number, place in enumerate(places):
        put(store, record(number, place), place.path)
    drawn = Counter(
        each.public_key
        for _ in range(3000)
        for each in store.page(key(0), 0, 1.0).records
    )
    single = [drawn[key(number)] for number in range(40, 60)]
    crowd = [drawn[key(number)] for number in range(40)]
    assert max(single) < 1.5 * min(single)
    assert min(crowd) > 0
    assert max(crowd) < 4 * min(crowd)
    assert sum(crowd) < 1.5 * max(single)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_records_from_one_prefix_locks_no_publisher_out(name: str) -> None:
    """The record store has the same rule, by bytes."""
    flood, where = FLOODS[name]
    store = RecordStore(bytes_max=60_000)
    for number in range(300):
        each = release(3, name=f"name{number}")
        place = flood(number)
        store.put(each.key(NETWORK), each, path=place.path, now=0.0, lifetime=HOUR)
    assert store.bytes_held <= 60_000
    for number in range(10):
        each = release(2, name=f"name{number}")
        result = store.put(
            each.key(NETWORK), each, path=where.path, now=0.0, lifetime=HOUR
        )
        assert result.status is Stored.STORED
    assert store.bytes_held <= 60_000


@pytest.mark.parametrize("name", FLOODS)
def test_a_record_that_a_flood_stored_first_outlives_the_flood(name: str) -> None:
    """Ten thousand sources, each with a valid record, beside one publisher.

    The flood brings the publisher's record itself, before the publisher comes.
    """
    flood, where = FLOODS[name]
    store, honest = RecordStore(bytes_max=600_000), release(2, name="honest")
    place = honest.key(NETWORK)
    records = [release(3, name=f"name{number}") for number in range(50)]

    def put_all(first: int, last: int) -> None:
        for number in range(first, last):
            # The store believes its caller that a record belongs to the key.
            wanted = b"%032d" % number
            store.put(
                wanted, records[number % 50], path=flood(number).path, now=0.0,
                lifetime=HOUR,
            )  # fmt: skip

    store.put(place, honest, path=flood(0).path, now=0.0, lifetime=HOUR)
    put_all(0, 300)
    store.put(place, honest, path=where.path, now=0.0, lifetime=HOUR)
    put_all(300, 10_000)
    assert store.newest(place, 1.0) == honest
    assert store.bytes_held <= 600_000
    # Nor does the flood get it back by bringing it once more.
    store.put(place, honest, path=flood(7).path, now=0.0, lifetime=HOUR)
    put_all(10_000, 12_000)
    assert store.newest(place, 1.0) == honest
