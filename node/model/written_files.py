"""The files that `fetch` wrote into folders, so that it overwrites no others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from node.model.mirror import Tables, not_awaited

_SCHEMA = """
CREATE TABLE IF NOT EXISTS written_file (
  path TEXT PRIMARY KEY, digest TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS written_by_digest ON written_file (digest);
"""
_AT_ONCE = 500  # paths in one statement; SQLite takes 999 at least


class WrittenFiles:
    """Which content `fetch` wrote where: digests by absolute path."""

    def __init__(self, database: Tables) -> None:
        self._database = database
        self._database.executescript(_SCHEMA)

    def digests(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Return the digest last written to each of `paths`, where one was."""
        waiting = {str(path): path for path in paths}
        found: dict[Path, str] = {}
        names = list(waiting)
        for start in range(0, len(names), _AT_ONCE):
            part = names[start : start + _AT_ONCE]
            places = ",".join("?" * len(part))
            rows = self._database.execute(
                f"SELECT path, digest FROM written_file WHERE path IN ({places})",  # noqa: S608
                part,
            )
            found |= {waiting[path]: digest for path, digest in rows}
        return found

    def paths(self, digest: str) -> list[Path]:
        """Return where this content was written last."""
        rows = self._database.execute(
            "SELECT path FROM written_file WHERE digest = ? ORDER BY path", (digest,)
        )
        return [Path(path) for (path,) in rows]

    def remember(self, written: Mapping[Path, str]) -> None:
        """Keep what was written just now, by path."""
        with not_awaited(), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "INSERT OR REPLACE INTO written_file VALUES (?,?)",
                [(str(path), digest) for path, digest in written.items()],
            )
