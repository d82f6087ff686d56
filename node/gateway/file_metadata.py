"""What an index says of a published file, read out of the file itself.

A followed publisher gives files, not index pages. What a page needs to say stands in
the archive: the file is brought first, verified by the digest in the signed package,
and then read with bounds on everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from node.errors import NodeError
from node.gateway import limits
from node.gateway.bounded import BoundedCache
from node.gateway.resolver import Resolver
from node.model.packages import ArtifactEntry
from transfer import Artifact, Digest, Store, TransferError

T = TypeVar("T")


class UnreadableFileError(NodeError):
    """A published file is not what its index needs."""

    exit_code = 4


class FileMetadata:
    """Brings published files and reads them, each once."""

    def __init__(self, resolver: Resolver, store: Store) -> None:
        self._resolver = resolver
        self._store = store
        self._known: BoundedCache[tuple[str, object], Any] = BoundedCache(
            limits.METADATA_REMEMBERED_MAX
        )

    async def read(
        self, entry: ArtifactEntry, kind: object, read: Callable[[Path], T]
    ) -> T:
        """Return what `read` finds in a verified file, remembered under `kind`.

        Raises UnreadableFileError where `read` refuses the file, MissError without it.
        """
        key = (entry.digest, kind)
        if (known := self._known.get(key)) is not None:
            return known  # type: ignore[no-any-return]
        artifact = await self.artifact(entry)
        try:
            path = self._store.path(artifact)
            async with asyncio.timeout(limits.READ_SECONDS_MAX):
                found = await asyncio.to_thread(read, path)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ) as error:
            raise UnreadableFileError(
                f"{entry.file} cannot be served: {error}"
            ) from error
        except TimeoutError as error:
            raise UnreadableFileError(
                f"{entry.file} takes too long to be read"
            ) from error
        except OSError as error:
            raise UnreadableFileError(
                f"{entry.file} cannot be read: {error}"
            ) from error
        self._known.put(key, found)
        return found

    async def artifact(self, entry: ArtifactEntry) -> Artifact:
        """Bring a published file; UnreadableFileError for one too large, MissError."""
        if entry.size > limits.PUBLISHED_BYTES_MAX:
            raise UnreadableFileError(
                f"{entry.file} is too large to be read for an index"
            )
        return await self._resolver.resolve(Digest.parse(entry.digest))

    async def digests(self, entry: ArtifactEntry) -> dict[str, Digest]:
        """Return a file's digests by algorithm, computed from its verified bytes."""
        artifact = await self.artifact(entry)
        try:
            whole = await asyncio.to_thread(self._store.with_aliases, artifact.digest)
        except TransferError as error:
            raise UnreadableFileError(
                f"{entry.file} cannot be read: {error}"
            ) from error
        return {one.algorithm: one for one in whole.digests}
