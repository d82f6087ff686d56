"""The provider store and the record store, with every bound."""

from __future__ import annotations

import dataclasses
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dht import Delegation, ProviderRecord
from dht.inventory import Block, InventorySlice, pack_entries
from dht.limits import (
    ENTRY_COST_BYTES,
    PROVIDER_OVERHEAD_BYTES,
    PROVIDER_SECONDS,
    RECORD_KEPT_SECONDS,
    SLICE_OVERHEAD_BYTES,
)
from dht.provider_store import ProviderStore
from dht.record_store import RecordStore
from dht.wire import Stored
from tests.dht.builders import (
    NETWORK,
    NOW,
    key,
    private_key,
    release,
    signer,
    unsigned,
)

HOUR = 3600.0


ONE = PROVIDER_OVERHEAD_BYTES + SLICE_OVERHEAD_BYTES + ENTRY_COST_BYTES
"""What a provider of one key is counted as."""


def store(**limits: int) -> ProviderStore:
    return ProviderStore(random.Random(1), **limits)


def put(
    kept: ProviderStore,
    record: ProviderRecord,
    source: bytes,
    *,
    now: float = 0.0,
    lifetime: float = HOUR,
) -> bool:
    """Store a record of a source; False if there is no room."""
    status = kept.put(record.node, record.slice, (source,), now=now, lifetime=lifetime)
    assert status in (Stored.STORED, Stored.FULL)
    return status is Stored.STORED


def test_many_providers_of_one_key_are_kept_and_drawn_evenly() -> None:
    """Eight at a time, and over many draws each of them."""
    kept = store()
    for number in range(40):
        assert put(kept, unsigned(key(0), number), b"s%d" % number)
    drawn = [
        record.public_key for _ in range(200) for record in kept.page(key(0), 0, 1.0)[0]
    ]
    assert len(set(drawn)) == 40
    assert len(drawn) == 1600
    counts = [drawn.count(key(number)) for number in range(40)]
    assert max(counts) < 4 * min(counts)


def test_the_cursor_leads_through_all_of_them() -> None:
    """Each once."""
    kept = store()
    for number in range(29):
        put(kept, unsigned(key(0), number), b"s")
    cursor, seen = 0, []
    while True:
        page = kept.page(key(0), cursor, 1.0)
        assert page.total == 29
        seen += [record.public_key for record in page.records]
        cursor = page.cursor
        if not cursor:
            break
    assert sorted(seen) == sorted(key(number) for number in range(29))


def test_an_answer_looks_at_what_it_gives_and_not_at_the_crowd(monkeypatch) -> None:
    """Else a key with many providers costs its keeper much for every question."""
    kept = store()
    for number in range(500):
        assert put(kept, unsigned(key(0), number), b"s%d" % number)
    looked = []

    def has_entry(packed: bytes, entry: int) -> bool:
        looked.append(entry)
        return True

    monkeypatch.setattr("dht.provider_store.has_entry", has_entry)
    page = kept.page(key(0), 0, 1.0)
    assert len(page.records) == 8
    assert page.total == 500
    assert len(looked) <= 9


def test_a_provider_record_lives_five_hours_at_most() -> None:
    """Counted from the last store; a renewal starts anew."""
    kept = store()
    put(kept, unsigned(key(0), 1), b"s", lifetime=9 * HOUR)
    put(kept, unsigned(key(0), 2), b"s")
    assert kept.page(key(0), 0, 2 * HOUR).total == 1
    put(kept, unsigned(key(0), 1), b"s", now=2 * HOUR, lifetime=9 * HOUR)
    assert kept.page(key(0), 0, 6.9 * HOUR).total == 1
    assert kept.page(key(0), 0, 2 * HOUR + PROVIDER_SECONDS).total == 0
    kept.expire(8 * HOUR)
    assert len(kept) == 0


def test_one_source_cannot_fill_a_key_or_the_store() -> None:
    """Who takes most loses first, and honest records stay."""
    kept = store(bytes_max=100 * ONE, per_key_max=20)
    put(kept, unsigned(key(0), 1), b"honest")
    for number in range(1000):
        put(kept, unsigned(key(0), 100 + number), b"flood")
        put(kept, unsigned(key(5 + number), 1), b"flood")
    assert kept.bytes_held <= 100 * ONE
    assert kept.page(key(0), 0, 1.0).total <= 20
    for number in range(10):
        assert put(kept, unsigned(key(0), 3000 + number), b"new%d" % number)
    pages = [kept.page(key(0), 0, 1.0).records for _ in range(100)]
    assert key(1) in {record.public_key for page in pages for record in page}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.integers(0, 9), st.integers(0, 3), st.floats(0, 3000)
        ),
        max_size=80,
    )
)
def test_the_provider_store_keeps_its_books(
    steps: list[tuple[int, int, int, float]],
) -> None:
    """Bounds and counts hold after any sequence of stores and expiries."""
    kept = store(bytes_max=12 * ONE, per_key_max=5)
    now = 0.0
    for wanted, number, source, pause in steps:
        now += pause
        put(kept, unsigned(key(wanted), number), b"s%d" % source, now=now)
        if number == 0:
            kept.expire(now)
        slices = len(kept._slices)
        assert slices == len(kept)
        assert slices == sum(len(each) for each in kept._lines.values())
        providers = kept._providers.values()
        assert slices == sum(len(each.slices) for each in providers)
        assert kept.bytes_held <= 12 * ONE
        assert kept.bytes_held == (
            len(providers) * PROVIDER_OVERHEAD_BYTES
            + slices * (SLICE_OVERHEAD_BYTES + ENTRY_COST_BYTES)
        )
        assert all(kept.page(key(n), 0, now).total <= 5 for n in range(4))
    kept.expire(now + 2 * HOUR)
    assert len(kept) == kept.bytes_held == 0
    assert not any((kept._slices, kept._providers, kept._crowds, kept._lines))


def sliced(number: int, *wanted: bytes, issued: float = NOW) -> ProviderRecord:
    """Return a provider record of several keys, for the first of them."""
    one = unsigned(wanted[0], number)
    block = Block(0, 0)
    entries = pack_entries(wanted, block.depth)
    listed = InventorySlice(block, int(issued * 1000), entries, bytes(64))
    return dataclasses.replace(one, slice=listed)


def test_a_rare_file_stays_beside_a_popular_one() -> None:
    """Of a crowded key a listing goes, not the slice with its other keys."""
    kept = store(per_key_max=20)
    popular, rare = key(0), [key(1 + number) for number in range(60)]
    for number in range(60):
        assert put(kept, sliced(number, popular, rare[number]), b"s%d" % (number % 7))
    assert kept.page(popular, 0, 1.0).total == 20
    for number in range(60):
        (record,) = kept.page(rare[number], 0, 1.0).records
        assert record.public_key == key(number)
    kept.expire(2 * HOUR)
    assert len(kept) == kept.bytes_held == 0


def test_a_large_inventory_displaces_no_small_one() -> None:
    """Whatever its slices list, its source is the largest."""
    where = [b"small%d" % number for number in range(40)]
    kept = store(bytes_max=60 * ONE)
    for number, source in enumerate(where):
        assert put(kept, unsigned(key(number), number), source)
    results = []
    for number in range(300):
        start = number << 22
        heads = [(start | place << 12).to_bytes(4, "big") for place in range(20)]
        keys = [head + key(number)[:28] for head in heads]
        entries = pack_entries(keys, 10)
        listed = InventorySlice(Block(10, start), int(NOW) * 1000, entries, bytes(64))
        large = dataclasses.replace(unsigned(keys[0], 999), slice=listed)
        results.append(put(kept, large, b"large"))
        assert kept.bytes_held <= 60 * ONE
    assert False in results
    for number in range(40):
        assert kept.page(key(number), 0, 1.0).total == 1


def test_a_newer_slice_takes_the_place_of_what_it_overlaps() -> None:
    """An older one is refused, and one that finds no room changes nothing."""
    kept = store()
    whole = sliced(1, key(1), key(2), issued=NOW - 50)
    assert put(kept, whole, b"s")
    half = Block.of(key(1), 1)
    parts = [each for each in (key(1), key(2), key(3)) if half.has(each)]
    listed = InventorySlice(
        half, int(NOW - 20) * 1000, pack_entries(parts, 1), bytes(64)
    )
    assert put(kept, dataclasses.replace(whole, slice=listed), b"s")
    for each in (key(1), key(2), key(3)):
        assert kept.page(each, 0, 1.0).total == (each in parts)
    old = kept.put(whole.node, whole.slice, (b"s",), now=0.0, lifetime=HOUR)
    assert old is Stored.OLDER
    kept._bytes_max = kept.bytes_held
    more = sliced(1, key(1), *(key(10 + number) for number in range(9)))
    assert not put(kept, more, b"s")
    for each in (key(1), key(2), key(3)):
        assert kept.page(each, 0, 1.0).total == (each in parts)
    assert kept.page(key(10), 0, 1.0).total == 0


def test_a_slice_ends_after_fourteen_days() -> None:
    """Though its provider is renewed for ever; the summary leaves it out before."""
    kept = store()
    record = sliced(1, key(1))
    kept.put(record.node, record.slice, (b"s",), now=0.0, lifetime=HOUR, age=HOUR)
    day = 24 * HOUR
    content = record.slice.content_id
    for now, is_good, is_found in (
        (0.0, True, True),
        (12.9 * day, True, True),
        (13.1 * day, False, True),
        (14.1 * day, False, False),
    ):
        kept.renew(record.node, now=now, lifetime=HOUR)
        summary = kept.summary(record.public_key, 4, Block(0, 0), now=now)
        assert summary.content == (content if is_good else 0)
        assert kept.page(key(1), 0, now).total == is_found


def test_a_lower_order_is_refused_with_the_newer_record() -> None:
    """So that its sender learns what it missed."""
    kept = RecordStore()
    old, new = release(sequence=1), release(sequence=2)
    place = old.key(NETWORK)
    assert (
        kept.put(place, new, path=(b"s",), now=0.0, lifetime=1e9).status
        is Stored.STORED
    )
    assert kept.put(place, old, path=(b"s",), now=0.0, lifetime=1e9) == (
        Stored.OLDER,
        new.raw,
    )
    assert kept.newest(place, 1.0) == new
    newer = release(epoch=1, sequence=0)
    assert (
        kept.put(place, newer, path=(b"s",), now=0.0, lifetime=1e9).status
        is Stored.STORED
    )
    assert kept.newest(place, 1.0) == newer


def test_the_same_bytes_are_a_renewal_by_whoever_sends_them() -> None:
    """A keeper drops a record 24 hours after the last one."""
    kept, record = RecordStore(), release()
    place = record.key(NETWORK)
    kept.put(place, record, path=(b"publisher",), now=0.0, lifetime=1e9)
    assert kept.is_kept(place, record.raw, 1.0)
    kept.put(place, record, path=(b"holder",), now=20 * HOUR, lifetime=1e9)
    assert kept.newest(place, 40 * HOUR) == record
    assert kept.newest(place, 20 * HOUR + RECORD_KEPT_SECONDS) is None
    kept.expire(50 * HOUR)
    assert len(kept) == 0
    assert kept.bytes_held == 0


def test_other_bytes_of_one_order_are_proof_and_do_not_replace() -> None:
    """The first proof is kept beside the record."""
    kept = RecordStore()
    one, two, three = (release(package=key(n)) for n in (1, 2, 3))
    place = one.key(NETWORK)
    kept.put(place, one, path=(b"s",), now=0.0, lifetime=1e9)
    assert kept.put(place, two, path=(b"s",), now=0.0, lifetime=1e9) == (
        Stored.CONFLICT,
        one.raw,
    )
    kept.put(place, three, path=(b"s",), now=0.0, lifetime=1e9)
    assert kept.newest(place, 1.0) == one
    assert kept.conflict(place, 1.0) == two.raw
    assert (
        kept.put(place, release(sequence=2), path=(b"s",), now=0.0, lifetime=1e9).status
        is Stored.STORED
    )
    assert kept.conflict(place, 1.0) == b""


def test_a_record_goes_at_its_end() -> None:
    """Even if that is sooner than 24 hours."""
    kept, record = RecordStore(), release()
    kept.put(record.key(NETWORK), record, path=(b"s",), now=0.0, lifetime=60.0)
    assert kept.newest(record.key(NETWORK), 61.0) is None


def test_the_source_with_most_bytes_loses_first() -> None:
    """Others' records outlive a flood, and a flood cannot grow past its share."""
    kept = RecordStore(bytes_max=20_000)
    honest = release(2)
    kept.put(honest.key(NETWORK), honest, path=(b"honest",), now=0.0, lifetime=1e9)
    statuses = set()
    for number in range(60):
        record = release(3, name=f"name{number}")
        statuses.add(
            kept.put(
                record.key(NETWORK), record, path=(b"flood",), now=0.0, lifetime=1e9
            ).status
        )
    assert Stored.FULL in statuses
    assert kept.bytes_held <= 20_000
    for number in range(5):
        record = release(4, name=f"name{number}")
        source = b"new%d" % number
        status = kept.put(
            record.key(NETWORK), record, path=(source,), now=0.0, lifetime=1e9
        ).status
        assert status is Stored.STORED
    assert kept.newest(honest.key(NETWORK), 1.0) == honest
    assert kept.bytes_held <= 20_000


def test_delegations_are_kept_like_releases() -> None:
    """Ordered by epoch."""
    kept = RecordStore()
    old, new = (
        Delegation.sign(private_key(1), key(9), epoch=epoch, not_after=NOW + 1000)
        for epoch in (1, 2)
    )
    place = old.key(NETWORK)
    kept.put(place, new, path=(b"s",), now=0.0, lifetime=1e9)
    assert (
        kept.put(place, old, path=(b"s",), now=0.0, lifetime=1e9).status is Stored.OLDER
    )


def test_a_record_is_kept_no_longer_than_its_delegation() -> None:
    """Whatever end it names itself: then nobody would believe it any more."""
    delegation = Delegation.sign(
        private_key(1), signer(2).public_key, epoch=3, not_after=NOW + 50
    )
    record = release(by=private_key(2), epoch=3, delegation=delegation)
    assert record.ends_at == NOW + 50
    assert release().ends_at == release().expires_at
