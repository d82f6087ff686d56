"""The command `unshare`: take back what was shared, and perhaps remove it."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from node import commands, results
from node.commands import Progress
from node.content.routing import Routing
from node.content.several import do_each
from node.errors import NodeError, UsageError
from node.model.catalogue import Catalogue
from node.model.paths import path_of
from node.model.targets import parse_digest
from transfer import Artifact, Digest, DigestError, Store


class Unsharer:
    """Stops offering artifacts, whoever needs them."""

    def __init__(self, store: Store, catalogue: Catalogue, router: Routing) -> None:
        self._store = store
        self._catalogue = catalogue
        self._router = router

    async def unshare(
        self, command: commands.UnshareCommand, _progress: Progress
    ) -> results.UnshareResult:
        """Offer the targets no more; NodeError for what is not held.

        A target is a digest or a file. Packages that contain or need it are not offered
        either. `share` of the same file offers it again. With `remove`, the store's
        copy goes, unless something that is kept needs it.
        """
        held = await do_each(
            command.targets, lambda text: self._held(text, remove=command.remove)
        )
        artifacts = list({one.digest: one for one in held.done}.values())
        entries = []
        for one in artifacts:
            digest = str(one.digest)
            file = self._catalogue.direct_file(digest)
            entries.append(
                results.SharedArtifact(file=file, digest=digest, size=one.size)
            )
            self._catalogue.make_private(digest, file)
            self._router.silence(digest)
            if command.remove:
                self._catalogue.forget([digest])
        await self._router.sync()
        if command.remove:
            for one in artifacts:
                await asyncio.to_thread(self._store.remove, one.digest)
                self._catalogue.make_public(str(one.digest))
        result = results.UnshareResult(artifacts=entries, removed=command.remove)
        held.check(result)
        return result

    def _check_removable(self, digest: str) -> None:
        """Raise NodeError where a pin or a held package needs an artifact."""
        if self._catalogue.is_pinned(digest):
            raise NodeError(f"{digest} is pinned; `caravan unpin` it first")
        own = self._catalogue.package(digest)
        needing = [row for row, _ in self._catalogue.packages_with(digest)]
        for package in self._catalogue.needed_by(digest):
            row = self._catalogue.package(package)
            needing += [row] if row is not None else []
        needing += [own] if own is not None else []
        for row in needing:
            if row.held:
                raise NodeError(
                    f"{row.name} {row.version} needs {digest}: without --remove it is "
                    "no longer offered, and stays on disk"
                )

    async def _held(self, text: str, *, remove: bool) -> Artifact:
        path = path_of(text)
        if path.is_absolute():
            digest = await asyncio.to_thread(_digest_of, path)
        else:
            try:
                digest = parse_digest(text, self._catalogue)
            except DigestError as error:
                raise UsageError(
                    f"expected a file or a digest, not {text!r}"
                ) from error
        artifact = await asyncio.to_thread(self._store.find, digest)
        if artifact is None:
            raise NodeError(f"{text} is not held here")
        if remove:
            self._check_removable(str(artifact.digest))
        return artifact


def _digest_of(path: Path) -> Digest:
    """Return the digest of the file at a path."""
    if not path.is_file():
        raise NodeError(f"{path} is no file; give the digest of what was shared")
    try:
        with path.open("rb") as file:
            return Digest("sha256", hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error
