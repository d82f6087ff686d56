"""Whom this user believes, and the newest that each publisher has said.

The rules, in the manner of The Update Framework (TUF 1.0.33, section 5):

1. Nothing unverified enters: records and delegations come as verified objects.
2. A publisher is its root key. It speaks for itself, or through a release key that it
   delegated for an *epoch*.
3. The highest epoch seen of a publisher counts for all of its names. A delegation of a
   higher epoch *revokes* everything that a lower one signed, also what is kept here.
4. Releases of one name are ordered by (epoch, sequence). The newest seen is kept, and
   never goes back: an older record changes nothing (no rollback, no replay).
5. Two records are the same *statement* where their signed bodies are. The encoding
   around a body, which no signature covers, is no evidence against anybody.
6. Two different statements of one order are *equivocation*. The first one stays the
   newest, both are kept as proof, and the publisher is not obeyed until its next epoch.
7. A release outlives its time here: that it has expired, or that nobody has confirmed
   it for long, is a doubt to show, not a reason to forget how far a name has come.

So what counts of a name is its newest release, if it is neither revoked (3) nor in
conflict (6): `counting`. All that a release causes is derived from that, and nothing of
it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dht import Delegation, Network, RecordError, ReleaseRecord
from node.model.mirror import Tables

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
  package TEXT NOT NULL, urgency TEXT NOT NULL, issued_at INTEGER NOT NULL,
  PRIMARY KEY (publisher, name)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS delegation (
  publisher BLOB PRIMARY KEY, epoch INTEGER NOT NULL, raw BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS conflict (
  publisher BLOB NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,
  sequence INTEGER NOT NULL, one BLOB NOT NULL, other BLOB NOT NULL,
  PRIMARY KEY (publisher, name, epoch, sequence)) STRICT, WITHOUT ROWID;
"""
_RELEASE = (
    "publisher, name, raw, epoch, sequence, confirmed, confirmed_at, package, urgency,"
    " issued_at"
)


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
    package: str
    """The digest of the package file that it points to."""
    urgency: str
    issued_at: int

    def record(self, network: Network) -> ReleaseRecord:
        """Return the record; RecordError if it is not valid in the network.

        It is verified at the time of its last confirmation, when it had not ended. A
        publisher whose clock was ahead signed it later than that.
        """
        at = max(self.confirmed_at, self.issued_at)
        return ReleaseRecord.verify(self.raw, at, network=network)


def same_statement(one: ReleaseRecord, other: ReleaseRecord) -> bool:
    """Tell whether two records say, and sign, the same."""
    return replace(one, raw=b"") == replace(other, raw=b"")


class TrustStore:
    """Follows, nicknames and newest releases; tables of the node's database."""

    def __init__(self, database: Tables) -> None:
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

    def nickname_of(self, publisher: bytes) -> str | None:
        """Return the first nickname of a publisher in the alphabet, or None."""
        row = self._db.execute(
            "SELECT min(nickname) FROM nickname WHERE publisher = ?", (publisher,)
        ).fetchone()
        return None if row[0] is None else str(row[0])

    def remember_release(
        self,
        record: ReleaseRecord,
        confirmed: int,
        now: float,
        *,
        is_mended: bool = False,
    ) -> bool:
        """Keep the newest record of a name; True if it is newer than what was known.

        An older record, or other bytes of the same order, change nothing. Where the one
        kept is not valid, `is_mended` lets a valid one of the same order replace it.
        """
        cursor = self._db.execute(
            "INSERT INTO release VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET"
            " raw = excluded.raw, epoch = excluded.epoch,"
            " sequence = excluded.sequence, confirmed = excluded.confirmed,"
            " confirmed_at = excluded.confirmed_at, package = excluded.package,"
            " urgency = excluded.urgency, issued_at = excluded.issued_at"
            " WHERE (excluded.epoch, excluded.sequence) > (epoch, sequence)"
            " OR (? AND (excluded.epoch, excluded.sequence) = (epoch, sequence))",
            [
                record.publisher,
                record.name,
                record.raw,
                record.epoch,
                record.sequence,
                confirmed,
                now,
                f"sha256:{record.package.hex()}",
                record.urgency,
                record.issued_at,
                is_mended,
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
            f"SELECT {_RELEASE} FROM release"  # noqa: S608 - a constant of this file
            " WHERE publisher = ? AND name = ?",
            (publisher, name),
        ).fetchone()
        return _release_row(row) if row else None

    def counting(self, publisher: bytes, name: str) -> ReleaseRow | None:
        """Return the newest release of a name, unless it is revoked or in conflict."""
        row = self.release(publisher, name)
        if row is None or row.order[0] < self.epoch_of(publisher):
            return None
        return None if self.conflicts_of(publisher) else row

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


def _release_row(row: tuple[Any, ...]) -> ReleaseRow:
    publisher, name, raw, epoch, sequence, *rest = row
    return ReleaseRow(publisher, name, raw, (epoch, sequence), *rest)
