"""What the gateway has read in the pages of upstreams: tables in catalogue.sqlite.

A page is kept as what it is answered with: its forms, packed, and the files that it
names as one text. The catalogue's one writer thread writes it, and does nothing more
than that: pages are packed in the thread that hands them over.
"""

from __future__ import annotations

import zlib
from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import sha256
from sqlite3 import Connection

from node.gateway import limits
from node.gateway.named_file import NamedFile
from node.gateway.named_files import PREFIX_BYTES, NamedFiles
from node.gateway.origin import OriginPage
from node.gateway.upstream import identity_of
from transfer import Digest
from transfer.store.database import Database

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS gateway_page (
      upstream TEXT NOT NULL, path TEXT NOT NULL, url TEXT NOT NULL,
      type TEXT NOT NULL, etag TEXT NOT NULL, modified TEXT NOT NULL,
      asked_at REAL NOT NULL, missing INTEGER NOT NULL, bytes INTEGER NOT NULL,
      files BLOB NOT NULL, PRIMARY KEY (upstream, path)) STRICT""",
    """CREATE TABLE IF NOT EXISTS gateway_form (
      upstream TEXT NOT NULL, path TEXT NOT NULL, form TEXT NOT NULL,
      body BLOB NOT NULL, PRIMARY KEY (upstream, path, form)) STRICT""",
    """CREATE TABLE IF NOT EXISTS gateway_digests (
      upstream TEXT NOT NULL, path TEXT NOT NULL, prefixes BLOB NOT NULL,
      PRIMARY KEY (upstream, path)) STRICT""",
    """CREATE TABLE IF NOT EXISTS gateway_upstream (
      name TEXT PRIMARY KEY, mark TEXT NOT NULL, public INTEGER) STRICT""",
)
_TABLES = ("gateway_page", "gateway_form", "gateway_digests")


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
    kept: tuple[str, ...] = ()
    """The forms that are written to disk; others are made from them."""
    packed: dict[str, bytes] = field(default_factory=dict)
    """Those that were asked for so, as gzip packs them."""
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


@dataclass(frozen=True, slots=True)
class PackedPage:
    """A page as it is written, packed; made by `packed_page`."""

    page: StoredPage
    files: bytes
    prefixes: bytes
    forms: dict[str, bytes]

    @property
    def size(self) -> int:
        """How many bytes it takes on disk, about."""
        forms = sum(map(len, self.forms.values()))
        return len(self.files) + len(self.prefixes) + forms + 500


def packed_page(page: StoredPage) -> PackedPage:
    """Pack a page; what is packed serves its answers too. Blocks."""
    packed = {
        form: page.packed.get(form) or gzipped(page.forms[form]) for form in page.kept
    }
    page.packed.update(packed)
    files = zlib.compress(page.files.text, 1)
    return PackedPage(page, files, page.files.prefixes(), packed)


class PageCache:
    """Pages and the files that they name, by upstream.

    What writes returns a future of the catalogue's writer; what reads blocks. Both
    raise StoreError.
    """

    def __init__(self, database: Database) -> None:
        """Make the tables; blocks."""
        self._database = database
        self._total: int | None = None  # bytes of all pages; of the writer's thread
        database.write(_make_tables)

    def forget_moved_upstream(
        self, name: str, url: str, *, public: bool | None = None
    ) -> Future[bool | None]:
        """Forget all that came from an upstream if its URL is another one now.

        `url` has no credentials; only its digest is kept. `public` says whether the
        upstream was found at public addresses; the future gives what was said last.
        """
        mark = sha256(identity_of(url).encode()).hexdigest()
        as_written = sha256(url.encode()).hexdigest()  # as 0.1 noted it

        def settle(connection: Connection) -> bool | None:
            row = connection.execute(
                "SELECT mark, public FROM gateway_upstream WHERE name = ?", (name,)
            ).fetchone()
            is_known = row is not None and row[0] in (mark, as_written)
            last = bool(row[1]) if is_known and row[1] is not None else None
            if is_known and row[0] == mark and public in (None, last):
                return last
            for table in () if is_known else _TABLES:
                connection.execute(
                    f"DELETE FROM {table} WHERE upstream = ?",  # noqa: S608
                    (name,),
                )
            self._total = None
            connection.execute(
                "INSERT OR REPLACE INTO gateway_upstream VALUES (?,?,?)",
                (name, mark, last if public is None else public),
            )
            return last if public is None else public

        return self._database.submit(settle)

    def find(self, digest: Digest) -> list[NamedFile]:
        """Return what upstreams name for a digest, the newest page of each first."""
        rows = self._database.read(
            "SELECT upstream, files FROM gateway_digests JOIN gateway_page"
            " USING (upstream, path) WHERE instr(prefixes, ?) > 0"
            " ORDER BY asked_at DESC",
            (digest.raw[:PREFIX_BYTES],),
        )
        found: dict[str, NamedFile] = {}
        for upstream, files in rows:
            named = NamedFiles(upstream, zlib.decompress(files)).find(digest)
            if named is not None:
                found.setdefault(upstream, named)
        return list(found.values())

    def paths(self, upstream: str, start: str) -> list[str]:
        """Return the paths of kept pages that begin with `start`, newest first."""
        rows = self._database.read(
            "SELECT path FROM gateway_page WHERE upstream = ? AND missing = 0"
            " AND substr(path, 1, ?) = ? ORDER BY asked_at DESC",
            (upstream, len(start), start),
        )
        return [path for (path,) in rows]

    def asked_at(self, upstream: str, path: str) -> float | None:
        """Return when an upstream was last asked for a page, or None."""
        rows = self._database.read(
            "SELECT asked_at FROM gateway_page WHERE upstream = ? AND path = ?",
            (upstream, path),
        )
        return float(rows[0][0]) if rows else None

    def page(self, upstream: str, path: str) -> StoredPage | None:
        """Return a page of an upstream as it was last seen, or None."""
        rows = self._database.read(
            "SELECT url, type, etag, modified, asked_at, missing, files"
            " FROM gateway_page WHERE upstream = ? AND path = ?",
            (upstream, path),
        )
        if not rows:
            return None
        forms = self._database.read(
            "SELECT form, body FROM gateway_form WHERE upstream = ? AND path = ?",
            (upstream, path),
        )
        url, kind, etag, modified, asked_at, missing, files = rows[0]
        return StoredPage(
            files=NamedFiles(upstream, zlib.decompress(files)),
            url=url,
            content_type=kind,
            etag=etag,
            modified=modified,
            asked_at=asked_at,
            missing=bool(missing),
            forms={form: gunzipped(body) for form, body in forms},
            kept=tuple(form for form, _ in forms),
            packed=dict(forms),
        )

    def store(self, upstream: str, path: str, packed: PackedPage) -> Future[None]:
        """Keep a page instead of the one kept before, and the whole within bounds."""
        page = packed.page

        def write(connection: Connection) -> None:
            total = self._counted(connection)
            total += packed.size - self._remove(connection, upstream, path)
            connection.execute(
                "INSERT INTO gateway_page VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    upstream, path, page.url, page.content_type, page.etag,
                    page.modified, page.asked_at, page.missing, packed.size,
                    packed.files,
                ),
            )  # fmt: skip
            connection.executemany(
                "INSERT INTO gateway_form VALUES (?,?,?,?)",
                [(upstream, path, form, body) for form, body in packed.forms.items()],
            )
            if packed.prefixes:
                connection.execute(
                    "INSERT INTO gateway_digests VALUES (?,?,?)",
                    (upstream, path, packed.prefixes),
                )
            self._total = self._shrunk(connection, total)

        return self._database.submit(write)

    def touch(self, upstream: str, path: str, now: float) -> Future[None]:
        """Note that the upstream's page is still as it was."""

        def write(connection: Connection) -> None:
            connection.execute(
                "UPDATE gateway_page SET asked_at = ? WHERE upstream = ? AND path = ?",
                (now, upstream, path),
            )

        return self._database.submit(write)

    # In the writer's thread.

    def _counted(self, connection: Connection) -> int:
        """Return the size of all pages; unknown again until this job has ended well."""
        total, self._total = self._total, None
        if total is None:
            (total,) = connection.execute(
                "SELECT coalesce(sum(bytes), 0) FROM gateway_page"
            ).fetchone()
        return int(total)

    def _shrunk(self, connection: Connection, total: int) -> int:
        """Forget the pages that were asked for longest ago; return what is left."""
        if total <= limits.PAGES_DISK_BYTES_MAX:
            return total
        rows = connection.execute(
            "SELECT upstream, path FROM gateway_page ORDER BY asked_at"
        ).fetchall()
        for upstream, path in rows:
            if total <= limits.PAGES_DISK_BYTES_MAX * 0.9:
                break
            total -= self._remove(connection, upstream, path)
        return total

    def _remove(self, connection: Connection, upstream: str, path: str) -> int:
        """Forget a page, if it is there; return its size."""
        row = connection.execute(
            "SELECT bytes FROM gateway_page WHERE upstream = ? AND path = ?",
            (upstream, path),
        ).fetchone()
        for table in _TABLES if row else ():
            connection.execute(
                f"DELETE FROM {table} WHERE upstream = ? AND path = ?",  # noqa: S608
                (upstream, path),
            )
        return int(row[0]) if row else 0


def _make_tables(connection: Connection) -> None:
    """Make the tables, without those of 0.1, which held one row for each file."""
    columns = connection.execute("PRAGMA table_info(gateway_page)").fetchall()
    if columns and "modified" not in {row[1] for row in columns}:
        for table in ("gateway_file", "gateway_page", "gateway_upstream"):
            connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in _SCHEMA:
        connection.execute(statement)


def gzipped(body: bytes) -> bytes:
    """Return a body as Content-Encoding gzip has it. Blocks."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


def gunzipped(packed: bytes) -> bytes:
    """Return what `gzipped` packed. Blocks."""
    return zlib.decompress(packed, 16 + zlib.MAX_WBITS)
