"""`catalogue.sqlite`: one file, one schema version, migrations in order.

Its tables belong to `node/model/`, to the gateway's page cache and to the store's
index. Each owner creates its tables as they are now; what is here brings the tables of
an older version there first. The version is in `PRAGMA user_version`:

1. A file of a newer version is refused, and not a byte of it is changed.
2. Each migration runs in one transaction with the new version number, so a crash
   leaves the version before or the version after it.
3. A migration is history: it never changes once a version with it was released, and it
   finds the tables that it changes missing where the file was made by the store alone.
4. A file that is no database is set aside under another name. A new one takes its
   place, and the store is indexed again from its files.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from dht import RecordError, ReleaseRecord
from node.errors import NodeError
from node.model.trust_store import same_statement

log = logging.getLogger(__name__)

BUSY_SECONDS = 30.0
_NO_DATABASE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}

Migration = Callable[[sqlite3.Connection], None]


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, migrated to the version of this program.

    Raise NodeError for a file that a newer version wrote, or that cannot be opened.
    """
    try:
        return _open(path)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF not in _NO_DATABASE:
            raise NodeError(f"cannot open {path}: {error}") from error
    kept = _set_aside(path)
    log.warning(
        "%s was damaged; it was kept as %s, and the store is indexed again. Follows, "
        "pins and nicknames were in it: set them again",
        path,
        kept.name,
    )
    return _open(path)


def migrate(database: sqlite3.Connection, migrations: Iterable[Migration]) -> None:
    """Run the migrations that the file has not had yet, each in one transaction."""
    done = version_of(database)
    for number, migration in enumerate(migrations, 1):
        if number <= done:
            continue
        database.execute("BEGIN IMMEDIATE")
        try:
            migration(database)
            database.execute(f"PRAGMA user_version = {number:d}")
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def version_of(database: sqlite3.Connection) -> int:
    """Return the schema version of an open file; 0 for a new one and for 0.1."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _open(path: Path) -> sqlite3.Connection:
    _refuse_newer(path)
    database = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("PRAGMA foreign_keys=ON")
        # Damage to the schema shows here, not in the first statement of an owner.
        database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        migrate(database, MIGRATIONS)
    except BaseException:
        database.close()
        raise
    return database


def _refuse_newer(path: Path) -> None:
    """Raise NodeError for a newer file; look at it without writing anything."""
    if not path.exists():
        return
    looking = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    with contextlib.closing(looking):
        version = version_of(looking)
    if version > len(MIGRATIONS):
        raise NodeError(
            f"{path} was written by a newer Caravan (its format is {version}, this one "
            f"reads up to {len(MIGRATIONS)}): upgrade, or choose another --home"
        )


def _set_aside(path: Path) -> Path:
    """Rename a damaged file, and what SQLite keeps beside it."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    path.rename(kept)
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(
                kept.with_name(kept.name + suffix)
            )
    return kept


def _has_table(database: sqlite3.Connection, name: str) -> bool:
    found = database.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)
    )
    return found.fetchone() is not None


# --- the migrations, oldest first -----------------------------------------------------


def _name_what_releases_point_to(database: sqlite3.Connection) -> None:
    """Keep each release's package, urgency and date beside its signed bytes.

    A record that is not valid any more keeps its order, so that nothing goes back: one
    of a private network from before records were bound to their network.
    """
    if not _has_table(database, "release"):
        return
    for column in ("package TEXT", "urgency TEXT", "issued_at INTEGER"):
        name, kind = column.split()
        default = "0" if kind == "INTEGER" else "''"
        database.execute(
            f"ALTER TABLE release ADD COLUMN {column} NOT NULL DEFAULT {default}"
        )
    rows = database.execute(
        "SELECT publisher, name, raw, confirmed_at FROM release"
    ).fetchall()
    for publisher, name, raw, confirmed_at in rows:
        record = _verified(raw, confirmed_at)
        if record is None:
            continue
        database.execute(
            "UPDATE release SET package = ?, urgency = ?, issued_at = ?"
            " WHERE publisher = ? AND name = ?",
            (
                f"sha256:{record.package.hex()}",
                record.urgency,
                record.issued_at,
                publisher,
                name,
            ),
        )


def _clear_framed_publishers(database: sqlite3.Connection) -> None:
    """Forget conflicts that are one signed statement in two encodings.

    Version 0.1 took those for proofs of equivocation. What has expired proves nothing
    that still matters.
    """
    if not _has_table(database, "conflict"):
        return
    now = time.time()
    for raws in database.execute("SELECT one, other FROM conflict").fetchall():
        one, other = (_verified(raw, now) for raw in raws)
        if one is None or other is None or same_statement(one, other):
            database.execute("DELETE FROM conflict WHERE one = ? AND other = ?", raws)


def _derive_withdrawals(database: sqlite3.Connection) -> None:
    """Drop the table of withdrawn artifacts: they follow from the newest releases."""
    database.execute("DROP TABLE IF EXISTS withdrawn")


def _keep_directs_once(database: sqlite3.Connection) -> None:
    """Keep what is held by its digest alone in one tree instead of two."""
    if not _has_table(database, "direct"):
        return
    database.execute(
        "CREATE TABLE direct_once (artifact TEXT PRIMARY KEY, file TEXT NOT NULL)"
        " STRICT, WITHOUT ROWID"
    )
    database.execute("INSERT INTO direct_once SELECT * FROM direct ORDER BY artifact")
    database.execute("DROP TABLE direct")
    database.execute("ALTER TABLE direct_once RENAME TO direct")


def _verified(raw: bytes, at: float) -> ReleaseRecord | None:
    try:
        return ReleaseRecord.verify(raw, at)
    except RecordError:
        return None


MIGRATIONS: tuple[Migration, ...] = (
    _name_what_releases_point_to,
    _clear_framed_publishers,
    _derive_withdrawals,
    _keep_directs_once,
)
