"""What this node offers: derived from what it holds and what its owner allows.

The rule of the network is kept here by construction: a package is offered only with
all that it needs, so a dependency is offered at least as much as what needs it. What
the owner keeps to itself therefore silences the packages that need it as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from node.content.withdrawal import Withdrawal
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import parse_publisher
from node.settings import Sharing

SharingOf = Mapping[tuple[bytes, str], Sharing]
"""What the owner says of single packages, by publisher and name."""


def sharing_of(named: Mapping[str, Sharing]) -> SharingOf:
    """Read the setting of this name: PUBLISHER/NAME to what the owner says."""
    found: dict[tuple[bytes, str], Sharing] = {}
    for target, sharing in named.items():
        publisher, _, name = target.partition("/")
        found[parse_publisher(publisher), name] = sharing
    return found


class SharingPolicy:
    """Decides which of the artifacts held are announced and served."""

    def __init__(
        self,
        catalogue: Catalogue,
        sharing: Sharing,
        *,
        of: SharingOf | None = None,
        withdrawal: Withdrawal | None = None,
    ) -> None:
        """`of` is what the owner says of single packages."""
        self._catalogue = catalogue
        self._withdrawal = withdrawal
        self._of = of or {}
        self.sharing = sharing

    def choose(self, held: AbstractSet[str]) -> set[str]:
        """Return which of the artifacts `held` (digests) are offered."""
        offered: set[str] = set()
        if self.sharing == "all":
            offered |= self._catalogue.directs() & held
        for package in self.packages(held):
            offered |= self._content(package)
        return offered - self.silenced()

    def silenced(self) -> set[str]:
        """Return the artifacts that are neither announced nor served, come what may."""
        withheld = self._withdrawal.withheld() if self._withdrawal else {}
        return self._kept_back() | withheld.keys() | self._catalogue.privates()

    def packages(self, held: AbstractSet[str]) -> set[str]:
        """Return the packages that are offered: those held with all they need."""
        kept_back = self._kept_back() | self._catalogue.privates()
        rows = {row.digest: row for row in self._catalogue.packages()}
        whole = {
            digest
            for digest in rows
            if (content := self._content(digest)) <= held
            and content.isdisjoint(kept_back)
        }
        needs = {digest: self._needs(digest) for digest in whole}
        while lacking := {one for one in whole if not needs[one] <= whole}:
            whole -= lacking
        waiting = [digest for digest in whole if self._is_wished(rows[digest])]
        found: set[str] = set()
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += needs[digest]
        return found

    def names(self, held: AbstractSet[str]) -> set[tuple[bytes, str]]:
        """Return (publisher, name) of the packages that are offered."""
        offered = self.packages(held)
        rows = self._catalogue.packages()
        return {(row.publisher, row.name) for row in rows if row.digest in offered}

    def _is_wished(self, row: PackageRow) -> bool:
        """Tell whether the owner wants a package offered for its own sake."""
        sharing = self._of.get((row.publisher, row.name), self.sharing)
        return sharing == "all" or (sharing == "published" and row.own)

    def _kept_back(self) -> set[str]:
        """Return all that belongs to packages which the owner keeps to itself."""
        return {
            digest
            for (publisher, name), sharing in self._of.items()
            if sharing == "none"
            for row in self._catalogue.packages_named(publisher, name)
            for digest in self._own_content(row.digest)
        }

    def _content(self, package: str) -> set[str]:
        """Return the package file, its artifacts, and artifacts that it needs."""
        return self._own_content(package) | self._dependencies(package, "artifact")

    def _own_content(self, package: str) -> set[str]:
        return {package, *(one for _, one in self._catalogue.files_of(package))}

    def _needs(self, package: str) -> set[str]:
        return self._dependencies(package, "package")

    def _dependencies(self, package: str, kind: str) -> set[str]:
        return {
            digest
            for found, digest in self._catalogue.dependencies_of(package)
            if found == kind
        }
