"""The table and the two stores against models that are too simple to be wrong."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dht import Address
from dht.limits import (
    ENTRY_COST_BYTES,
    GROUP_CONTACTS_PER_BUCKET_MAX,
    GROUP_CONTACTS_PER_TABLE_MAX,
    PROVIDER_OVERHEAD_BYTES,
    RECORD_OVERHEAD_BYTES,
    SLICE_OVERHEAD_BYTES,
    K,
)
from dht.provider_store import ProviderStore
from dht.record_store import RecordStore
from dht.routing import Table
from dht.wire import Stored
from tests.dht.builders import contact, key, provider, release

if TYPE_CHECKING:
    from dht import Contact

NUMBERS = st.integers(1, 120)
GROUPS = st.integers(0, 3)
LIFE = 100.0
ONE = PROVIDER_OVERHEAD_BYTES + SLICE_OVERHEAD_BYTES + ENTRY_COST_BYTES


def somewhere(number: int, group: int) -> Contact:
    """Return a contact; group 0 is a /24 of its own, the others are crowded."""
    if group == 0:
        return contact(number)
    return contact(number, Address(f"99.9.{group}.{number % 250 + 1}", 2000 + number))


class TableMachine(RuleBasedStateMachine):
    """The routing table holds proven contacts, few of a group, nearest first."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(key(0), 0.0)
        self.added: dict[bytes, Contact] = {}
        self.now = 0.0

    @rule(number=NUMBERS, group=GROUPS)
    def add(self, number: int, group: int) -> None:
        self.now += 1
        each = somewhere(number, group)
        self.table.add(each, self.now)
        self.added[each.node_id] = each

    @rule(number=NUMBERS, group=GROUPS)
    def fail(self, number: int, group: int) -> None:
        for _ in range(2):
            self.table.failed(somewhere(number, group), self.now)
        assert somewhere(number, group) not in self.table

    @rule(number=NUMBERS, group=GROUPS)
    def remove(self, number: int, group: int) -> None:
        self.table.remove(somewhere(number, group))
        assert somewhere(number, group) not in self.table

    @rule(aim=st.integers(0, (1 << 256) - 1), count=st.integers(1, 40))
    def nearest(self, aim: int, count: int) -> None:
        ordered = sorted(self.table, key=lambda each: each.long_id ^ aim)
        found = self.table.nearest(aim, count)
        assert len(found) == min(count, len(ordered))
        sound = [e for e in ordered if not self._failing(e)]
        assert [e for e in found if not self._failing(e)] == sound[:count]

    def _failing(self, each: Contact) -> bool:
        status = self.table.status(each)
        return status is not None and status.failures > 0

    @invariant()
    def holds_its_bounds(self) -> None:
        contacts = list(self.table)
        assert len(contacts) == len(self.table)
        assert all(each.node_id in self.added for each in contacts)
        assert len({each.node_id for each in contacts}) == len(contacts)
        for bucket in self.table.buckets:
            assert len(bucket) <= K
            self._is_diverse(list(bucket.members()), GROUP_CONTACTS_PER_BUCKET_MAX)
        self._is_diverse(contacts, GROUP_CONTACTS_PER_TABLE_MAX)

    @staticmethod
    def _is_diverse(contacts: list[Contact], limit: int) -> None:
        groups = [each.address.group for each in contacts]
        assert all(groups.count(group) <= limit for group in groups)


class ProviderMachine(RuleBasedStateMachine):
    """The provider store is a dictionary with a bound and an end to everything."""

    MAX = 12
    PER_KEY = 6

    def __init__(self) -> None:
        super().__init__()
        rng = random.Random(1)
        self.store = ProviderStore(
            rng, bytes_max=self.MAX * ONE, per_key_max=self.PER_KEY
        )
        self.model: dict[tuple[int, int], float] = {}
        self.now = 0.0

    @rule(wanted=st.integers(1, 3), number=st.integers(1, 8), source=st.integers(1, 4))
    def put(self, wanted: int, number: int, source: int) -> None:
        record = provider(key(wanted), number)
        room = self.store.bytes_held + ONE <= self.MAX * ONE
        room = room and self.held(wanted) < self.PER_KEY
        status = self.store.put(
            record.node, record.slice, (b"%d" % source,), now=self.now, lifetime=LIFE
        )
        kept = status is Stored.STORED
        assert kept or not room
        self.renewed(number)
        if kept:
            self.model[wanted, number] = self.now + LIFE
            assert record in self.records(wanted)

    @rule(wanted=st.integers(1, 3), number=st.integers(1, 8))
    def withdraw(self, wanted: int, number: int) -> None:
        record = provider(key(wanted), number)
        empty = dataclasses.replace(record.slice, entries=b"")
        self.store.put(record.node, empty, (b"1",), now=self.now, lifetime=LIFE)
        self.renewed(number)
        assert record not in self.records(wanted)

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.store.expire(self.now)

    def renewed(self, number: int) -> None:
        """Let all that a provider is known to offer live on: it was heard of."""
        for wanted, known in self.model:
            if known == number and self.model[wanted, known] > self.now:
                self.model[wanted, known] = self.now + LIFE

    def held(self, wanted: int) -> int:
        return len(self.store._listed(int.from_bytes(key(wanted)[:4], "big")))

    def records(self, wanted: int) -> list[object]:
        page = self.store.page(key(wanted), 0, self.now)
        found = list(page.records)
        while page.cursor:
            page = self.store.page(key(wanted), page.cursor, self.now)
            found += page.records
        assert len(found) == page.total
        return found

    @invariant()
    def gives_only_what_was_put_and_lives(self) -> None:
        assert self.store.bytes_held <= self.MAX * ONE
        total = 0
        for wanted in (1, 2, 3):
            found = self.records(wanted)
            total += len(found)
            assert len(found) <= self.PER_KEY
            alive = [
                n
                for (w, n), end in self.model.items()
                if w == wanted and end > self.now
            ]
            true = [provider(key(wanted), n) for n in alive]
            assert all(record in true for record in found)
        assert total <= len(self.store)


class RecordMachine(RuleBasedStateMachine):
    """The record store holds the newest of each key and never goes back."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 5 * (RECORD_OVERHEAD_BYTES + 700)
        self.store = RecordStore(bytes_max=self.room)
        self.newest: dict[int, int] = {}
        self.now = 0.0

    @rule(
        publisher=st.integers(1, 8),
        sequence=st.integers(1, 3),
        source=st.integers(1, 3),
    )
    def put(self, publisher: int, sequence: int, source: int) -> None:
        record = release(publisher, sequence=sequence)
        held = self.store.newest(key(publisher), self.now)
        outcome = self.store.put(
            key(publisher),
            record,
            path=(b"%d" % source,),
            now=self.now,
            lifetime=LIFE,
        )
        if held is not None and held.order > record.order:
            assert outcome == (Stored.OLDER, held.raw)
        elif held is not None and held.order == record.order:
            assert outcome.status is Stored.STORED
        if outcome.status is Stored.STORED:
            self.newest[publisher] = sequence
            assert self.store.newest(key(publisher), self.now) == record

    @rule(seconds=st.floats(0, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.store.expire(self.now)

    @invariant()
    def holds_the_newest_within_its_room(self) -> None:
        assert self.store.bytes_held <= self.room
        for publisher, sequence in self.newest.items():
            held = self.store.newest(key(publisher), self.now)
            assert held is None or held.order == (0, sequence)


SETTINGS = settings(max_examples=25, stateful_step_count=40, deadline=None)
TestTable = TableMachine.TestCase
TestTable.settings = SETTINGS
TestProviders = ProviderMachine.TestCase
TestProviders.settings = SETTINGS
TestRecords = RecordMachine.TestCase
TestRecords.settings = SETTINGS
