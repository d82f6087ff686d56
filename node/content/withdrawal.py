"""A security release makes a holder stop offering what it replaces.

So a list of vulnerable nodes empties itself. Only what is held through an earlier
package of the same publisher and name is touched; the file stays on disk.
"""

from __future__ import annotations

from node.errors import RefusedError
from node.model.catalogue import Catalogue
from node.model.keys import publisher_text


class Withdrawal:
    """Decides what is withdrawn, and says why to those who ask for it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def apply(self, package: str) -> list[str]:
        """Withdraw what a security release replaces; returns the artifacts."""
        release = self._catalogue.package(package)
        if release is None or release.urgency != "security":
            return []
        owner = (release.publisher, release.name)
        settled = self._catalogue.pinned() | self._catalogue.withdrawn().keys()
        withdrawn = [
            artifact
            for artifact in self._catalogue.replaced_by(package)
            if artifact not in settled and self._held_only_through(artifact, owner)
        ]
        for artifact in withdrawn:
            self._catalogue.withdraw(artifact, package)
        return withdrawn

    def check(self, artifact: str) -> None:
        """Raise RefusedError where an artifact was withdrawn, with who and why."""
        package = self._catalogue.withdrawn().get(artifact)
        if package is None:
            return
        release = self._catalogue.package(package)
        why = "a security release replaced it"
        if release is not None:
            why = (
                f"{release.name} {release.version} by "
                f"{publisher_text(release.publisher)} replaced it"
            )
            why += f": {release.note}" if release.note else ""
        raise RefusedError(
            f"{artifact} was withdrawn: {why}; `caravan pin {artifact}` offers it again"
        )

    def _held_only_through(self, artifact: str, owner: tuple[bytes, str]) -> bool:
        rows = [row for row, _ in self._catalogue.packages_with(artifact) if row.held]
        return (
            bool(rows)
            and all((row.publisher, row.name) == owner for row in rows)
            and artifact not in self._catalogue.directs()
            and not self._catalogue.needed_by(artifact)
        )
