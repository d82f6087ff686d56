"""Inventory slices, and how a node cuts its keys into them."""

from __future__ import annotations

import dataclasses
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht import RecordError
from dht.identity import verify_ed25519
from dht.inventory import (
    DEPTH_MAX,
    SLICE_HEAD_BYTES,
    Block,
    InventorySlice,
    entry_of,
    pack_entries,
    prefix_of,
)
from dht.limits import CLOCK_SKEW_SECONDS, SLICE_ENTRIES_MAX, SLICE_SECONDS
from dht.own_inventory import OwnInventory
from dht.providers import REGION_DEPTH_MIN
from dht.sorted_numbers import SortedNumbers
from tests.dht.builders import NETWORK, NOW, key, signer

DEPTHS = st.integers(0, DEPTH_MAX)
KEYS = st.binary(min_size=32, max_size=32)


def listed(*keys: bytes, depth: int = 0, issued: float = NOW) -> InventorySlice:
    """Return a signed slice of the block of the first key."""
    return InventorySlice.sign(
        signer(1),
        tag=NETWORK.tag,
        block=Block.of(keys[0], depth),
        entries=pack_entries(keys, depth),
        issued_at=int(issued * 1000),
    )


def check(one: InventorySlice, *, tag: bytes = NETWORK.tag, now: float = NOW) -> None:
    """Verify a slice of node 1."""
    one.verify(tag, now, verify_ed25519, public_key=signer(1).public_key)


@given(wanted=KEYS, other=KEYS, depth=DEPTHS)
def test_a_slice_lists_the_keys_that_were_put_in(
    wanted: bytes, other: bytes, depth: int
) -> None:
    """And no key of another block; of its own block hardly any."""
    block = Block.of(wanted, depth)
    assert block.has(wanted)
    one = InventorySlice(block, 0, pack_entries([wanted], depth), bytes(64))
    assert one.offers(wanted)
    assert InventorySlice.unpack(one.packed) == one
    assert one.heads == [int.from_bytes(wanted[:4], "big")]
    same = block.has(other) and entry_of(other, depth) == entry_of(wanted, depth)
    assert one.offers(other) == same


def test_an_entry_is_found_at_its_place_only() -> None:
    """Bytes of two entries that look like a third are none."""
    block = Block(0, 0)
    entries = bytes.fromhex("00112233 44556677")
    one = InventorySlice(block, 0, entries, bytes(64))
    assert one.offers(bytes.fromhex("00112233") + bytes(28))
    assert not one.offers(bytes.fromhex("11223344") + bytes(28))
    assert one.offers(bytes.fromhex("44556677") + bytes(28))


def test_a_slice_is_signed_for_its_node_and_its_network() -> None:
    """And says when."""
    one = listed(key(1), key(2))
    check(one)
    with pytest.raises(RecordError, match="signature"):
        check(one, tag=b"otherone")
    with pytest.raises(RecordError, match="old"):
        check(one, now=NOW + SLICE_SECONDS + 1)
    with pytest.raises(RecordError, match="future"):
        check(one, now=NOW - CLOCK_SKEW_SECONDS - 1)
    with pytest.raises(RecordError, match="signature"):
        check(dataclasses.replace(one, issued_at=one.issued_at + 1))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_mutated_slice_is_refused_with_one_kind_of_error(data: st.DataObject) -> None:
    """Every bit of it is signed, and there is one way to write it."""
    packed = bytearray(listed(*(key(number) for number in range(9))).packed)
    before = bytes(packed)
    place = data.draw(st.integers(0, len(packed) - 1))
    change = data.draw(st.sampled_from(["set", "cut", "add"]))
    if change == "set":
        packed[place] = data.draw(st.integers(0, 255))
    elif change == "cut":
        del packed[place : place + data.draw(st.integers(1, 8))]
    else:
        packed[place:place] = data.draw(st.binary(min_size=1, max_size=8))
    if bytes(packed) == before:
        return
    with pytest.raises(RecordError):
        check(InventorySlice.unpack(bytes(packed)))


@pytest.mark.parametrize(
    "entries",
    [
        bytes.fromhex("00000001 00000001"),
        bytes.fromhex("00000002 00000001"),
        bytes(4 * SLICE_ENTRIES_MAX + 4),
        bytes(3),
    ],
    ids=["twice", "unsorted", "too many", "cut"],
)
def test_entries_have_one_order(entries: bytes) -> None:
    """Else one inventory would have many forms."""
    with pytest.raises(RecordError):
        InventorySlice.unpack(bytes(SLICE_HEAD_BYTES) + entries)
    with pytest.raises(RecordError):
        InventorySlice.unpack(b"\x21" + bytes(SLICE_HEAD_BYTES - 1))
    with pytest.raises(RecordError):
        InventorySlice.unpack(b"\x04\x08" + bytes(SLICE_HEAD_BYTES - 2))


def heads(number: int, spread: int) -> bytes:
    """Return a key; the smaller the spread, the closer they are."""
    return (number * spread % (1 << 32)).to_bytes(4, "big") + key(number)[:28]


@settings(deadline=None, max_examples=80)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=300),
    spread=st.sampled_from([1, 1 << 10, 0x9E3779B1]),
    depth=st.integers(REGION_DEPTH_MIN, 9),
)
def test_an_inventory_is_a_set_in_slices(
    steps: list[tuple[bool, int]], spread: int, depth: int
) -> None:
    """They do not overlap, none is too long, and regions hold them all."""
    inventory, model = OwnInventory(), set[bytes]()
    for is_added, number in steps:
        one = heads(number, spread)
        if is_added:
            assert inventory.add(one) == (one not in model)
            model.add(one)
        else:
            assert (inventory.remove(one) is not None) == (one in model)
            model.discard(one)
    regions = inventory.regions(depth)
    assert len(inventory) == len(model)
    prefixes = sorted(map(prefix_of, model))
    assert list(inventory) == prefixes
    assert all(one in inventory for one in model)
    slices = [each for region in regions for each in inventory.inside(region)]
    assert sorted(one for each in slices for one in each.prefixes) == prefixes
    blocks = sorted((each.block for each in slices), key=lambda each: each.start)
    for one_block, other in itertools.pairwise(blocks):
        assert one_block.end <= other.start
    for each in slices:
        assert len(each) <= SLICE_ENTRIES_MAX
        assert each.block.depth >= depth
        keys = [one.to_bytes(8, "big") for one in each.prefixes]
        assert all(map(each.block.has, keys))
    for region in regions:
        inventory.clear_empty(region)
    assert all(len(one) for region in regions for one in inventory.inside(region))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 1000), count=st.integers(0, 300))
def test_the_same_keys_are_cut_in_the_same_way(seed: int, count: int) -> None:
    """In whatever order they come: a restart changes nothing for the keepers."""
    rng = random.Random(seed)
    keys = [rng.randbytes(32) for _ in range(count)]
    one, other = OwnInventory(), OwnInventory()
    for each in keys:
        one.add(each)
    for each in sorted(keys):
        other.add(each)
    for region in one.regions(5):
        other.regions(5)
        assert one.content_of(region) == other.content_of(region)
    assert one.regions(5) == other.regions(5)


def test_a_key_more_changes_one_slice() -> None:
    """So that is what keepers are sent."""
    inventory = OwnInventory()
    for number in range(2000):
        inventory.add(key(number))
    regions = inventory.regions(REGION_DEPTH_MIN)
    before = {e.block: e.entries for r in regions for e in inventory.inside(r)}
    inventory.add(key(2000))
    after = {e.block: e.entries for r in regions for e in inventory.inside(r)}
    assert len(set(after.items()) - set(before.items())) <= 2
    assert len(before) * SLICE_ENTRIES_MAX < 2 * 2000


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 3000) | st.integers(0, 2**64 - 1)),
        max_size=200,
    ),
    st.integers(0, 3000),
    st.integers(0, 2**64 - 1),
)
def test_sorted_numbers_are_a_set(
    steps: list[tuple[bool, int]], low: int, high: int
) -> None:
    """In order."""
    numbers, model = SortedNumbers(), set[int]()
    for is_added, number in steps:
        if is_added:
            numbers.add(number)
            model.add(number)
        else:
            assert numbers.remove(number) == (number in model)
            model.discard(number)
    assert len(numbers) == len(model)
    expected = sorted(each for each in model if low <= each < high)
    assert list(numbers.between(low, high)) == expected
    assert numbers.count(low, high) == len(expected)


def test_many_sorted_numbers_lie_in_chunks() -> None:
    """Twenty thousand of them, in and out again."""
    rng = random.Random(3)
    chosen = [rng.randrange(1 << 64) for _ in range(20_000)]
    numbers = SortedNumbers()
    for each in chosen:
        numbers.add(each)
    assert list(numbers.between(0, 1 << 64)) == sorted(set(chosen))
    for each in chosen[5:]:
        numbers.remove(each)
    assert list(numbers.between(0, 1 << 64)) == sorted(set(chosen[:5]))
    assert len(numbers) == 5
