"""Writes what `updates --apply` brought to where its user keeps such files."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from node.commands import UpdatesCommand
from node.content.output import NamedArtifact, OutputWriter
from node.model.catalogue import Catalogue
from node.model.keys import parse_publisher
from node.model.paths import path_of
from node.results import UpdateEntry
from transfer import Artifact, Digest, Store


class UpdateOutput:
    """Writes a release's files into a folder, or beside those of earlier versions."""

    def __init__(
        self, store: Store, catalogue: Catalogue, output: OutputWriter
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._output = output

    async def write(
        self, entries: list[UpdateEntry], command: UpdatesCommand
    ) -> list[UpdateEntry]:
        """Write the files of what is held now; return the entries with their paths.

        Raise NodeError where a file cannot be written.
        """
        return [await self._written(entry, command) for entry in entries]

    async def _written(
        self, entry: UpdateEntry, command: UpdatesCommand
    ) -> UpdateEntry:
        row = self._catalogue.package(entry.digest)
        if row is None or not row.held:
            return entry
        if command.output is not None:
            folders = [path_of(command.output)]
        else:
            folders = await self._output.folders_with(self._earlier(entry))
        files = [
            NamedArtifact(artifact, file)
            for file, digest in self._catalogue.files_of(entry.digest)
            if (artifact := await self._held(digest)) is not None
        ]
        paths = [
            path
            for folder in folders
            for path in await self._output.write_folder(
                files, folder, force=command.force
            )
        ]
        return replace(entry, paths=[str(path) for path in paths])

    def _earlier(self, entry: UpdateEntry) -> list[str]:
        """Return the files of other versions of the same name."""
        rows = self._catalogue.packages_named(
            parse_publisher(entry.publisher), entry.name
        )
        return [
            digest
            for row in rows
            if row.digest != entry.digest
            for _, digest in self._catalogue.files_of(row.digest)
        ]

    async def _held(self, digest: str) -> Artifact | None:
        return await asyncio.to_thread(self._store.find, Digest.parse(digest))
