"""How much this folder's nodes have sent, received and given, over all their runs."""

from __future__ import annotations

from collections.abc import Mapping

from node.model.mirror import Tables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS total (
  name TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


class Totals:
    """Counts of the runs before this one, and of this one, by their names."""

    def __init__(self, database: Tables) -> None:
        self._database = database
        self._database.executescript(_SCHEMA)
        self._before: dict[str, int] = dict(
            self._database.execute("SELECT name, bytes FROM total")
        )

    def ever(self, name: str, since_start: int) -> int:
        """Return a total over all runs; `since_start` is that of this run."""
        return self._before.get(name, 0) + since_start

    def save(self, since_start: Mapping[str, int]) -> None:
        """Keep the totals with those of this run."""
        rows = [(name, self.ever(name, count)) for name, count in since_start.items()]
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO total VALUES (?,?)", rows
            )
