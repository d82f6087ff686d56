"""The provider records this node keeps for others, with every bound applied.

Lifetimes are counted on the monotonic clock from the moment of storing, so a clock
that jumps neither ends nor revives a record. When a key, or the store, is full, the
largest prefix loses its oldest record; a newcomer that itself belongs to the largest
is refused. Answers are drawn evenly over prefixes. `dht.prefix_tree` has the rules.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from dht.contacts import PUBLIC_KEY_BYTES
from dht.limits import (
    PROVIDER_SECONDS,
    PROVIDERS_MAX,
    PROVIDERS_PER_KEY_MAX,
    PROVIDERS_PER_REPLY_MAX,
)
from dht.prefix_tree import Deal, Path, PrefixTree
from dht.providers import ProviderRecord

if TYPE_CHECKING:
    import random

_GIVEN_BITS: Final = 11  # of a cursor: how many were given; the rest is the seed
_SEEDS: Final = 1 << 21


class Page(NamedTuple):
    """Some providers of a key; `cursor` is 0 where there are no more."""

    records: list[ProviderRecord]
    total: int
    cursor: int


class _StoredProvider:
    """One record: a flood of them must not cost much, so it stays packed."""

    __slots__ = ("key", "line", "packed", "public_key", "until")

    def __init__(self, record: ProviderRecord, line: _SourceLine, until: float) -> None:
        self.key = record.key
        self.public_key = record.public_key
        self.packed = record.packed[PUBLIC_KEY_BYTES:]
        self.line: _SourceLine | None = line  # None when the record is dropped
        self.until = until

    @property
    def path(self) -> Path:
        """The prefixes of the source that stored it."""
        return () if self.line is None else self.line.path

    @property
    def record(self) -> ProviderRecord:
        """The record itself."""
        return ProviderRecord.unpack(self.key, self.public_key + self.packed)


class _SourceLine:
    """The records of a source, oldest first; those dropped are passed over."""

    __slots__ = ("_dropped", "_records", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: deque[_StoredProvider] = deque()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._records) - self._dropped

    def add(self, stored: _StoredProvider) -> None:
        """Add a record; it shares what the one before has in common with it."""
        if self._records and self._records[-1].public_key == stored.public_key:
            stored.public_key = self._records[-1].public_key
        self._records.append(stored)

    def drop(self) -> None:
        """Count one more of the records as dropped."""
        self._dropped += 1
        if self._dropped > 8 and 2 * self._dropped > len(self._records):
            self._records = deque(each for each in self._records if each.line)
            self._dropped = 0

    def oldest(self) -> _StoredProvider:
        """Return the oldest record that is not dropped."""
        while self._records[0].line is None:
            self._records.popleft()
            self._dropped -= 1
        return self._records[0]


class _Crowd:
    """Amounts by prefix, and the deal, of a key with more providers than one reply."""

    __slots__ = ("deal", "tree")

    def __init__(self, providers: list[_StoredProvider]) -> None:
        self.tree = PrefixTree()
        for stored in providers:
            self.tree.add(stored.path, 1)
        self.deal: Deal[_StoredProvider] | None = None  # until a record comes or goes


class ProviderStore:
    """Sets of providers by key. `now` is in monotonic seconds."""

    def __init__(
        self,
        rng: random.Random,
        *,
        records_max: int = PROVIDERS_MAX,
        per_key_max: int = PROVIDERS_PER_KEY_MAX,
    ) -> None:
        self._rng = rng
        self._records_max = records_max
        self._per_key_max = per_key_max
        self._keys: dict[bytes, list[_StoredProvider]] = {}
        self._crowds: dict[bytes, _Crowd] = {}
        self._lines: dict[Path, _SourceLine] = {}
        self._tree = PrefixTree()
        self._ends_at = 0.0  # no record ends before

    def __len__(self) -> int:
        return self._tree.total

    def put(
        self, record: ProviderRecord, path: Path, *, now: float, lifetime: float
    ) -> bool:
        """Keep or renew a verified record for at most 5 h; False if there is no room.

        `path` holds the prefixes of the source that stores it, `lifetime` is how many
        seconds the record itself still claims.
        """
        known = self._find(record)
        if known is not None:
            self._drop(known)
        until = now + min(lifetime, PROVIDER_SECONDS)
        self._ends_at = min(self._ends_at, until) if self._keys else until
        stored = self._add(record, path, until)
        providers = self._keys[record.key]
        if len(providers) > self._per_key_max:
            crowd = self._crowd(record.key, providers)
            loser = crowd.tree.largest(path)
            if loser == path:
                self._drop(stored)
                return False
            self._drop(next(each for each in providers if each.path == loser))
        if self._tree.total > self._records_max:
            loser = self._tree.largest(path)
            if loser == path:
                self._drop(stored)
                return False
            self._drop(self._lines[loser].oldest())
        return True

    def withdraw(self, record: ProviderRecord) -> None:
        """Drop what is kept of the record's provider at its address.

        Only the holder of the provider's key can make a withdrawal; a replay of one
        must come from its IP address, and a record of another address stays.
        """
        stored = self._find(record)
        if stored is not None and stored.record.address == record.address:
            self._drop(stored)

    def page(self, key: bytes, cursor: int, now: float) -> Page:
        """Return at most 8 providers of a key, drawn evenly over prefixes.

        The cursor holds the seed of the draw and how many were given before.
        """
        providers = self._keys.get(key)
        if providers is None:
            return Page([], 0, 0)
        self._drop_ended(providers, now)
        total = len(providers)
        if not total:
            return Page([], 0, 0)
        seed, given = cursor >> _GIVEN_BITS, cursor & ((1 << _GIVEN_BITS) - 1)
        if cursor == 0:
            seed = self._rng.randrange(_SEEDS)
        end = min(given + PROVIDERS_PER_REPLY_MAX, total)
        if total <= PROVIDERS_PER_REPLY_MAX:
            start = seed % total
            drawn = (providers[start:] + providers[:start])[given:end]
        else:
            drawn = list(islice(self._deal(key, providers).order(seed), given, end))
        records = [each.record for each in drawn]
        more = end < total and records
        return Page(records, total, (seed << _GIVEN_BITS | end) if more else 0)

    def expire(self, now: float) -> None:
        """Drop what has served its time."""
        if now < self._ends_at:
            return
        ended = []
        ends_at = now + PROVIDER_SECONDS
        for providers in self._keys.values():
            for stored in providers:
                if stored.until <= now:
                    ended.append(stored)
                elif stored.until < ends_at:
                    ends_at = stored.until
        for stored in ended:
            self._drop(stored)
        self._ends_at = ends_at

    def _drop_ended(self, providers: list[_StoredProvider], now: float) -> None:
        """Drop the records of one key that have ended."""
        for stored in [each for each in providers if each.until <= now]:
            self._drop(stored)

    def _find(self, record: ProviderRecord) -> _StoredProvider | None:
        """Return what is kept of a record's provider under its key."""
        for stored in self._keys.get(record.key, ()):
            if stored.public_key == record.public_key:
                return stored
        return None

    def _crowd(self, key: bytes, providers: list[_StoredProvider]) -> _Crowd:
        """Return the amounts by prefix of a key, which are kept from then on."""
        crowd = self._crowds.get(key)
        if crowd is None:
            crowd = self._crowds[key] = _Crowd(providers)
        return crowd

    def _deal(
        self, key: bytes, providers: list[_StoredProvider]
    ) -> Deal[_StoredProvider]:
        """Return the providers of a key grouped by prefix."""
        crowd = self._crowd(key, providers)
        if crowd.deal is None:
            crowd.deal = Deal()
            for stored in providers:
                crowd.deal.add(stored.path, stored)
        return crowd.deal

    def _add(self, record: ProviderRecord, path: Path, until: float) -> _StoredProvider:
        """Put a record into all tables, whatever their bounds."""
        line = self._lines.get(path)
        if line is None:
            line = self._lines[path] = _SourceLine(path)
        stored = _StoredProvider(record, line, until)
        line.add(stored)
        providers = self._keys.get(stored.key)
        if providers is None:
            self._keys[stored.key] = [stored]  # takes less than a list that grows
        else:
            providers.append(stored)
        self._tree.add(path, 1)
        self._count(stored.key, path, 1)
        return stored

    def _drop(self, stored: _StoredProvider) -> None:
        """Forget one record."""
        line = stored.line
        assert line is not None
        providers = self._keys[stored.key]
        providers.remove(stored)
        self._count(stored.key, line.path, -1)
        if not providers:
            del self._keys[stored.key]
        if len(providers) <= PROVIDERS_PER_REPLY_MAX:
            self._crowds.pop(stored.key, None)
        stored.line = None
        line.drop()
        if not len(line):
            del self._lines[line.path]
        self._tree.add(line.path, -1)

    def _count(self, key: bytes, path: Path, amount: int) -> None:
        """Count a record of a key that has a crowd."""
        crowd = self._crowds.get(key)
        if crowd is not None:
            crowd.tree.add(path, amount)
            crowd.deal = None
