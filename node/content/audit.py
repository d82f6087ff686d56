"""What security releases replaced of what is held, and which packages depend on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from node import commands, results
from node.commands import Progress
from node.content.withdrawal import ReplacedDependency, Replacement, Withdrawal
from node.model.catalogue import Catalogue
from node.model.ecosystems import describe_file
from node.model.keys import publisher_text
from transfer import Digest, Store

Locked = Callable[[str], Awaitable[set[str]]]
"""Returns the SHA-256 of what the lockfile at a path names."""


class Giving(Protocol):
    """Knows what peers may have."""

    def may_serve(self, digest: Digest, *, whole: bool) -> bool:
        """Tell whether peers may have an artifact."""


class Auditor:
    """Compares what is held, or what a lockfile names, with security releases."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        withdrawal: Withdrawal,
        router: Giving,
        locked: Locked,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._withdrawal = withdrawal
        self._router = router
        self._locked = locked

    async def audit(
        self, command: commands.AuditCommand, _progress: Progress
    ) -> results.AuditResult:
        """Return what was replaced, and the held packages that depend on it."""
        replaced = self._withdrawal.replaced()
        held = {
            one: await asyncio.to_thread(self._store.find, Digest.parse(one))
            for one in replaced
        }
        if command.lockfile is not None:
            shown = await self._locked(command.lockfile)
        else:
            shown = {one for one, artifact in held.items() if artifact is not None}
        found = [
            self._finding(one, replaced[one], held=held[one] is not None)
            for one in sorted(shown & replaced.keys())
        ]
        dependents = [describe(one) for one in self._withdrawal.dependents()]
        return results.AuditResult(found=found, dependents=dependents)

    def _finding(
        self, artifact: str, why: Replacement, *, held: bool
    ) -> results.AuditFinding:
        file, purl = "", ""
        for row, name in self._catalogue.packages_with(artifact):
            if (row.publisher, row.name) == why.owner:
                file, purl = name, describe_file(name, row.name, row.version)[0]
        release = why.release
        given = held and self._router.may_serve(Digest.parse(artifact), whole=True)
        return results.AuditFinding(
            digest=artifact,
            file=file,
            purl=purl,
            advisory=release.digest,
            publisher=publisher_text(release.publisher),
            name=release.name,
            fixed=release.version,
            note=release.note,
            held=held,
            given=given,
        )


def describe(one: ReplacedDependency) -> results.ReplacedDependencyEntry:
    """Return what `--json` says of a package whose dependency was replaced."""
    release = one.replacement.release
    return results.ReplacedDependencyEntry(
        publisher=publisher_text(one.package.publisher),
        name=one.package.name,
        version=one.package.version,
        package=one.package.digest,
        dependency=one.dependency,
        dependency_name=one.name,
        replaced_by=f"{release.name} {release.version}",
        replaced_by_publisher=publisher_text(release.publisher),
        replaced_by_digest=release.digest,
        note=release.note,
    )
