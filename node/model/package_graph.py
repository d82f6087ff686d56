"""How packages hang together: what each names, and which others name it."""

from __future__ import annotations

from collections.abc import Iterable

from node.model.catalogue import Catalogue
from node.model.graph import reachable


class PackageGraph:
    """Follows the arrows between the packages of the catalogue, held or not."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def content(self, package: str) -> set[str]:
        """Return the package file, its artifacts, and artifacts that it needs."""
        return self.own_content(package) | self._dependencies(package, "artifact")

    def own_content(self, package: str) -> set[str]:
        """Return the package file and its artifacts."""
        return {package, *(one for _, one in self._catalogue.files_of(package))}

    def needs(self, package: str) -> set[str]:
        """Return the packages that a package needs itself."""
        return self._dependencies(package, "package")

    def needed_by(self, digest: str) -> list[str]:
        """Return the packages that need an artifact or a package themselves."""
        return self._catalogue.needed_by(digest)

    def with_needs(self, packages: Iterable[str]) -> set[str]:
        """Return packages with all that they need, however indirectly."""
        return reachable(packages, self.needs)

    def naming(self, digests: Iterable[str]) -> frozenset[str]:
        """Return the packages among `digests`, and all that name any of them.

        Whatever names one of those counts too, and so on.
        """
        seen = set(digests)
        found, waiting = set(), list(seen)
        while waiting:
            digest = waiting.pop()
            if self._catalogue.package(digest) is not None:
                found.add(digest)
            further = set(self._catalogue.naming(digest)) - seen
            seen |= further
            waiting += further
        return frozenset(found)

    def named_by_any(self, digest: str, packages: set[str]) -> bool:
        """Return whether a digest is one of `packages`, or one of them names it."""
        return digest in packages or not packages.isdisjoint(
            self._catalogue.naming(digest)
        )

    def _dependencies(self, package: str, kind: str) -> set[str]:
        return {
            digest
            for found, digest in self._catalogue.dependencies_of(package)
            if found == kind
        }
