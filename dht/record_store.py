"""The release records and delegations this node keeps for others.

A lower order is refused. The same signed body is a renewal, from any sender, and
counts for the sender with the smaller prefix from then on. Another
signed body of the same order does not replace what is held, but is kept beside it as
the proof that the publisher signed both. A record goes at its end, or 24 h after its
last store. When there is no room, the largest prefix loses first
(`dht.prefix_tree`).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from dht.limits import RECORD_KEPT_SECONDS, RECORD_OVERHEAD_BYTES, RECORDS_BYTES_MAX
from dht.prefix_tree import Path, PrefixTree
from dht.wire import Stored

if TYPE_CHECKING:
    from dht.records import Record


class StoreResult(NamedTuple):
    """What became of a record, and the bytes of the one that stood in its way."""

    status: Stored
    held: bytes = b""


class _StoredRecord:
    """One record, the source that stored it, and a proof of equivocation if any."""

    __slots__ = ("conflict", "path", "record", "until")

    def __init__(self, record: Record, path: Path, until: float) -> None:
        self.record = record
        self.path = path
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
        self._keys: dict[bytes, _StoredRecord] = {}
        self._by_path: dict[Path, OrderedDict[bytes, None]] = {}
        self._tree = PrefixTree()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def bytes_held(self) -> int:
        """Bytes of memory that all records take."""
        return self._tree.total

    def put(
        self, key: bytes, record: Record, *, path: Path, now: float, lifetime: float
    ) -> StoreResult:
        """Judge a verified record and keep it if it is the newest of its key.

        `path` holds the prefixes of the source that stores it, `lifetime` is how many
        seconds the record itself still claims.
        """
        until = now + min(lifetime, RECORD_KEPT_SECONDS)
        held = self._keys.get(key)
        if held is not None and held.until <= now:
            self._drop(key)
            held = None
        if held is not None:
            if record.is_same(held.record):
                held.until = max(held.until, until)
                self._count_for(key, held, path)
                return StoreResult(Stored.STORED)
            if record.order < held.record.order:
                return StoreResult(Stored.OLDER, held.record.raw)
            if record.order == held.record.order:
                self._add_conflict(held, record.raw)
                return StoreResult(Stored.CONFLICT, held.record.raw)
        return self._replace(key, _StoredRecord(record, path, until))

    def newest(self, key: bytes, now: float) -> Record | None:
        """Return the record kept under a key."""
        held = self._keys.get(key)
        return held.record if held is not None and held.until > now else None

    def conflict(self, key: bytes, now: float) -> bytes:
        """Return another signed record of the same order, if one came."""
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

    def _count_for(self, key: bytes, held: _StoredRecord, path: Path) -> None:
        """Count a record for another source that stores it, if that takes less room.

        Else a flood could store a publisher's record first, as anybody may, and have
        it go with the oldest of its own.
        """
        for depth, (one, other) in enumerate(zip(path, held.path, strict=False), 1):
            if one == other:
                continue
            would_be = self._tree.of(path[:depth]) + held.room
            if would_be < self._tree.of(held.path[:depth]):
                self._take_out(key, held)
                held.path = path
                self._put_in(key, held)
            return

    def _add_conflict(self, held: _StoredRecord, raw: bytes) -> None:
        """Keep the first proof that a publisher signed two records of one order."""
        if not held.conflict:
            held.conflict = raw
            self._tree.add(held.path, len(raw))

    def _replace(self, key: bytes, stored: _StoredRecord) -> StoreResult:
        """Keep a record that is newer than what is held, if there is room.

        What is held is dropped last: it stays where the newer one finds no room.
        """
        held = self._keys.get(key)
        freed = held.room if held is not None else 0
        self._tree.add(stored.path, stored.room)
        while self._tree.total - freed > self._bytes_max:
            loser = self._tree.largest(stored.path)
            if loser == stored.path:
                self._tree.add(stored.path, -stored.room)
                return StoreResult(Stored.FULL)
            oldest = next(iter(self._by_path[loser]))
            freed = 0 if oldest == key else freed
            self._drop(oldest)
        self._tree.add(stored.path, -stored.room)
        self._drop(key)
        self._put_in(key, stored)
        return StoreResult(Stored.STORED)

    def _drop(self, key: bytes) -> None:
        """Forget the record of a key, if one is kept."""
        held = self._keys.get(key)
        if held is not None:
            self._take_out(key, held)

    def _put_in(self, key: bytes, stored: _StoredRecord) -> None:
        self._keys[key] = stored
        self._by_path.setdefault(stored.path, OrderedDict())[key] = None
        self._tree.add(stored.path, stored.room)

    def _take_out(self, key: bytes, held: _StoredRecord) -> None:
        del self._keys[key]
        keys = self._by_path[held.path]
        del keys[key]
        if not keys:
            del self._by_path[held.path]
        self._tree.add(held.path, -held.room)
