"""The index of artifacts: two tables in the catalogue, next to the node's own.

Writes go through one connection and reads through another, each under its
lock: with a write-ahead log a reader never waits for a writer's fsync. Every
tree that a new row must enter costs a commit a page at a random place, so the
aliases enter theirs when they are known, and a manifest of one chunk, which is
as quickly computed as read, is not kept at all.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Any

from transfer.content.artifact import Artifact
from transfer.content.digest import ALIAS_ALGORITHMS, NAME_ALGORITHM, Digest
from transfer.content.manifest import Manifest
from transfer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_TABLES = """
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
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS transfer_by_sha512 ON transfer_artifacts (sha512)
    WHERE sha512 IS NOT NULL;
CREATE INDEX IF NOT EXISTS transfer_by_blake2b ON transfer_artifacts (blake2b)
    WHERE blake2b IS NOT NULL;
CREATE INDEX IF NOT EXISTS transfer_by_sha1 ON transfer_artifacts (sha1)
    WHERE sha1 IS NOT NULL;
CREATE INDEX IF NOT EXISTS transfer_by_md5 ON transfer_artifacts (md5)
    WHERE md5 IS NOT NULL;
CREATE INDEX IF NOT EXISTS transfer_by_check ON transfer_artifacts (checked_at);
CREATE INDEX IF NOT EXISTS transfer_lacking ON transfer_artifacts (added_at)
    WHERE sha512 IS NULL OR blake2b IS NULL OR sha1 IS NULL OR md5 IS NULL;
CREATE TABLE IF NOT EXISTS transfer_manifests (
    digest BLOB NOT NULL PRIMARY KEY,
    encoded BLOB NOT NULL
);
"""
_COLUMN_OF = {
    "sha256": "sha256",
    "sha512": "sha512",
    "blake2b-256": "blake2b",
    "sha1": "sha1",
    "md5": "md5",
}
_FIELDS = "sha256, size, manifest, added_at, sha512, blake2b, sha1, md5"
_BUSY_SECONDS = 10.0
_MARK_BITS = 20
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
_LIST = f"SELECT {_FIELDS} FROM transfer_artifacts ORDER BY added_at, sha256"  # noqa: S608
_INSERT = (
    f"INSERT OR REPLACE INTO transfer_artifacts ({_FIELDS}, checked_at)"  # noqa: S608
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_MANIFEST = "INSERT OR IGNORE INTO transfer_manifests VALUES (?, ?)"
_DELETE_MANIFEST = (
    "DELETE FROM transfer_manifests WHERE digest ="
    " (SELECT manifest FROM transfer_artifacts WHERE sha256 = ?)"
)

Row = tuple[Any, ...]


class Index:
    """What the store holds, by digest."""

    def __init__(self, path: Path) -> None:
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        try:
            self._writer = _connect(path)
            try:
                self._writer.executescript(_TABLES)
                self._reader = _connect(path)
            except sqlite3.Error:
                self._writer.close()
                raise
        except sqlite3.Error as error:
            raise _told(path, error) from error
        self._path = path
        self._marks = bytearray(2**_MARK_BITS // 8)
        for raw in self.names():
            self._mark(raw)

    def close(self) -> None:
        """Close both connections; twice does no harm."""
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()

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

    def names(self) -> set[bytes]:
        """Return the SHA-256 of every artifact."""
        rows = self._read("SELECT sha256 FROM transfer_artifacts")
        return {row[0] for row in rows}

    def bytes_held(self) -> int:
        """Return the sizes of all artifacts together."""
        rows = self._read("SELECT coalesce(sum(size), 0) FROM transfer_artifacts")
        return int(rows[0][0])

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
        artifacts, manifests = [], []
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
        self._write((_INSERT_MANIFEST, manifests), (_INSERT, artifacts))

    def set_aliases(self, found: Mapping[Digest, Mapping[str, Digest]]) -> None:
        """Keep aliases that were computed from verified bytes, in one transaction."""
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
        """Remember when an artifact was last found whole."""
        self._write(
            (
                "UPDATE transfer_artifacts SET checked_at = ? WHERE sha256 = ?",
                [(now, name.raw)],
            )
        )

    def delete(self, name: Digest) -> None:
        """Forget an artifact and its manifest, which belongs to it alone."""
        raw = [(name.raw,)]
        self._write(
            (_DELETE_MANIFEST, raw),
            ("DELETE FROM transfer_artifacts WHERE sha256 = ?", raw),
        )

    def may_hold(self, name: bytes) -> bool:
        """Tell, without a look into the tables, where a SHA-256 is surely not held.

        What was held once stays marked, and so does one in a million of all names
        for each artifact.
        """
        place = int.from_bytes(name[:4], "big") >> (32 - _MARK_BITS)
        return bool(self._marks[place >> 3] & 1 << (place & 7))

    def _mark(self, name: bytes) -> None:
        place = int.from_bytes(name[:4], "big") >> (32 - _MARK_BITS)
        self._marks[place >> 3] |= 1 << (place & 7)

    def _read(self, query: str, values: Row = ()) -> list[Row]:
        try:
            with self._read_lock:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _told(self._path, error) from error

    def _write(self, *changes: tuple[str, Sequence[Row]]) -> None:
        try:
            with self._write_lock, self._writer:
                self._writer.execute("BEGIN IMMEDIATE")
                for query, rows in changes:
                    self._writer.executemany(query, rows)
        except sqlite3.Error as error:
            raise _told(self._path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


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


def _told(path: Path, error: sqlite3.Error) -> StoreError:
    return StoreError(f"The catalogue {path} failed: {error}.")
