"""The provider records this node keeps for others, with every bound applied.

Lifetimes are counted on the monotonic clock from the moment of storing, so a clock
that jumps neither ends nor revives a record. When the store is full, the source
that takes most room loses its oldest record; a source that itself takes most is
refused.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from dht.contacts import PUBLIC_KEY_BYTES
from dht.fairness import ShareLedger
from dht.limits import (
    PROVIDER_SECONDS,
    PROVIDERS_MAX,
    PROVIDERS_PER_KEY_MAX,
    PROVIDERS_PER_REPLY_MAX,
)
from dht.providers import ProviderRecord

if TYPE_CHECKING:
    import random


class Page(NamedTuple):
    """Some providers of a key; `cursor` is 0 where there are no more."""

    records: list[ProviderRecord]
    total: int
    cursor: int


class _Kept:
    """One record: a flood of them must not cost much, so it stays packed."""

    __slots__ = ("key", "packed", "public_key", "source", "until")

    def __init__(self, record: ProviderRecord, source: bytes, until: float) -> None:
        self.key = record.key
        self.public_key = record.public_key
        self.packed = record.packed[PUBLIC_KEY_BYTES:]
        self.source = source  # emptied when the record is dropped
        self.until = until

    @property
    def record(self) -> ProviderRecord:
        """Read the record."""
        return ProviderRecord.unpack(self.key, self.public_key + self.packed)


class _Line:
    """The records of a source, oldest first; those dropped are passed over."""

    __slots__ = ("_dropped", "_kept")

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._kept) - self._dropped

    def add(self, kept: _Kept) -> None:
        """Add a record; it shares what the one before has in common with it."""
        if self._kept and self._kept[-1].public_key == kept.public_key:
            kept.public_key = self._kept[-1].public_key
        self._kept.append(kept)

    def drop(self) -> None:
        """Note that one of the records was dropped."""
        self._dropped += 1
        if self._dropped > 8 and 2 * self._dropped > len(self._kept):
            self._kept = deque(each for each in self._kept if each.source)
            self._dropped = 0

    def oldest(self) -> _Kept:
        """Return the oldest record that is still kept."""
        while not self._kept[0].source:
            self._kept.popleft()
            self._dropped -= 1
        return self._kept[0]


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
        self._keys: dict[bytes, list[_Kept]] = {}
        self._of_source: dict[bytes, _Line] = {}
        self._shares = ShareLedger()
        self._ends_at = 0.0  # nothing ends before

    def __len__(self) -> int:
        return self._shares.total

    def put(
        self, record: ProviderRecord, source: bytes, now: float, lifetime: float
    ) -> bool:
        """Keep or renew a verified record for at most 5 h; False if there is no room.

        `lifetime` is how many seconds the record itself still claims.
        """
        known = self._find(record)
        if known is not None:
            self._drop(known)
        if not self._make_room(record.key, source):
            return False
        until = now + min(lifetime, PROVIDER_SECONDS)
        self._ends_at = min(self._ends_at, until) if self._keys else until
        kept = _Kept(record, source, until)
        line = self._of_source.get(source)
        if line is None:
            line = self._of_source[source] = _Line()
        line.add(kept)
        providers = self._keys.get(kept.key)
        if providers is None:
            self._keys[kept.key] = [kept]  # takes less than a list that grows
        else:
            providers.append(kept)
        self._shares.add(source, 1)
        return True

    def withdraw(self, record: ProviderRecord) -> None:
        """Drop what is kept of the record's provider at its address.

        Whoever makes the withdrawal anew has the provider's key; who replays it must
        have its IP address, and a record of another address stays.
        """
        kept = self._find(record)
        if kept is not None and kept.record.address == record.address:
            self._drop(kept)

    def page(self, key: bytes, cursor: int, now: float) -> Page:
        """Return at most 8 providers of a key.

        The first page begins at a random place, so every provider is as likely to
        be in it; the cursor holds that place and how many were given.
        """
        alive = [kept for kept in self._keys.get(key, ()) if kept.until > now]
        total = len(alive)
        if not total:
            return Page([], 0, 0)
        start, given = cursor >> 16, cursor & 0xFFFF
        if cursor == 0:
            start = self._rng.randrange(total)
        count = max(0, min(PROVIDERS_PER_REPLY_MAX, total - given))
        records = [alive[(start + given + n) % total].record for n in range(count)]
        given += count
        more = given < total and count > 0
        return Page(records, total, (start << 16 | given) if more else 0)

    def expire(self, now: float) -> None:
        """Drop what has served its time."""
        if now < self._ends_at:
            return
        ended = []
        ends_at = now + PROVIDER_SECONDS
        for providers in self._keys.values():
            for kept in providers:
                if kept.until <= now:
                    ended.append(kept)
                elif kept.until < ends_at:
                    ends_at = kept.until
        for kept in ended:
            self._drop(kept)
        self._ends_at = ends_at

    def _find(self, record: ProviderRecord) -> _Kept | None:
        """Return what is kept of a record's provider under its key."""
        for kept in self._keys.get(record.key, ()):
            if kept.public_key == record.public_key:
                return kept
        return None

    def _make_room(self, key: bytes, source: bytes) -> bool:
        """Free a place for a record of a source, or tell that it gets none."""
        providers = self._keys.get(key)
        if providers is not None and len(providers) >= self._per_key_max:
            of_key: dict[bytes, list[_Kept]] = {}
            for kept in providers:
                of_key.setdefault(kept.source, []).append(kept)
            most = max(of_key, key=lambda each: len(of_key[each]))
            if len(of_key[most]) <= len(of_key.get(source, ())) + 1:
                return False
            self._drop(of_key[most][0])
        if self._shares.total >= self._records_max:
            largest = self._shares.largest()
            if largest is None or self._shares.of(largest) <= (
                self._shares.of(source) + 1
            ):
                return False
            self._drop(self._of_source[largest].oldest())
        return True

    def _drop(self, kept: _Kept) -> None:
        """Forget one record."""
        providers = self._keys[kept.key]
        providers.remove(kept)
        if not providers:
            del self._keys[kept.key]
        source, kept.source = kept.source, b""
        line = self._of_source[source]
        line.drop()
        if not len(line):
            del self._of_source[source]
        self._shares.add(source, -1)
