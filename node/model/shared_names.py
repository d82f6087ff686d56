"""What this node calls its artifacts when another one asks: file names, as hints."""

from __future__ import annotations

from node.model.names import is_file_name
from transfer import Digest
from transfer.store.database import Database

_NAMES = """
SELECT file FROM package_artifact WHERE artifact = ?1
UNION ALL SELECT file FROM direct WHERE artifact = ?1
"""


class SharedNames:
    """Reads names from the catalogue; in any thread but the event loop's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, digest: Digest) -> str:
        """Return the plain file name of an artifact, by its SHA-256, or ""."""
        rows = self._database.read(_NAMES, (str(digest),))
        return next((file for (file,) in rows if is_file_name(file)), "")
