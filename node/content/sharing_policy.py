"""What this node offers: derived from what it holds and what its owner allows.

The rule of the network is kept here by construction: a package is offered only with
all that it needs, so a dependency is offered at least as much as what needs it. What
the owner keeps to itself therefore silences the packages that need it as well.

A change costs what it touches, however much is held:

1. The catalogue collects the digests of which something was said. What is withheld is
   derived anew; what of it differs counts as changed too.
2. A package is *whole* if all that it names is held and none of it is kept back. Only
   changed packages, and those that name something changed, however indirectly, can
   become whole or cease to be. Among them the largest set counts of which none lacks
   another: packages may need each other in circles.
3. A whole package is offered if the owner wishes so, or an offered package needs it.
   Beside those of rule 2, this can change only for what these need.
4. An artifact is offered if it is held, and not silenced, and shared by itself or named
   by a package that is offered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from node.content.withdrawal import Withdrawal
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import parse_publisher
from node.model.package_graph import PackageGraph
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


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be decided anew, and what has to be known for that."""

    digests: frozenset[str]
    packages: frozenset[str]
    """The packages that may become whole, or cease to be."""
    asks: frozenset[str]
    """Of these `SharingPolicy.decide` wants to know which are held."""
    is_all: bool = False
    """Whether all that is held is to be decided anew, without being named here."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Of what the offer may be another now."""

    digests: set[str]
    names: set[tuple[bytes, str]]


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
        self._graph = PackageGraph(catalogue)
        self._changes = catalogue.changes
        self._withdrawal = withdrawal
        self._of = of or {}
        self._sharing = sharing
        self._whole: set[str] = set()
        self.packages: set[str] = set()
        """The packages that are offered: each is held with all that it needs."""
        self._names: Counter[tuple[bytes, str]] = Counter()
        self._private = catalogue.privates()
        self._silenced = self._silenced_now()
        self._is_first = True

    # --- what is silent ------------------------------------------------------

    def is_silenced(self, digest: str) -> bool:
        """Tell whether an artifact is neither announced nor served, come what may."""
        return digest in self._private or digest in self._silenced

    def may_serve(self, digest: str, *, is_announced: bool) -> bool:
        """Tell whether peers may have an artifact, or what has come of a download.

        It may be asked in any thread: one set is replaced whole, and single digests
        enter and leave the other.
        """
        if self.is_silenced(digest):
            return False
        # Also what came a moment ago and is announced with the rest of its package.
        return is_announced or self._sharing == "all"

    def silence(self, digest: str) -> None:
        """Serve an artifact no more from now on."""
        self._private.add(digest)

    def hush(self) -> None:
        """Let what changed be silent, or no longer so, before it is announced."""
        if self._is_first:
            self._private = self._catalogue.privates()
        for digest in () if self._is_first else self._changes.pending:
            if self._catalogue.is_private(digest):
                self._private.add(digest)
            else:
                self._private.discard(digest)
        silenced = self._silenced_now()
        self._changes.mark(silenced ^ self._silenced)
        self._silenced = silenced

    def _silenced_now(self) -> frozenset[str]:
        withheld = self._withdrawal.withheld() if self._withdrawal else {}
        return frozenset(self._kept_back() | withheld.keys())

    def _kept_back(self) -> set[str]:
        """Return all that belongs to packages which the owner keeps to itself."""
        return {
            digest
            for (publisher, name), sharing in self._of.items()
            if sharing == "none"
            for row in self._catalogue.packages_named(publisher, name)
            for digest in self._graph.own_content(row.digest)
        }

    # --- what is offered -----------------------------------------------------

    def drain_changes(self) -> Change:
        """Return what changed since the last call; all that is held, at first."""
        self.hush()
        is_all, self._is_first = self._is_first, False
        digests = self._changes.drain()
        if is_all:
            packages = frozenset(self._catalogue.package_digests())
        else:
            packages = self._graph.naming(digests)
        asks = {one for package in packages for one in self._graph.content(package)}
        return Change(digests, packages, frozenset(asks), is_all)

    def again(self, digests: Iterable[str], *, is_all: bool = False) -> None:
        """Decide of digests, or of all that is held, another time: the next."""
        self._is_first |= is_all
        self._changes.mark(digests)

    def decide(self, change: Change, held: AbstractSet[str]) -> Settled:
        """Decide which packages are offered; `held` are those of `change.asks`."""
        changing = change.packages
        region = self._graph.with_needs(changing)
        rows = {one: row for one in region if (row := self._catalogue.package(one))}
        kept_back = self._kept_back()
        whole = {
            one
            for one in changing & rows.keys()
            if rows[one].held and self._is_complete(one, held, kept_back)
        }
        self._whole -= changing
        self._whole |= whole
        while lacking := {
            one for one in whole if not self._graph.needs(one) <= self._whole
        }:
            self._whole -= lacking
            whole -= lacking
        offered = self._graph.with_needs(
            one
            for one in rows.keys() & self._whole
            if self._is_wished(rows[one]) or self._is_needed(one, beyond=region)
        )
        names = set()
        for one, row in rows.items():
            if (one in offered) != (one in self.packages):
                names.add((row.publisher, row.name))
                self._names[row.publisher, row.name] += 1 if one in offered else -1
        self.packages -= region
        self.packages |= offered
        digests = {one for package in region for one in self._graph.content(package)}
        return Settled(digests | change.digests, names)

    def is_offered(self, digest: str) -> bool:
        """Tell whether an artifact that is held is offered."""
        if self.is_silenced(digest):
            return False
        if self._sharing == "all" and self._catalogue.is_direct(digest):
            return True
        return self._graph.named_by_any(digest, self.packages)

    def is_name_offered(self, publisher: bytes, name: str) -> bool:
        """Tell whether a package of this name is offered."""
        return self._names[publisher, name] > 0

    def _is_complete(
        self, package: str, held: AbstractSet[str], kept_back: AbstractSet[str]
    ) -> bool:
        """Tell whether all that a package names is held, and none of it kept back."""
        return all(
            one in held and one not in kept_back and one not in self._private
            for one in self._graph.content(package)
        )

    def _is_wished(self, row: PackageRow) -> bool:
        """Tell whether the owner wants a package offered for its own sake."""
        sharing = self._of.get((row.publisher, row.name), self._sharing)
        return sharing == "all" or (sharing == "published" and row.own)

    def _is_needed(self, package: str, beyond: AbstractSet[str]) -> bool:
        """Tell whether an offered package that is not decided now needs this one."""
        needing = self._graph.needed_by(package)
        return any(one in self.packages and one not in beyond for one in needing)
