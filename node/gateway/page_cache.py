"""What the gateway has read in the pages of upstreams: tables in catalogue.sqlite.

A page is kept as what it is answered with: its forms, packed, and the files that it
names as one text. All calls block; `Pages` makes them in a thread of their own.
"""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from node.gateway import limits
from node.gateway.named_file import NamedFile
from node.gateway.named_files import PREFIX_BYTES, NamedFiles
from node.gateway.origin import OriginPage
from transfer import Digest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS gateway_page (
  upstream TEXT NOT NULL, path TEXT NOT NULL, url TEXT NOT NULL,
  type TEXT NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL,
  asked_at REAL NOT NULL, missing INTEGER NOT NULL, bytes INTEGER NOT NULL,
  files BLOB NOT NULL,
  PRIMARY KEY (upstream, path)) STRICT;
CREATE TABLE IF NOT EXISTS gateway_form (
  upstream TEXT NOT NULL, path TEXT NOT NULL, form TEXT NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (upstream, path, form)) STRICT;
CREATE TABLE IF NOT EXISTS gateway_digests (
  upstream TEXT NOT NULL, path TEXT NOT NULL, prefixes BLOB NOT NULL,
  PRIMARY KEY (upstream, path)) STRICT;
CREATE TABLE IF NOT EXISTS gateway_upstream (
  name TEXT PRIMARY KEY, mark TEXT NOT NULL, public INTEGER) STRICT;
"""
_TABLES = ("gateway_page", "gateway_form", "gateway_digests")
_LOG_BYTES_MAX = 4 * 1024 * 1024


@dataclass(slots=True)
class StoredPage:
    """A page as it was when the upstream was last asked for it."""

    files: NamedFiles
    url: str = ""
    content_type: str = ""
    etag: str = ""
    modified: str = ""
    asked_at: float = 0.0
    missing: bool = False
    forms: dict[str, bytes] = field(default_factory=dict)
    """What it is answered with, by form."""
    packed: dict[str, bytes] = field(default_factory=dict)
    """The same, as gzip packs it; made after the first answer."""
    tags: dict[str, str] = field(default_factory=dict)
    """The entity tag of each form, once it was answered."""

    def condition(self) -> OriginPage | None:
        """Return what an upstream compares its page with; None if it had none."""
        if self.missing:
            return None
        return OriginPage(
            b"", self.content_type, self.etag, self.url, modified=self.modified
        )

    @property
    def size(self) -> int:
        """How many bytes of memory it takes, about."""
        bodies = (*self.forms.values(), *self.packed.values())
        return len(self.files.text) + sum(map(len, bodies)) + 1000


class PageCache:
    """Pages and the files that they name, by upstream."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            path, isolation_level=None, timeout=30, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(f"PRAGMA journal_size_limit={_LOG_BYTES_MAX}")
        self._leave_old_tables()
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def settle_upstream(
        self, name: str, url: str, *, public: bool | None = None
    ) -> bool | None:
        """Forget all that came from an upstream if its URL is another one now.

        `url` has no credentials; only its digest is kept. `public` says whether the
        upstream was found at public addresses; returned is what was said last.
        """
        mark = sha256(url.encode()).hexdigest()
        row = self._db.execute(
            "SELECT mark, public FROM gateway_upstream WHERE name = ?", (name,)
        ).fetchone()
        is_known = row is not None and row[0] == mark
        last = bool(row[1]) if is_known and row[1] is not None else None
        if is_known and public in (None, last):
            return last
        with self._transaction():
            for table in () if is_known else _TABLES:
                self._db.execute(
                    f"DELETE FROM {table} WHERE upstream = ?",  # noqa: S608
                    (name,),
                )
            self._db.execute(
                "INSERT OR REPLACE INTO gateway_upstream VALUES (?,?,?)",
                (name, mark, public),
            )
        return public

    def find(self, digest: Digest) -> list[NamedFile]:
        """Return what upstreams name for a digest, the newest page of each first."""
        rows = self._db.execute(
            "SELECT upstream, path FROM gateway_digests JOIN gateway_page"
            " USING (upstream, path) WHERE instr(prefixes, ?) > 0"
            " ORDER BY asked_at DESC",
            (digest.raw[:PREFIX_BYTES],),
        ).fetchall()
        found: dict[str, NamedFile] = {}
        for upstream, path in rows:
            named = self._files(upstream, path).find(digest)
            if named is not None:
                found.setdefault(upstream, named)
        return list(found.values())

    def paths(self, upstream: str, start: str) -> list[str]:
        """Return the paths of kept pages that begin with `start`, newest first."""
        rows = self._db.execute(
            "SELECT path FROM gateway_page WHERE upstream = ? AND missing = 0"
            " AND substr(path, 1, ?) = ? ORDER BY asked_at DESC",
            (upstream, len(start), start),
        )
        return [path for (path,) in rows.fetchall()]

    def asked_at(self, upstream: str, path: str) -> float | None:
        """Return when an upstream was last asked for a page, or None."""
        row = self._db.execute(
            "SELECT asked_at FROM gateway_page WHERE upstream = ? AND path = ?",
            (upstream, path),
        ).fetchone()
        return None if row is None else float(row[0])

    def page(self, upstream: str, path: str) -> StoredPage | None:
        """Return a page of an upstream as it was last seen, or None."""
        row = self._db.execute(
            "SELECT url, type, etag, modified, asked_at, missing, files"
            " FROM gateway_page WHERE upstream = ? AND path = ?",
            (upstream, path),
        ).fetchone()
        if row is None:
            return None
        forms = self._db.execute(
            "SELECT form, body FROM gateway_form WHERE upstream = ? AND path = ?",
            (upstream, path),
        ).fetchall()
        url, kind, etag, modified, asked_at, missing, files = row
        return StoredPage(
            files=NamedFiles(upstream, zlib.decompress(files)),
            url=url,
            content_type=kind,
            etag=etag,
            modified=modified,
            asked_at=asked_at,
            missing=bool(missing),
            forms={form: gunzipped(body) for form, body in forms},
            packed=dict(forms),
        )

    def keep(self, upstream: str, path: str, page: StoredPage) -> None:
        """Keep a page instead of the one kept before, and the whole within bounds."""
        files = zlib.compress(page.files.text, 1)
        forms = {form: gzipped(body) for form, body in page.forms.items()}
        page.packed.update(forms)
        prefixes = page.files.prefixes()
        size = len(files) + len(prefixes) + sum(map(len, forms.values())) + 500
        with self._transaction():
            self._remove(upstream, path)
            self._db.execute(
                "INSERT INTO gateway_page VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    upstream, path, page.url, page.content_type, page.etag,
                    page.modified, page.asked_at, page.missing, size, files,
                ),
            )  # fmt: skip
            self._db.executemany(
                "INSERT INTO gateway_form VALUES (?,?,?,?)",
                [(upstream, path, form, body) for form, body in forms.items()],
            )
            if prefixes:
                self._db.execute(
                    "INSERT INTO gateway_digests VALUES (?,?,?)",
                    (upstream, path, prefixes),
                )
            self._shrink()

    def touch(self, upstream: str, path: str, now: float) -> None:
        """Say that the upstream's page is still as it was."""
        self._db.execute(
            "UPDATE gateway_page SET asked_at = ? WHERE upstream = ? AND path = ?",
            (now, upstream, path),
        )

    def _files(self, upstream: str, path: str) -> NamedFiles:
        row = self._db.execute(
            "SELECT files FROM gateway_page WHERE upstream = ? AND path = ?",
            (upstream, path),
        ).fetchone()
        return NamedFiles(upstream, zlib.decompress(row[0]) if row else b"")

    def _shrink(self) -> None:
        """Forget the pages that were asked for longest ago, down to the bound."""
        (total,) = self._db.execute("SELECT sum(bytes) FROM gateway_page").fetchone()
        if total <= limits.PAGES_DISK_BYTES_MAX:
            return
        rows = self._db.execute(
            "SELECT upstream, path, bytes FROM gateway_page ORDER BY asked_at"
        ).fetchall()
        for upstream, path, size in rows:
            if total <= limits.PAGES_DISK_BYTES_MAX * 0.9:
                return
            self._remove(upstream, path)
            total -= size

    def _remove(self, upstream: str, path: str) -> None:
        for table in _TABLES:
            self._db.execute(
                f"DELETE FROM {table} WHERE upstream = ? AND path = ?",  # noqa: S608
                (upstream, path),
            )

    def _leave_old_tables(self) -> None:
        """Drop the tables of 0.1, which held one row for each file of a page."""
        columns = self._db.execute("PRAGMA table_info(gateway_page)").fetchall()
        if columns and "modified" not in {row[1] for row in columns}:
            for table in ("gateway_file", "gateway_page", "gateway_upstream"):
                self._db.execute(f"DROP TABLE IF EXISTS {table}")

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


def gzipped(body: bytes) -> bytes:
    """Return a body as Content-Encoding gzip has it. Blocks."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def gunzipped(packed: bytes) -> bytes:
    """Return what `gzipped` packed. Blocks."""
    return zlib.decompress(packed, 16 + zlib.MAX_WBITS)


class _Transaction:
    """Begins at once, so that waiting for another writer happens at its start."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
