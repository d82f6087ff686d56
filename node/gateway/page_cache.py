"""What the gateway has read in the pages of upstreams: tables in catalogue.sqlite.

Which file an upstream names for which digest, and the pages themselves, for when the
upstream is down. All calls are short and run on the event loop's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from transfer import Digest

_SCHEMA = """
CREATE TABLE IF NOT EXISTS gateway_file (
  digest TEXT NOT NULL, upstream TEXT NOT NULL, project TEXT NOT NULL,
  file TEXT NOT NULL, url TEXT NOT NULL, size INTEGER, strong TEXT NOT NULL,
  PRIMARY KEY (digest, upstream)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gateway_file_by_name
  ON gateway_file (upstream, project, file);
CREATE TABLE IF NOT EXISTS gateway_page (
  upstream TEXT NOT NULL, path TEXT NOT NULL, url TEXT NOT NULL,
  type TEXT NOT NULL, etag TEXT NOT NULL, asked_at REAL NOT NULL,
  missing INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (upstream, path)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gateway_upstream (
  name TEXT PRIMARY KEY, mark TEXT NOT NULL) STRICT;
"""
_STRENGTH = {"sha256": 0, "sha512": 1, "blake2b-256": 2, "sha1": 3, "md5": 4}


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a page of an upstream named."""

    upstream: str
    project: str
    file: str
    url: str
    digests: tuple[Digest, ...]
    """What the page says its digests are; never empty, the strongest first."""
    size: int | None = None

    @property
    def strong(self) -> Digest:
        """The digest that it is looked up and verified by."""
        return self.digests[0]


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page as it was when the upstream was last asked for it."""

    url: str
    content_type: str
    etag: str
    asked_at: float
    missing: bool
    body: bytes


def strongest_first(digests: Iterable[Digest]) -> tuple[Digest, ...]:
    """Return digests in the order in which they are trusted."""
    return tuple(sorted(digests, key=lambda one: _STRENGTH[one.algorithm]))


class PageCache:
    """Files and pages by upstream."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._db.executescript(_SCHEMA)

    def settle(self, upstreams: Mapping[str, str]) -> None:
        """Forget all that came from an upstream whose URL is another one now.

        Only digests of URLs are kept, because a URL may hold a password.
        """
        marks = {
            name: sha256(url.encode()).hexdigest() for name, url in upstreams.items()
        }
        rows = self._db.execute("SELECT name, mark FROM gateway_upstream").fetchall()
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            for name, mark in rows:
                if marks.get(name) != mark:
                    for table in ("gateway_file", "gateway_page"):
                        self._db.execute(
                            f"DELETE FROM {table} WHERE upstream = ?",  # noqa: S608
                            (name,),
                        )
            self._db.execute("DELETE FROM gateway_upstream")
            self._db.executemany(
                "INSERT INTO gateway_upstream VALUES (?,?)", marks.items()
            )

    def name_files(self, files: Iterable[NamedFile]) -> None:
        """Remember what a page names; a later page replaces an earlier one."""
        rows = [
            (
                str(digest), one.upstream, one.project, one.file, one.url, one.size,
                str(one.strong),
            )
            for one in files
            for digest in one.digests
        ]  # fmt: skip
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO gateway_file VALUES (?,?,?,?,?,?,?)", rows
            )

    def find(self, digest: Digest) -> list[NamedFile]:
        """Return what upstreams name for a digest, one for each upstream."""
        return self._files("digest = ?", (str(digest),))

    def find_file(self, upstream: str, project: str, file: str) -> NamedFile | None:
        """Return the file of this name in a project of an upstream, or None."""
        found = self._files(
            "upstream = ? AND project = ? AND file = ?", (upstream, project, file)
        )
        return found[0] if found else None

    def files_of(self, upstream: str, project: str) -> list[NamedFile]:
        """Return the files that are known of a project, each by one digest."""
        return self._files(
            "upstream = ? AND project = ? AND digest = strong ORDER BY file",
            (upstream, project),
        )

    def page(self, upstream: str, path: str) -> StoredPage | None:
        """Return a page of an upstream as it was last seen, or None."""
        row = self._db.execute(
            "SELECT url, type, etag, asked_at, missing, body FROM gateway_page"
            " WHERE upstream = ? AND path = ?",
            (upstream, path),
        ).fetchone()
        if row is None:
            return None
        url, kind, etag, asked_at, missing, body = row
        return StoredPage(url, kind, etag, asked_at, bool(missing), body)

    def keep_page(self, upstream: str, path: str, page: StoredPage) -> None:
        """Keep a page instead of the one kept before."""
        self._db.execute(
            "INSERT OR REPLACE INTO gateway_page VALUES (?,?,?,?,?,?,?,?)",
            (
                upstream, path, page.url, page.content_type, page.etag,
                page.asked_at, page.missing, page.body,
            ),
        )  # fmt: skip

    def touch_page(self, upstream: str, path: str, now: float) -> None:
        """Say that the upstream's page is still as it was."""
        self._db.execute(
            "UPDATE gateway_page SET asked_at = ? WHERE upstream = ? AND path = ?",
            (now, upstream, path),
        )

    def _files(self, where: str, values: tuple[object, ...]) -> list[NamedFile]:
        rows = self._db.execute(
            "SELECT upstream, project, file, url, size, digest, strong"  # noqa: S608
            f" FROM gateway_file WHERE {where}",
            values,
        ).fetchall()
        return [
            NamedFile(
                upstream, project, file, url,
                strongest_first({Digest.parse(strong), Digest.parse(digest)}), size,
            )
            for upstream, project, file, url, size, digest, strong in rows
        ]  # fmt: skip
