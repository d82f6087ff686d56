"""The provider records this node keeps for others, with every bound applied.

Lifetimes are counted on the monotonic clock from the moment of storing, so a clock
that jumps neither ends nor revives a record. When the store is full, the source
that takes most room loses its oldest record; a source that itself takes most is
refused.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from dht.fairness import Shares
from dht.limits import (
    PROVIDER_SECONDS,
    PROVIDERS_MAX,
    PROVIDERS_PER_KEY_MAX,
    PROVIDERS_PER_REPLY_MAX,
)

if TYPE_CHECKING:
    import random

    from dht.providers import ProviderRecord


class Page(NamedTuple):
    """Some providers of a key; `cursor` is 0 where there are no more."""

    records: list[ProviderRecord]
    total: int
    cursor: int


class _Kept:
    __slots__ = ("record", "source", "until")

    def __init__(self, record: ProviderRecord, source: bytes, until: float) -> None:
        self.record = record
        self.source = source
        self.until = until


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
        self._keys: dict[bytes, dict[bytes, _Kept]] = {}
        self._of_source: dict[bytes, OrderedDict[tuple[bytes, bytes], None]] = {}
        self._shares = Shares()

    def __len__(self) -> int:
        return self._shares.total

    def put(
        self, record: ProviderRecord, source: bytes, now: float, lifetime: float
    ) -> bool:
        """Keep or renew a verified record for at most 5 h; False if there is no room.

        `lifetime` is how many seconds the record itself still claims.
        """
        self._drop(record.key, record.public_key)
        if not self._make_room(record.key, source):
            return False
        until = now + min(lifetime, PROVIDER_SECONDS)
        kept = self._keys.setdefault(record.key, {})
        kept[record.public_key] = _Kept(record, source, until)
        place = (record.key, record.public_key)
        self._of_source.setdefault(source, OrderedDict())[place] = None
        self._shares.add(source, 1)
        return True

    def withdraw(self, record: ProviderRecord) -> None:
        """Drop what is kept of the record's provider at its address.

        Whoever makes the withdrawal anew has the provider's key; who replays it must
        have its IP address, and a record of another address stays.
        """
        kept = self._keys.get(record.key, {}).get(record.public_key)
        if kept is not None and kept.record.address == record.address:
            self._drop(record.key, record.public_key)

    def page(self, key: bytes, cursor: int, now: float) -> Page:
        """Return at most 8 providers of a key.

        The first page begins at a random place, so every provider is as likely to
        be in it; the cursor holds that place and how many were given.
        """
        alive = [kept for kept in self._keys.get(key, {}).values() if kept.until > now]
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
        ended = [
            (key, public_key)
            for key, providers in self._keys.items()
            for public_key, kept in providers.items()
            if kept.until <= now
        ]
        for key, public_key in ended:
            self._drop(key, public_key)

    def _make_room(self, key: bytes, source: bytes) -> bool:
        """Free a place for a record of a source, or tell that it gets none."""
        providers = self._keys.get(key)
        if providers is not None and len(providers) >= self._per_key_max:
            of_key: dict[bytes, list[bytes]] = {}
            for public_key, kept in providers.items():
                of_key.setdefault(kept.source, []).append(public_key)
            most = max(of_key, key=lambda each: len(of_key[each]))
            if len(of_key[most]) <= len(of_key.get(source, ())) + 1:
                return False
            self._drop(key, of_key[most][0])
        if self._shares.total >= self._records_max:
            largest = self._shares.largest()
            if largest is None or self._shares.of(largest) <= (
                self._shares.of(source) + 1
            ):
                return False
            self._drop(*next(iter(self._of_source[largest])))
        return True

    def _drop(self, key: bytes, public_key: bytes) -> None:
        """Forget one record, if it is kept."""
        providers = self._keys.get(key)
        kept = providers.pop(public_key, None) if providers is not None else None
        if providers is None or kept is None:
            return
        if not providers:
            del self._keys[key]
        places = self._of_source[kept.source]
        del places[(key, public_key)]
        if not places:
            del self._of_source[kept.source]
        self._shares.add(kept.source, -1)
