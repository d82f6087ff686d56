"""The release records and delegations this node keeps for others.

A lower order is refused. The same bytes are a renewal, whoever sends them. Other
bytes of the same order do not replace what is held, but are kept beside it as the
proof that the publisher signed both. A record goes at its end, or 24 h after its
last store. When there is no room, the source that takes most of it loses first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from dht.fairness import ShareLedger
from dht.limits import RECORD_KEPT_SECONDS, RECORD_OVERHEAD_BYTES, RECORDS_BYTES_MAX
from dht.wire import Stored

if TYPE_CHECKING:
    from dht.records import Record


class StoreResult(NamedTuple):
    """What became of a record, and the bytes of the one that stood in its way."""

    status: Stored
    held: bytes = b""


class _Kept:
    __slots__ = ("conflict", "record", "source", "until")

    def __init__(self, record: Record, source: bytes, until: float) -> None:
        self.record = record
        self.source = source
        self.until = until
        self.conflict = b""

    @property
    def room(self) -> int:
        """Bytes of memory that this takes."""
        return RECORD_OVERHEAD_BYTES + len(self.record.raw) + len(self.conflict)


class RecordStore:
    """The newest record of each key. `now` is in monotonic seconds."""

    def __init__(self, *, bytes_max: int = RECORDS_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._keys: dict[bytes, _Kept] = {}
        self._of_source: dict[bytes, OrderedDict[bytes, None]] = {}
        self._shares = ShareLedger()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def bytes_held(self) -> int:
        """Bytes of memory that all records take."""
        return self._shares.total

    def put(
        self, key: bytes, record: Record, source: bytes, now: float, lifetime: float
    ) -> StoreResult:
        """Judge a verified record and keep it if it is the newest of its key.

        `lifetime` is how many seconds the record itself still claims.
        """
        until = now + min(lifetime, RECORD_KEPT_SECONDS)
        held = self._keys.get(key)
        if held is not None and held.until <= now:
            self._drop(key)
            held = None
        if held is not None:
            if record.raw == held.record.raw:
                held.until = max(held.until, until)
                return StoreResult(Stored.STORED)
            if record.order < held.record.order:
                return StoreResult(Stored.OLDER, held.record.raw)
            if record.order == held.record.order:
                self._note_conflict(held, record.raw)
                return StoreResult(Stored.CONFLICT, held.record.raw)
        return self._replace(key, record, source, until)

    def newest(self, key: bytes, now: float) -> Record | None:
        """Return the record kept under a key."""
        held = self._keys.get(key)
        return held.record if held is not None and held.until > now else None

    def conflict(self, key: bytes, now: float) -> bytes:
        """Return other bytes of the same order as the record kept, if any came."""
        held = self._keys.get(key)
        return held.conflict if held is not None and held.until > now else b""

    def is_kept(self, key: bytes, raw: bytes, now: float) -> bool:
        """Whether exactly these bytes are kept: a renewal needs no verification."""
        held = self._keys.get(key)
        return held is not None and held.until > now and held.record.raw == raw

    def expire(self, now: float) -> None:
        """Drop what has served its time."""
        for key in [key for key, held in self._keys.items() if held.until <= now]:
            self._drop(key)

    def _note_conflict(self, held: _Kept, raw: bytes) -> None:
        """Keep the first proof that a publisher signed two records of one order."""
        if not held.conflict:
            held.conflict = raw
            self._shares.add(held.source, len(raw))

    def _replace(
        self, key: bytes, record: Record, source: bytes, until: float
    ) -> StoreResult:
        """Keep a record that is newer than what is held, if there is room."""
        kept = _Kept(record, source, until)
        held = self._keys.get(key)
        freed = held.room if held is not None else 0
        while self._shares.total - freed + kept.room > self._bytes_max:
            largest = self._shares.largest()
            if largest is None:
                return StoreResult(Stored.FULL)
            mine = self._shares.of(source) + kept.room
            if self._shares.of(largest) <= mine:
                return StoreResult(Stored.FULL)
            oldest = next(iter(self._of_source[largest]))
            freed = 0 if oldest == key else freed
            self._drop(oldest)
        self._drop(key)
        self._keys[key] = kept
        self._of_source.setdefault(source, OrderedDict())[key] = None
        self._shares.add(source, kept.room)
        return StoreResult(Stored.STORED)

    def _drop(self, key: bytes) -> None:
        """Forget the record of a key, if one is kept."""
        held = self._keys.pop(key, None)
        if held is None:
            return
        keys = self._of_source[held.source]
        del keys[key]
        if not keys:
            del self._of_source[held.source]
        self._shares.add(held.source, -held.room)
