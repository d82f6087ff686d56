"""Whom this user believes, and the newest that each publisher has said.

The tables of follows, nicknames and release records. A newest record never goes back:
what is older, or of the same order with other bytes, changes nothing here.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from dht import Delegation, RecordError, ReleaseRecord

_SCHEMA = """
CREATE TABLE IF NOT EXISTS follow (
  publisher BLOB NOT NULL, name TEXT NOT NULL, auto TEXT NOT NULL,
  PRIMARY KEY (publisher, name)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nickname (
  nickname TEXT PRIMARY KEY, publisher BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS release (
  publisher BLOB NOT NULL, name TEXT NOT NULL, raw BLOB NOT NULL,
  epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  confirmed INTEGER NOT NULL, confirmed_at REAL NOT NULL,
  PRIMARY KEY (publisher, name)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delegation (
  publisher BLOB PRIMARY KEY, epoch INTEGER NOT NULL, raw BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS conflict (
  publisher BLOB NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,
  sequence INTEGER NOT NULL, one BLOB NOT NULL, other BLOB NOT NULL,
  PRIMARY KEY (publisher, name, epoch, sequence)) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class FollowRow:
    """A name that the user believes a publisher about."""

    publisher: bytes
    name: str
    auto: str


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """The newest release record seen of a name."""

    publisher: bytes
    name: str
    raw: bytes
    order: tuple[int, int]
    confirmed: int
    confirmed_at: float


class TrustStore:
    """Follows, nicknames and newest releases; tables of the node's database."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._db.executescript(_SCHEMA)

    def follow(self, publisher: bytes, name: str, auto: str) -> None:
        """Believe `publisher` about `name`, with the policy `auto`."""
        self._db.execute(
            "INSERT INTO follow VALUES (?,?,?)"
            " ON CONFLICT DO UPDATE SET auto = excluded.auto",
            (publisher, name, auto),
        )

    def unfollow(self, publisher: bytes, name: str) -> bool:
        """No longer follow; False if it was not followed."""
        cursor = self._db.execute(
            "DELETE FROM follow WHERE publisher = ? AND name = ?", (publisher, name)
        )
        return cursor.rowcount > 0

    def follows(self) -> list[FollowRow]:
        """Return everything that is followed."""
        rows = self._db.execute("SELECT * FROM follow ORDER BY name, publisher")
        return [FollowRow(*row) for row in rows]

    def followed(self, publisher: bytes, name: str) -> FollowRow | None:
        """Return how a name is followed, or None."""
        row = self._db.execute(
            "SELECT * FROM follow WHERE publisher = ? AND name = ?", (publisher, name)
        ).fetchone()
        return FollowRow(*row) if row else None

    def set_nickname(self, nickname: str, publisher: bytes) -> None:
        """Call `publisher` by `nickname` from now on."""
        self._db.execute(
            "INSERT INTO nickname VALUES (?,?)"
            " ON CONFLICT DO UPDATE SET publisher = excluded.publisher",
            (nickname, publisher),
        )

    def publisher_of(self, nickname: str) -> bytes | None:
        """Return the publisher that is called `nickname`, or None."""
        row = self._db.execute(
            "SELECT publisher FROM nickname WHERE nickname = ?", (nickname,)
        ).fetchone()
        return bytes(row[0]) if row else None

    def remember_release(
        self, record: ReleaseRecord, confirmed: int, now: float
    ) -> bool:
        """Keep the newest record of a name; True if it is newer than what was known.

        An older record, or other bytes of the same order, change nothing.
        """
        cursor = self._db.execute(
            "INSERT INTO release VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET"
            " raw = excluded.raw, epoch = excluded.epoch,"
            " sequence = excluded.sequence, confirmed = excluded.confirmed,"
            " confirmed_at = excluded.confirmed_at"
            " WHERE (excluded.epoch, excluded.sequence) > (epoch, sequence)",
            [
                record.publisher,
                record.name,
                record.raw,
                record.epoch,
                record.sequence,
                confirmed,
                now,
            ],
        )
        if cursor.rowcount > 0:
            return True
        if not confirmed:
            return False
        self._db.execute(
            "UPDATE release SET confirmed = ?, confirmed_at = ?"
            " WHERE publisher = ? AND name = ? AND raw = ?",
            (confirmed, now, record.publisher, record.name, record.raw),
        )
        return False

    def release(self, publisher: bytes, name: str) -> ReleaseRow | None:
        """Return the newest release record seen of a name, or None."""
        row = self._db.execute(
            "SELECT * FROM release WHERE publisher = ? AND name = ?", (publisher, name)
        ).fetchone()
        if row is None:
            return None
        owner, known_name, raw, epoch, sequence, confirmed, confirmed_at = row
        return ReleaseRow(
            owner, known_name, raw, (epoch, sequence), confirmed, confirmed_at
        )

    # --- epochs and equivocation -----------------------------------------------

    def remember_delegation(self, delegation: Delegation) -> bool:
        """Keep a publisher's delegation of the highest epoch; True if it is news."""
        cursor = self._db.execute(
            "INSERT INTO delegation VALUES (?,?,?) ON CONFLICT DO UPDATE SET"
            " epoch = excluded.epoch, raw = excluded.raw"
            " WHERE excluded.epoch > epoch",
            (delegation.publisher, delegation.epoch, delegation.raw),
        )
        return cursor.rowcount > 0

    def epoch_of(self, publisher: bytes) -> int:
        """Return the highest epoch seen of a publisher; it counts for all names."""
        row = self._db.execute(
            "SELECT epoch FROM delegation WHERE publisher = ?", (publisher,)
        ).fetchone()
        return int(row[0]) if row else 0

    def delegation(self, publisher: bytes, now: float) -> Delegation | None:
        """Return a publisher's newest delegation, unless it has ended at `now`."""
        row = self._db.execute(
            "SELECT raw FROM delegation WHERE publisher = ?", (publisher,)
        ).fetchone()
        if row is None:
            return None
        try:
            return Delegation.verify(row[0], now)
        except RecordError:
            return None

    def remember_conflict(self, one: bytes, other: ReleaseRecord) -> bool:
        """Keep the proof that a publisher signed two things; True if it is news."""
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO conflict VALUES (?,?,?,?,?,?)",
            (other.publisher, other.name, *other.order, one, other.raw),
        )
        return cursor.rowcount > 0

    def conflicts_of(self, publisher: bytes) -> list[tuple[bytes, bytes]]:
        """Return the proofs of a publisher's equivocation in its present epoch."""
        return self._db.execute(
            "SELECT one, other FROM conflict WHERE publisher = ? AND epoch >= ?",
            (publisher, self.epoch_of(publisher)),
        ).fetchall()
