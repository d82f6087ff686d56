"""The index of artifacts: tables in the catalogue, next to the node's own.

Every tree that a new row must enter costs a commit a page at a random place, so
the aliases enter theirs when they are known, and a manifest of one chunk, which is
as quickly computed as read, is not kept at all. The totals are kept in the same
transaction as the rows that they count, so that nothing ever counts all rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.content.artifact import Artifact
from transfer.content.digest import ALIAS_ALGORITHMS, NAME_ALGORITHM, Digest
from transfer.content.manifest import Manifest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from transfer.store.database import Database

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS transfer_artifacts (
        sha256 BLOB NOT NULL PRIMARY KEY,
        size INTEGER NOT NULL,
        manifest BLOB NOT NULL,
        sha512 BLOB,
        blake2b BLOB,
        sha1 BLOB,
        md5 BLOB,
        added_at REAL NOT NULL,
        checked_at REAL NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE INDEX IF NOT EXISTS transfer_by_sha512 ON transfer_artifacts (sha512)
        WHERE sha512 IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS transfer_by_blake2b ON transfer_artifacts (blake2b)
        WHERE blake2b IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS transfer_by_sha1 ON transfer_artifacts (sha1)
        WHERE sha1 IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS transfer_by_md5 ON transfer_artifacts (md5)
        WHERE md5 IS NOT NULL
    """,
    """
    CREATE INDEX IF NOT EXISTS transfer_by_check ON transfer_artifacts (checked_at)
    """,
    """
    CREATE INDEX IF NOT EXISTS transfer_lacking ON transfer_artifacts (added_at)
        WHERE sha512 IS NULL OR blake2b IS NULL OR sha1 IS NULL OR md5 IS NULL
    """,
    """
    CREATE TABLE IF NOT EXISTS transfer_manifests (
        digest BLOB NOT NULL PRIMARY KEY,
        encoded BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS transfer_totals (
        artifacts INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    )
    """,
    # Older versions kept the totals by triggers: half the time of an insertion.
    "DROP TRIGGER IF EXISTS transfer_added",
    "DROP TRIGGER IF EXISTS transfer_removed",
)
_COLUMN_OF = {
    "sha256": "sha256",
    "sha512": "sha512",
    "blake2b-256": "blake2b",
    "sha1": "sha1",
    "md5": "md5",
}
_FIELDS = "sha256, size, manifest, added_at, sha512, blake2b, sha1, md5"
SHELVES = 256
"""Folders of the store, one for each first byte of a SHA-256."""
_FILTER_BITS_MIN = 20
_FILTER_BITS_PER_NAME = 16
# Only the constants above are put into statements; values are always bound.
_FIND = {
    algorithm: f"SELECT {_FIELDS} FROM transfer_artifacts WHERE {column} = ? LIMIT 1"  # noqa: S608
    for algorithm, column in _COLUMN_OF.items()
}
_FIND_MANY = {
    algorithm: f"SELECT {column}, {_FIELDS} FROM transfer_artifacts WHERE {column} IN "  # noqa: S608
    for algorithm, column in _COLUMN_OF.items()
}
_SET_ALIAS = {
    algorithm: f"UPDATE transfer_artifacts SET {column} = ? WHERE sha256 = ?"  # noqa: S608
    for algorithm, column in _COLUMN_OF.items()
}
_LACKING = {
    algorithm: f"SELECT sha256 FROM transfer_artifacts WHERE {column} IS NULL"  # noqa: S608
    for algorithm, column in _COLUMN_OF.items()
}
_LIST = f"SELECT {_FIELDS} FROM transfer_artifacts ORDER BY added_at, sha256"  # noqa: S608
_PAGE = (
    f"SELECT {_FIELDS} FROM transfer_artifacts WHERE sha256 > ?"  # noqa: S608
    " ORDER BY sha256 LIMIT ?"
)
_INSERT = (
    f"INSERT INTO transfer_artifacts ({_FIELDS}, checked_at)"  # noqa: S608
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sha256) DO NOTHING"
)
_INSERT_MANIFEST = "INSERT OR IGNORE INTO transfer_manifests VALUES (?, ?)"
_DELETE_MANIFEST = (
    "DELETE FROM transfer_manifests WHERE digest ="
    " (SELECT manifest FROM transfer_artifacts WHERE sha256 = ?)"
)

_DELETE = "DELETE FROM transfer_artifacts WHERE sha256 = ? RETURNING size"
_COUNT = "UPDATE transfer_totals SET artifacts = artifacts + ?, bytes = bytes + ?"

Row = tuple[Any, ...]


class Index:
    """What the store holds, by digest."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.deletions = 0
        """Grows after each deletion: what was found before may be gone."""
        database.write(_make_tables)
        count, _ = self.totals()
        bits = (_FILTER_BITS_PER_NAME * count).bit_length()
        self._filter_bits = max(bits, _FILTER_BITS_MIN)
        self._filter = bytearray(2**self._filter_bits // 8)
        for shelf in range(SHELVES):
            for raw in self.names_on(shelf):
                self._mark(raw)

    def find(self, digest: Digest) -> Artifact | None:
        """Return the artifact that any of the algorithms names, or None."""
        if digest.algorithm == NAME_ALGORITHM and not self.may_hold(digest.raw):
            return None
        rows = self._read(_FIND[digest.algorithm], (digest.raw,))
        return _artifact(rows[0]) if rows else None

    def find_many(self, algorithm: str, raws: Sequence[bytes]) -> dict[bytes, Artifact]:
        """Return the artifacts that these digests name, by digest; for few at once."""
        if algorithm == NAME_ALGORITHM:
            raws = [raw for raw in raws if self.may_hold(raw)]
        if not raws:
            return {}
        marks = ",".join("?" * len(raws))
        rows = self._read(f"{_FIND_MANY[algorithm]}({marks})", tuple(raws))
        return {row[0]: _artifact(row[1:]) for row in rows}

    def artifacts(self) -> list[Artifact]:
        """Return all artifacts, the oldest first."""
        rows = self._read(_LIST)
        return [_artifact(row) for row in rows]

    def page(self, after: bytes, count: int) -> list[Artifact]:
        """Return the next artifacts in the order of their SHA-256, none at the end."""
        return [_artifact(row) for row in self._read(_PAGE, (after, count))]

    def names_on(self, shelf: int) -> set[bytes]:
        """Return the SHA-256 of every artifact whose first byte is the shelf's."""
        end = bytes([shelf]) + b"\xff" * 32  # longer, and so greater, than any name
        rows = self._read(
            "SELECT sha256 FROM transfer_artifacts WHERE sha256 BETWEEN ? AND ?",
            (bytes([shelf]), end),
        )
        return {row[0] for row in rows}

    def totals(self) -> tuple[int, int]:
        """Return the number of artifacts and the sum of their sizes, in bytes."""
        count, size = self._read("SELECT artifacts, bytes FROM transfer_totals")[0]
        return count, size

    def due_for_check(self, before: float) -> Digest | None:
        """Return the artifact that was checked longest ago, before `before`."""
        rows = self._read(
            "SELECT sha256 FROM transfer_artifacts WHERE checked_at < ?"
            " ORDER BY checked_at LIMIT 1",
            (before,),
        )
        return Digest(NAME_ALGORITHM, rows[0][0]) if rows else None

    def lacking_aliases(self) -> list[Digest]:
        """Return the names of artifacts whose aliases are not all computed."""
        rows = self._read(
            "SELECT sha256 FROM transfer_artifacts WHERE sha512 IS NULL"
            " OR blake2b IS NULL OR sha1 IS NULL OR md5 IS NULL"
        )
        return [Digest(NAME_ALGORITHM, row[0]) for row in rows]

    def lacking(self, algorithm: str) -> list[Digest]:
        """Return the names of artifacts whose digest of an algorithm is pending."""
        rows = self._read(_LACKING[algorithm])
        return [Digest(NAME_ALGORITHM, row[0]) for row in rows]

    def manifest(self, digest: bytes) -> Manifest | None:
        """Return the manifest with this digest, checked against it, or None."""
        rows = self._read(
            "SELECT encoded FROM transfer_manifests WHERE digest = ?", (digest,)
        )
        if not rows:
            return None
        try:
            manifest = Manifest.decode(rows[0][0])
        except ValueError:
            return None
        return manifest if manifest.digest == digest else None

    def insert(self, entries: Iterable[tuple[Artifact, Manifest]], now: float) -> None:
        """Add artifacts with their manifests in one transaction."""
        artifacts: list[Row] = []
        manifests: list[Row] = []
        for artifact, manifest in entries:
            self._mark(artifact.digest.raw)
            aliases = [artifact.aliases.get(name) for name in ALIAS_ALGORITHMS]
            artifacts.append(
                (
                    artifact.digest.raw,
                    artifact.size,
                    artifact.manifest_digest,
                    artifact.added_at,
                    *(None if alias is None else alias.raw for alias in aliases),
                    now,
                )
            )
            if manifest.count > 1:
                manifests.append((manifest.digest, manifest.encode()))

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_INSERT_MANIFEST, manifests)
            sizes = [
                row[1] for row in artifacts if connection.execute(_INSERT, row).rowcount
            ]
            connection.execute(_COUNT, (len(sizes), sum(sizes)))

        self._database.write(work)

    def set_aliases(self, found: Mapping[Digest, Mapping[str, Digest]]) -> None:
        """Store aliases that were computed from verified bytes, in one transaction."""
        changes = [
            (
                _SET_ALIAS[algorithm],
                [
                    (aliases[algorithm].raw, name.raw)
                    for name, aliases in found.items()
                    if algorithm in aliases
                ],
            )
            for algorithm in ALIAS_ALGORITHMS
        ]
        self._write(*changes)

    def set_checked(self, name: Digest, now: float) -> None:
        """Set when an artifact was last found whole."""
        self._write(
            (
                "UPDATE transfer_artifacts SET checked_at = ? WHERE sha256 = ?",
                [(now, name.raw)],
            )
        )

    def delete(self, name: Digest) -> bool:
        """Forget an artifact and its manifest, which belongs to it alone.

        Return whether it was listed.
        """

        def work(connection: sqlite3.Connection) -> bool:
            connection.execute(_DELETE_MANIFEST, (name.raw,))
            deleted = connection.execute(_DELETE, (name.raw,)).fetchall()
            for (size,) in deleted:
                connection.execute(_COUNT, (-1, -size))
            return bool(deleted)

        was_listed = self._database.write(work)
        self.deletions += 1
        return was_listed

    def may_hold(self, name: bytes) -> bool:
        """Whether a SHA-256 may be held; False means surely not.

        A Bloom filter of one hash, in memory: names are digests already. What was
        removed stays marked until the next start.
        """
        place = int.from_bytes(name[:4], "big") >> (32 - self._filter_bits)
        return bool(self._filter[place >> 3] & 1 << (place & 7))

    def _mark(self, name: bytes) -> None:
        place = int.from_bytes(name[:4], "big") >> (32 - self._filter_bits)
        self._filter[place >> 3] |= 1 << (place & 7)

    def _read(self, query: str, values: Row = ()) -> list[Row]:
        return self._database.read(query, values)

    def _write(self, *changes: tuple[str, Sequence[Row]]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for query, rows in changes:
                connection.executemany(query, rows)

        self._database.write(work)


def _make_tables(connection: sqlite3.Connection) -> None:
    # Not executescript, which would end the transaction.
    for statement in _TABLES:
        connection.execute(statement)
    if not connection.execute("SELECT 1 FROM transfer_totals").fetchone():
        # New, or of a version that kept no totals.
        connection.execute(
            "INSERT INTO transfer_totals"
            " SELECT count(*), coalesce(sum(size), 0) FROM transfer_artifacts"
        )


def _artifact(row: Row) -> Artifact:
    name, size, manifest, added_at, *aliases = row
    return Artifact(
        Digest(NAME_ALGORITHM, name),
        size,
        manifest,
        {
            algorithm: Digest(algorithm, raw)
            for algorithm, raw in zip(ALIAS_ALGORITHMS, aliases, strict=True)
            if raw is not None
        },
        added_at,
    )
