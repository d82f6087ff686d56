"""The command `list`: every artifact and package that this node holds."""

from __future__ import annotations

import asyncio

from node import commands, results
from node.commands import Progress
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import publisher_text
from transfer import Artifact, Store


class Inventory:
    """Lists what the store holds, with what the catalogue knows of it."""

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self._store = store
        self._catalogue = catalogue

    async def list(
        self, _command: commands.ListCommand, _progress: Progress
    ) -> results.ListResult:
        """Return every artifact and package held."""
        artifacts = await asyncio.to_thread(self._store.artifacts)
        pinned = self._catalogue.pinned()
        packages = self._catalogue.packages()
        return results.ListResult(
            artifacts=[self._artifact(one, pinned) for one in artifacts],
            packages=[self._package(row, pinned) for row in packages],
            count=len(artifacts),
            bytes_held=sum(one.size for one in artifacts),
        )

    def _artifact(self, artifact: Artifact, pinned: set[str]) -> results.HeldArtifact:
        digest = str(artifact.digest)
        packages = self._catalogue.packages_with(digest)
        own = self._catalogue.package(digest)
        file = packages[0][1] if packages else self._catalogue.direct_file(digest)
        return results.HeldArtifact(
            digest=digest,
            size=artifact.size,
            file=file or (f"{own.name}-{own.version}.caravan" if own else ""),
            kind="package file" if own else "artifact",
            packages=[f"{row.name} {row.version}" for row, _ in packages],
            pinned=digest in pinned,
            private=self._catalogue.is_private(digest),
            added_at=artifact.added_at,
        )

    def _package(self, row: PackageRow, pinned: set[str]) -> results.HeldPackage:
        return results.HeldPackage(
            digest=row.digest,
            publisher=publisher_text(row.publisher),
            name=row.name,
            version=row.version,
            own=row.own,
            pinned=row.digest in pinned,
            artifacts=[one for _, one in self._catalogue.files_of(row.digest)],
            dependencies=[
                one for _, one in self._catalogue.dependencies_of(row.digest)
            ],
        )
