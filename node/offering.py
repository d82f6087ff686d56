"""What this node offers: derived from what it holds and what its owner allows.

The rule of the network is kept here by construction: a package is offered only with
all that it needs, so a dependency is offered at least as much as what needs it.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from node.catalogue import Catalogue
from node.settings import Sharing


class Offering:
    """Decides which of the artifacts held are announced and served."""

    def __init__(self, catalogue: Catalogue, sharing: Sharing) -> None:
        self._catalogue = catalogue
        self._sharing = sharing

    def choose(self, held: AbstractSet[str]) -> set[str]:
        """Return which of the artifacts `held` (digests) are offered."""
        if self._sharing == "none":
            return set()
        offered: set[str] = set()
        if self._sharing == "all":
            offered |= self._catalogue.directs() & held
        for package in self.packages(held):
            offered |= self._content(package)
        return offered - self._catalogue.withdrawn().keys()

    def packages(self, held: AbstractSet[str]) -> set[str]:
        """Return the packages that are offered: those held with all they need."""
        rows = {row.digest: row for row in self._catalogue.packages()}
        whole = {digest for digest in rows if self._content(digest) <= held}
        needs = {digest: self._needs(digest) for digest in whole}
        while lacking := {one for one in whole if not needs[one] <= whole}:
            whole -= lacking
        if self._sharing == "all":
            return whole
        waiting = [digest for digest in whole if rows[digest].own]
        found: set[str] = set()
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += needs[digest]
        return found

    def _content(self, package: str) -> set[str]:
        """Return the package file, its artifacts, and artifacts that it needs."""
        content = {artifact for _, artifact in self._catalogue.files_of(package)}
        content.add(package)
        return content | self._dependencies(package, "artifact")

    def _needs(self, package: str) -> set[str]:
        return self._dependencies(package, "package")

    def _dependencies(self, package: str, kind: str) -> set[str]:
        return {
            digest
            for found, digest in self._catalogue.dependencies_of(package)
            if found == kind
        }
