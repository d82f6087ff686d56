"""The commands `list`, `pin` and `unpin`: what this node keeps."""

from __future__ import annotations

import asyncio

from node import commands, results
from node.commands import Progress
from node.content.routing import Routing
from node.errors import NodeError
from node.model.catalogue import Catalogue, PackageRow
from node.model.keys import publisher_text
from node.model.targets import DigestTarget, FileTarget, parse_target
from node.model.trust_store import TrustStore
from transfer import Artifact, Store


class Cache:
    """Shows and pins what the store holds."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        trust_store: TrustStore,
        router: Routing,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._router = router

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

    async def pin(
        self, command: commands.PinCommand, _progress: Progress
    ) -> results.PinResult:
        """Keep what the targets name, whatever the cache needs room for.

        What was withheld of it is offered again: a pin is its owner's word.
        """
        digests = [await self._held(text) for text in command.targets]
        for digest in digests:
            self._catalogue.pin(digest)
        await self._router.sync()
        return results.PinResult(pinned=digests)

    async def unpin(
        self, command: commands.UnpinCommand, _progress: Progress
    ) -> results.UnpinResult:
        """No longer pin what the targets name."""
        digests = [await self._held(text) for text in command.targets]
        missing = [digest for digest in digests if not self._catalogue.unpin(digest)]
        if missing:
            raise NodeError(f"{missing[0]} is not pinned")
        await self._router.sync()
        return results.UnpinResult(unpinned=digests)

    async def _held(self, text: str) -> str:
        """Return the digest of what a target names, if it is held."""
        target = parse_target(text, self._catalogue, self._trust_store)
        if isinstance(target, FileTarget):
            raise NodeError(f"say the digest or the name of what {text} describes")
        if isinstance(target, DigestTarget):
            artifact = await asyncio.to_thread(self._store.find, target.digest)
            if artifact is not None:
                return str(artifact.digest)
        else:
            for row in self._catalogue.packages_named(target.publisher, target.name):
                if row.held and target.version in (None, row.version):
                    return row.digest
        raise NodeError(f"{text} is not held here; fetch it first")

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
