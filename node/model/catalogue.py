"""What this node knows of packages, pins and contacts: tables in catalogue.sqlite.

The store keeps its own tables (which artifacts there are) in the same file; this
module never writes those. The tables are those of a mirror (mirror.py) in a node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from node.model.changes import Changes
from node.model.graph import reachable
from node.model.mirror import Tables
from node.model.packages import Package

_SCHEMA = """
CREATE TABLE IF NOT EXISTS package (
  digest TEXT PRIMARY KEY, publisher BLOB NOT NULL, name TEXT NOT NULL,
  version TEXT NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  urgency TEXT NOT NULL, note TEXT NOT NULL, previous TEXT NOT NULL,
  held INTEGER NOT NULL, own INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS package_by_name ON package (publisher, name);
CREATE INDEX IF NOT EXISTS package_of_security ON package (publisher, name)
  WHERE urgency = 'security';
CREATE TABLE IF NOT EXISTS package_artifact (
  package TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
  position INTEGER NOT NULL, file TEXT NOT NULL, artifact TEXT NOT NULL,
  PRIMARY KEY (package, position)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS package_by_artifact ON package_artifact (artifact);
CREATE TABLE IF NOT EXISTS package_replaces (
  package TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
  artifact TEXT NOT NULL, PRIMARY KEY (package, artifact)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS package_dependency (
  package TEXT NOT NULL REFERENCES package ON DELETE CASCADE,
  position INTEGER NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL,
  PRIMARY KEY (package, position)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS package_by_dependency ON package_dependency (digest);
CREATE TABLE IF NOT EXISTS direct (
  artifact TEXT PRIMARY KEY, file TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS private (
  artifact TEXT PRIMARY KEY, file TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS pin (digest TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS damaged (
  artifact TEXT PRIMARY KEY, size INTEGER NOT NULL, manifest BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS contact (
  address TEXT PRIMARY KEY, seen_at REAL NOT NULL) STRICT;
"""

_ADD_DIRECT = (
    "INSERT INTO direct VALUES (?,?) ON CONFLICT DO UPDATE SET file ="
    " CASE WHEN excluded.file = '' THEN file ELSE excluded.file END"
)


@dataclass(frozen=True, slots=True)
class PackageRow:
    """A package file that this node knows; `held` if its artifacts are here too."""

    digest: str
    publisher: bytes
    name: str
    version: str
    epoch: int
    sequence: int
    urgency: str
    note: str
    previous: str
    held: bool
    own: bool

    @property
    def order(self) -> tuple[int, int]:
        """What decides which package of one name is newer."""
        return (self.epoch, self.sequence)


def forget_in(tables: Tables, digests: list[str]) -> None:
    """Do what `Catalogue.forget` does, within a transaction of the caller."""
    for digest in digests:
        tables.execute("UPDATE package SET held = 0 WHERE digest = ?", (digest,))
        tables.execute("DELETE FROM direct WHERE artifact = ?", (digest,))


class Catalogue:
    """Packages and how they hang together; artifacts held by digest; pins."""

    def __init__(self, database: Tables) -> None:
        self._db = database
        self._db.executescript(_SCHEMA)
        self.changes = Changes()
        """Digests about which something changed, for what decides what is offered."""
        self._private = set(self._column("SELECT artifact FROM private", ()))
        # A set: it is asked for every digest of every file that enters the store.

    # --- packages -----------------------------------------------------------

    def add_package(
        self, digest: str, package: Package, *, held: bool, own: bool = False
    ) -> None:
        """Remember a verified package file; `held` and `own` are only ever raised."""
        body = package.body
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "INSERT INTO package VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO "
                "UPDATE SET held = max(held, excluded.held),"
                " own = max(own, excluded.own)",
                [
                    digest,
                    package.publisher,
                    body.name,
                    body.version,
                    body.epoch,
                    body.sequence,
                    body.urgency,
                    body.note,
                    body.previous,
                    held,
                    own,
                ],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO package_artifact VALUES (?,?,?,?)",
                [
                    (digest, position, entry.file, entry.digest)
                    for position, entry in enumerate(body.artifacts)
                ],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO package_replaces VALUES (?,?)",
                [(digest, artifact) for artifact in body.replaces],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO package_dependency VALUES (?,?,?,?)",
                [
                    (digest, position, dependency.kind, dependency.digest)
                    for position, dependency in enumerate(body.dependencies)
                ],
            )
        self.changes.mark([digest, *(entry.digest for entry in body.artifacts)])
        self.changes.mark(
            one.digest for one in body.dependencies if one.kind == "artifact"
        )

    def package(self, digest: str) -> PackageRow | None:
        """Return the package of a package file's digest, if it is known."""
        rows = self._packages("digest = ?", (digest,))
        return rows[0] if rows else None

    def packages_named(self, publisher: bytes, name: str) -> list[PackageRow]:
        """Return the known packages of a name, newest first."""
        return self._packages(
            "publisher = ? AND name = ? ORDER BY epoch DESC, sequence DESC",
            (publisher, name),
        )

    def packages(self) -> list[PackageRow]:
        """Return the packages that are held whole."""
        return self._packages("held ORDER BY name, epoch, sequence", ())

    def package_digests(self) -> list[str]:
        """Return the digests of all known package files."""
        return self._column("SELECT digest FROM package", ())

    def held_names(self) -> list[tuple[bytes, str]]:
        """Return (publisher, name) of all packages held."""
        return self._db.execute(
            "SELECT DISTINCT publisher, name FROM package WHERE held"
        ).fetchall()

    def names_with_security(self) -> list[tuple[bytes, str]]:
        """Return (publisher, name) of all names with a known security release."""
        return self._db.execute(
            "SELECT DISTINCT publisher, name FROM package WHERE urgency = 'security'"
        ).fetchall()

    def holds(self, publisher: bytes, name: str) -> bool:
        """Tell whether a package of this publisher and name is held."""
        return self._exists(
            "SELECT 1 FROM package WHERE publisher = ? AND name = ? AND held LIMIT 1",
            (publisher, name),
        )

    def files_of(self, package: str) -> list[tuple[str, str]]:
        """Return (file name, artifact) of a package, in its own order."""
        return self._db.execute(
            "SELECT file, artifact FROM package_artifact WHERE package = ?"
            " ORDER BY position",
            (package,),
        ).fetchall()

    def replaced_by(self, package: str) -> list[str]:
        """Return the artifacts that a package replaces."""
        return self._column(
            "SELECT artifact FROM package_replaces WHERE package = ?", (package,)
        )

    def dependencies_of(self, package: str) -> list[tuple[str, str]]:
        """Return (kind, digest) of the direct dependencies of a package."""
        return self._db.execute(
            "SELECT kind, digest FROM package_dependency WHERE package = ?"
            " ORDER BY position",
            (package,),
        ).fetchall()

    def contents(self) -> dict[str, set[str]]:
        """Return all that each held package names: artifacts and dependencies."""
        return self._pairs(
            "SELECT package, artifact FROM package_artifact JOIN package"
            " ON package.digest = package WHERE held UNION ALL"
            " SELECT package, package_dependency.digest FROM package_dependency"
            " JOIN package ON package.digest = package WHERE held"
        )

    def dependents(self) -> dict[str, set[str]]:
        """Return the held packages that name each dependency."""
        return self._pairs(
            "SELECT package_dependency.digest, package FROM package_dependency"
            " JOIN package ON package.digest = package WHERE held"
        )

    def packages_with(self, artifact: str) -> list[tuple[PackageRow, str]]:
        """Return the packages that an artifact belongs to, with its file name."""
        found = self._db.execute(
            "SELECT package, file FROM package_artifact WHERE artifact = ?", (artifact,)
        ).fetchall()
        rows = [(self.package(package), file) for package, file in found]
        return [(row, file) for row, file in rows if row is not None]

    # --- artifacts held by digest alone, and pins ----------------------------

    def add_direct(self, artifact: str, file: str) -> None:
        """Remember that an artifact was shared or fetched by its digest alone.

        Nothing is written where that is known: a full disk stops no fetch of what is
        held.
        """
        found = self._column("SELECT file FROM direct WHERE artifact = ?", (artifact,))
        if not found or file not in ("", found[0]):
            self._db.execute(_ADD_DIRECT, (artifact, file))
        self.changes.mark([artifact])

    def share(self, files: Sequence[tuple[str, str]]) -> None:
        """Hold artifacts by their digest alone, and keep none of them private.

        `files` are artifacts with their file names. However many there are, it is one
        transaction of two statements.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            private = [(one,) for one, _ in files if self.is_private(one)]
            self._db.executemany("DELETE FROM private WHERE artifact = ?", private)
            self._private.difference_update(one for (one,) in private)
            self._db.executemany(_ADD_DIRECT, files)
        self.changes.mark(artifact for artifact, _ in files)

    def add_directs(self, artifacts: Iterable[str]) -> None:
        """Remember in one transaction that artifacts are held by digest alone."""
        rows = [(artifact,) for artifact in artifacts]
        self._db.executemany("INSERT OR IGNORE INTO direct VALUES (?,'')", rows)
        self.changes.mark(artifact for (artifact,) in rows)

    def digests_starting(self, prefix: str) -> list[str]:
        """Return the known digests of artifacts and packages that begin so."""
        # A range, which an index finds. LIKE would read every row that there is.
        return self._column(
            "SELECT artifact FROM direct WHERE artifact BETWEEN ?1 AND ?2"
            " UNION SELECT artifact FROM package_artifact"
            " WHERE artifact BETWEEN ?1 AND ?2"
            " UNION SELECT digest FROM package WHERE digest BETWEEN ?1 AND ?2",
            (prefix.lower(), f"{prefix.lower()}~"),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of why anything is held."""
        return not self._exists(
            "SELECT 1 FROM package UNION ALL SELECT 1 FROM direct LIMIT 1", ()
        )

    def directs(self) -> set[str]:
        """Return the artifacts that are held by their digest alone."""
        return set(self._column("SELECT artifact FROM direct", ()))

    def is_direct(self, artifact: str) -> bool:
        """Tell whether an artifact is held by its digest alone."""
        return self._exists("SELECT 1 FROM direct WHERE artifact = ?", (artifact,))

    def is_wished(self, artifact: str) -> bool:
        """Tell whether the user holds an artifact by its digest, or pinned it."""
        return self.is_direct(artifact) or self.is_pinned(artifact)

    def direct_file(self, artifact: str) -> str:
        """Return the file name under which an artifact was shared or came, or ""."""
        found = self._column(
            "SELECT file FROM direct WHERE artifact = ?1"
            " UNION ALL SELECT file FROM private WHERE artifact = ?1",
            (artifact,),
        )
        return found[0] if found else ""

    def forget(self, digests: list[str]) -> None:
        """No longer hold these packages, nor these artifacts by their digest.

        What a package file says stays known: it costs little and may be asked again.
        """
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            forget_in(self._db, digests)
        self.changes.mark(digests)

    def mark_damaged(self, artifact: str, size: int, manifest: bytes) -> None:
        """Remember that an artifact was set aside and has to be fetched again."""
        self.changes.mark([artifact])
        self._db.execute(
            "INSERT OR REPLACE INTO damaged VALUES (?,?,?)", (artifact, size, manifest)
        )

    def forget_damaged(self, artifact: str) -> None:
        """Remember that an artifact is whole again, or not wanted any more."""
        self.changes.mark([artifact])
        self._db.execute("DELETE FROM damaged WHERE artifact = ?", (artifact,))

    def damaged(self) -> list[tuple[str, int, bytes]]:
        """Return what has to be fetched again: digest, size, manifest's digest."""
        return list(self._db.execute("SELECT artifact, size, manifest FROM damaged"))

    def is_known(self, artifact: str) -> bool:
        """Tell whether an artifact is held for a reason that others may know."""
        return self._exists(
            "SELECT 1 FROM direct WHERE artifact = ?1 UNION ALL"
            " SELECT 1 FROM package_artifact WHERE artifact = ?1 UNION ALL"
            " SELECT 1 FROM package WHERE digest = ?1 LIMIT 1",
            (artifact,),
        )

    def make_private(self, artifact: str, file: str) -> None:
        """Never announce or serve an artifact: it came from a private upstream."""
        self.changes.mark([artifact])
        self._private.add(artifact)
        self._db.execute(
            "INSERT OR REPLACE INTO private VALUES (?,?)", (artifact, file)
        )

    def make_public(self, artifact: str) -> None:
        """No longer keep an artifact private."""
        self.changes.mark([artifact])
        self._private.discard(artifact)
        self._db.execute("DELETE FROM private WHERE artifact = ?", (artifact,))

    def is_private(self, artifact: str) -> bool:
        """Tell whether an artifact must not leave this machine; in any thread."""
        return artifact in self._private

    def privates(self) -> set[str]:
        """Return the artifacts that are kept private."""
        return set(self._private)

    def naming(self, digest: str) -> list[str]:
        """Return the packages that contain `digest`, or name it as a dependency."""
        return self._column(
            "SELECT package FROM package_artifact WHERE artifact = ?1 UNION"
            " SELECT package FROM package_dependency WHERE digest = ?1",
            (digest,),
        )

    def needed_by(self, digest: str) -> list[str]:
        """Return the packages that name `digest` as a dependency."""
        return self._column(
            "SELECT package FROM package_dependency WHERE digest = ?", (digest,)
        )

    def pin(self, digest: str) -> None:
        """Pin an artifact or a package."""
        self._db.execute("INSERT OR IGNORE INTO pin VALUES (?)", (digest,))

    def unpin(self, digest: str) -> bool:
        """Unpin; False if it was not pinned."""
        return (
            self._db.execute("DELETE FROM pin WHERE digest = ?", (digest,)).rowcount > 0
        )

    def pins(self) -> list[str]:
        """Return the digests that are pinned."""
        return self._column("SELECT digest FROM pin ORDER BY digest", ())

    def protected(self) -> list[str]:
        """Return what cleaning never takes: what is pinned, and own packages."""
        own = self._column("SELECT digest FROM package WHERE own AND held", ())
        return sorted({*self.pins(), *own})

    def pinned(self) -> set[str]:
        """Return every digest that a pin covers: packages with all they need."""
        return reachable(
            self.pins(),
            lambda one: [
                named for _, named in (*self.files_of(one), *self.dependencies_of(one))
            ],
        )

    def is_pinned(self, digest: str) -> bool:
        """Tell whether a pin covers a digest: its own, or one of what names it."""
        found: set[str] = set()
        waiting = [digest]
        while waiting:
            one = waiting.pop()
            if self._exists("SELECT 1 FROM pin WHERE digest = ?", (one,)):
                return True
            if one not in found:
                found.add(one)
                waiting += self.naming(one)
        return False

    # --- contacts, to join again after a restart -----------------------------

    def remember_contacts(self, addresses: list[str], now: float) -> None:
        """Keep these addresses instead of the ones kept before."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM contact")
            self._db.executemany(
                "INSERT OR IGNORE INTO contact VALUES (?,?)",
                [(address, now) for address in addresses],
            )

    def contacts(self) -> list[str]:
        """Return the addresses kept."""
        return self._column("SELECT address FROM contact ORDER BY address", ())

    def _column(self, sql: str, values: tuple[object, ...]) -> list[str]:
        return [row[0] for row in self._db.execute(sql, values)]

    def _packages(self, where: str, values: tuple[object, ...]) -> list[PackageRow]:
        rows = self._db.execute(
            f"SELECT * FROM package WHERE {where}",  # noqa: S608 - texts of this file
            values,
        )
        return [
            replace(PackageRow(*row), held=bool(row[9]), own=bool(row[10]))
            for row in rows
        ]

    def _pairs(self, sql: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for one, other in self._db.execute(sql):
            found.setdefault(one, set()).add(other)
        return found

    def _exists(self, sql: str, values: tuple[object, ...]) -> bool:
        return self._db.execute(sql, values).fetchone() is not None
