"""What security releases replaced, and what of it is withheld. Nothing is stored.

A list of vulnerable nodes shall empty itself, so a holder stops offering what a
security release replaced. That follows from what is known now, by four rules:

1. What counts of a name is its newest release, unless it is revoked or in conflict
   (see `node.model.trust_store`), and the packages before it, along `previous`, as far
   as they are of an epoch that counts. So a revoked key withholds nothing. Until the
   newest one's package file is here, the newest that is here stands for it.
2. An artifact is *replaced* where a security release among these replaces it, and no
   later one contains it. A file that is released again is offered again. A name speaks
   for its own files: what only others' packages contain, it cannot replace.
3. A replaced artifact is *withheld* unless something else needs it: the user, who holds
   it by its digest or pinned it; a package held from another publisher or name that
   contains it; or a held package that depends on it, or on a package that contains it.
   A package that its own name has replaced needs nothing.
4. A package that needs what was replaced keeps working, and is marked.

Withheld files stay on disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from node.errors import RefusedError
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import publisher_text
from node.model.trust_store import ReleaseRow, TrustStore

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


Ended = dict[str, list[Replacement]]
"""What ended each artifact, one of each name that replaced it."""


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
        return {one: whys[0] for one, whys in self._all_replaced().items()}

    def _all_replaced(self) -> Ended:
        """Return the same with the replacement of each name that replaced it."""
        found: Ended = {}
        for publisher, name in self._catalogue.names_with_security():
            newest = self._trust_store.counting(publisher, name)
            if newest is None:
                continue
            later: set[str] = set()
            for release in self._line(newest):
                later |= {file for _, file in self._catalogue.files_of(release.digest)}
                if release.urgency != "security":
                    continue
                why = Replacement(release, newest.package)
                for artifact in self._catalogue.replaced_by(release.digest):
                    if artifact in later or not self._speaks_for(why.owner, artifact):
                        continue
                    whys = found.setdefault(artifact, [])
                    if all(one.owner != why.owner for one in whys):
                        whys.append(why)
        return found

    def withheld(self) -> dict[str, Replacement]:
        """Return the artifacts that are neither announced nor served."""
        replaced = self._all_replaced() if self._enabled else {}
        left = {
            one: why
            for one, why in replaced.items()
            if not self._catalogue.is_wished(one)
        }
        # A file that is needed keeps its package alive, which may need others in turn.
        while needed := [
            (one, why)
            for one, whys in left.items()
            for why in whys
            if self._is_needed(one, why, left)
        ]:
            for one, why in needed:
                left[one] = [other for other in left[one] if other is not why]
            left = {one: whys for one, whys in left.items() if whys}
        return {one: whys[0] for one, whys in left.items()}

    def dependents(self) -> list[ReplacedDependency]:
        """Return the held packages that depend on something that was replaced."""
        replaced = self._all_replaced()
        found: dict[tuple[str, str], ReplacedDependency] = {}
        for artifact, (replacement, *_) in replaced.items():
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

    def _line(self, newest: ReleaseRow) -> Iterator[PackageRow]:
        """Yield the package that the newest record names, then those before it.

        Where that package file is not here yet, the line begins with the newest that
        is: what it replaced is not offered again because of a release nobody has read.
        """
        owner = (newest.publisher, newest.name)
        epoch = self._trust_store.epoch_of(newest.publisher)
        row = self._catalogue.package(newest.package)
        if row is None:
            known = self._catalogue.packages_named(*owner)
            row = next((one for one in known if one.order <= newest.order), None)
        for _ in range(WALK_BACK_MAX):
            if row is None or (row.publisher, row.name) != owner:
                return
            # The record that counts vouches for its package, of whatever epoch that is.
            if row.digest != newest.package and row.epoch < epoch:
                return
            yield row
            row = self._catalogue.package(row.previous)

    def _speaks_for(self, owner: tuple[bytes, str], artifact: str) -> bool:
        """Tell whether a name may replace an artifact: its own, or one of nobody's."""
        packages = self._catalogue.packages_with(artifact)
        return not packages or any(
            (row.publisher, row.name) == owner for row, _ in packages
        )

    def _is_needed(self, artifact: str, why: Replacement, ended: Ended) -> bool:
        """Tell whether a held package needs an artifact that was replaced."""
        if any(self._needing(artifact, why, ended)):
            return True
        packages = [row for row, _ in self._catalogue.packages_with(artifact)]
        return any(self._counts(row, why, ended) for row in packages) or any(
            any(self._needing(row.digest, why, ended)) for row in packages
        )

    def _needing(
        self, digest: str, why: Replacement, ended: Ended
    ) -> Iterator[PackageRow]:
        """Yield the held packages that name `digest` as a dependency, and count."""
        for package in self._catalogue.needed_by(digest):
            row = self._catalogue.package(package)
            if row is not None and self._counts(row, why, ended):
                yield row

    def _counts(self, row: PackageRow, why: Replacement, ended: Ended) -> bool:
        """Tell whether a package is held, and not one that was replaced itself."""
        if not row.held:
            return False
        owner = (row.publisher, row.name)
        if owner == why.owner and row.digest == why.newest:
            return True
        return not any(
            one.owner == owner
            for _, file in self._catalogue.files_of(row.digest)
            for one in ended.get(file, ())
        )
