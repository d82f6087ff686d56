"""What security releases replaced, and what of it is withheld. Nothing is stored.

A list of vulnerable nodes shall empty itself, so a holder stops offering what a
security release replaced. That follows from what is known now, by four rules:

1. What counts of a name is its newest release, unless it is revoked or in conflict
   (see `node.model.trust_store`), and the packages before it, along `previous`, as far
   as they are of an epoch that counts. So a revoked key withholds nothing.
2. An artifact is *replaced* where a security release among these replaces it, and the
   newest does not contain it. A file that is released again is offered again.
3. A replaced artifact is *withheld* unless something else needs it: the user, who holds
   it by its digest or pinned it; a package held from another publisher or name that
   contains it; or a held package that depends on it, or on a package that contains it.
   Of the same name, only packages count of which nothing is withheld.
4. A package that needs what was replaced keeps working, and is marked.

Withheld files stay on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from node.errors import RefusedError
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import publisher_text
from node.model.trust_store import TrustStore

WALK_BACK_MAX = 1_000
"""How many releases of a name are looked at, the newest first."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A release that ended an artifact, and the newest one of its name."""

    release: PackageRow
    newest: str
    """The digest of the newest release's package file."""

    @property
    def owner(self) -> tuple[bytes, str]:
        """The publisher and the name."""
        return (self.release.publisher, self.release.name)


@dataclass(frozen=True, slots=True)
class ReplacedDependency:
    """A held package that depends on what a security release replaced."""

    package: PackageRow
    dependency: str
    """The digest that the package names: a package file's or an artifact's."""
    name: str
    """What the dependency is called: its name and version, or its file name."""
    replacement: Replacement


class Withdrawal:
    """Derives what is withheld from the catalogue and the trust store."""

    def __init__(
        self, catalogue: Catalogue, trust_store: TrustStore, *, enabled: bool = True
    ) -> None:
        """Without `enabled`, nothing is withheld, and dependents are still marked."""
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._enabled = enabled

    def replaced(self) -> dict[str, Replacement]:
        """Return the artifacts that security releases replaced, held or not."""
        found: dict[str, Replacement] = {}
        for publisher, name in self._catalogue.names_with_security():
            newest = self._trust_store.counting(publisher, name)
            if newest is None:
                continue
            contained = {file for _, file in self._catalogue.files_of(newest.package)}
            for release in self._line(publisher, name, newest.package):
                if release.urgency != "security":
                    continue
                for artifact in self._catalogue.replaced_by(release.digest):
                    if artifact not in contained:
                        found.setdefault(artifact, Replacement(release, newest.package))
        return found

    def withheld(self) -> dict[str, Replacement]:
        """Return the artifacts that are neither announced nor served."""
        replaced = self.replaced() if self._enabled else {}
        if not replaced:
            return {}
        left = {one: why for one, why in replaced.items() if not self._is_wished(one)}
        # A file that is needed keeps its package alive, which may need others in turn.
        while needed := [one for one in left if self._is_needed(one, left)]:
            for one in needed:
                del left[one]
        return left

    def dependents(self) -> list[ReplacedDependency]:
        """Return the held packages that depend on something that was replaced."""
        replaced = self.replaced()
        found: dict[tuple[str, str], ReplacedDependency] = {}
        for artifact, replacement in replaced.items():
            names = {artifact: artifact}
            for row, file in self._catalogue.packages_with(artifact):
                names[artifact] = file
                names[row.digest] = f"{row.name} {row.version}"
            for digest, name in names.items():
                for package in self._needing(digest, replacement, replaced):
                    found.setdefault(
                        (package.digest, digest),
                        ReplacedDependency(package, digest, name, replacement),
                    )
        return sorted(found.values(), key=lambda one: (one.package.name, one.name))

    def check(self, *artifacts: str) -> None:
        """Raise RefusedError for a withheld artifact, with who replaced it and why."""
        withheld = self.withheld()
        artifact = next((one for one in artifacts if one in withheld), None)
        if artifact is None:
            return
        release = withheld[artifact].release
        note = f": {release.note}" if release.note else ""
        raise RefusedError(
            f"{artifact} was withdrawn: {release.name} {release.version} by "
            f"{publisher_text(release.publisher)} replaced it{note}; "
            f"`caravan pin {artifact}` offers it again"
        )

    def _line(self, publisher: bytes, name: str, newest: str) -> Iterator[PackageRow]:
        """Yield the package that the newest record names, then those before it."""
        epoch = self._trust_store.epoch_of(publisher)
        digest = newest
        for _ in range(WALK_BACK_MAX):
            row = self._catalogue.package(digest)
            if row is None or (row.publisher, row.name) != (publisher, name):
                return
            # The record that counts vouches for its package, of whatever epoch that is.
            if digest != newest and row.epoch < epoch:
                return
            yield row
            digest = row.previous

    def _is_wished(self, artifact: str) -> bool:
        return self._catalogue.is_direct(artifact) or self._catalogue.is_pinned(
            artifact
        )

    def _is_needed(self, artifact: str, ended: dict[str, Replacement]) -> bool:
        """Tell whether a held package needs an artifact that was replaced."""
        why = ended[artifact]
        if any(self._needing(artifact, why, ended)):
            return True
        packages = [row for row, _ in self._catalogue.packages_with(artifact)]
        return any(self._counts(row, why, ended) for row in packages) or any(
            any(self._needing(row.digest, why, ended)) for row in packages
        )

    def _needing(
        self, digest: str, why: Replacement, ended: dict[str, Replacement]
    ) -> Iterator[PackageRow]:
        """Yield the held packages that name `digest` as a dependency, and count."""
        for package in self._catalogue.needed_by(digest):
            row = self._catalogue.package(package)
            if row is not None and self._counts(row, why, ended):
                yield row

    def _counts(
        self, row: PackageRow, why: Replacement, ended: dict[str, Replacement]
    ) -> bool:
        """Tell whether a package is held, and not one that was replaced itself."""
        if not row.held:
            return False
        if (row.publisher, row.name) != why.owner or row.digest == why.newest:
            return True
        files = {file for _, file in self._catalogue.files_of(row.digest)}
        return files.isdisjoint(ended)
