"""The commands about lockfiles: prefetch, survey, and adopting what is on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace as replace_field

from node import commands, results
from node.commands import Progress
from node.content.output import NamedArtifact, OutputWriter
from node.content.router import ContentRouter
from node.errors import NobodyOffersError, NodeError, UsageError
from node.gateway.caches import body_of, files_in
from node.gateway.ecosystems import ecosystems
from node.gateway.locked import LeftOut, Locked, LockEntry
from node.gateway.lockfiles import content_of, read_lockfile, usable
from node.gateway.named_file import NamedFile
from node.gateway.pages import PageMissingError, UnreachableError
from node.gateway.resolver import MissError
from node.gateway.service import Gateway
from node.model.catalogue import Catalogue
from node.model.names import is_file_name
from node.model.paths import path_of
from transfer import Artifact, Digest, Store, TransferError

log = logging.getLogger(__name__)

AT_ONCE = 8


class Lockfiles:
    """Fetches, looks up and offers what lockfiles name."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        store: Store,
        catalogue: Catalogue,
        router: ContentRouter,
        output: OutputWriter,
    ) -> None:
        self._gateway = gateway
        self._store = store
        self._catalogue = catalogue
        self._router = router
        self._output = output

    async def prefetch(
        self, command: commands.PrefetchCommand, progress: Progress
    ) -> results.PrefetchResult:
        """Fetch what a lockfile names and this machine can use, and offer it."""
        entries, left_out = await self._entries(
            command.lockfile, command.everything, progress
        )
        missing: list[results.MissingFile] = []

        async def fetch(entry: LockEntry) -> results.PrefetchedFile | None:
            try:
                return await self._fetch(entry)
            except MissError as error:
                missing.append(results.MissingFile(**_said(entry), error=str(error)))
                return None

        work = [fetch(entry) for entry in entries]
        done = await _all(work, "fetching what is locked", progress)
        fetched = [one for one in done if one is not None]
        await self._router.sync()
        if command.output is not None:
            fetched = await self._write_out(
                fetched, path_of(command.output), force=command.force
            )
        found = results.PrefetchResult(
            artifacts=fetched,
            missing=missing,
            left_out=_all_left_out(left_out),
        )
        if missing:
            first = missing[0]
            name = first.file or first.name
            raise NobodyOffersError(
                f"{len(missing)} of {len(entries)} files cannot be had, {name} among "
                f"them: {first.error}",
                details=to_builtins(found),
            )
        if left_out and command.strict:
            raise NodeError(
                f"{len(left_out)} entries of {command.lockfile} were left out, "
                f"{left_out[0].name} among them: {left_out[0].why}",
                details=to_builtins(found),
            )
        return found

    async def _fetch(self, entry: LockEntry) -> results.PrefetchedFile:
        """Bring one locked file; MissError."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        named = await self._gateway.named(entry.digest)
        held = await self._gateway.resolver.held(entry.digest) is not None
        artifact = await self._gateway.resolver.resolve(entry.digest, named)
        if entry.file and not named:
            self._catalogue.add_direct(str(artifact.digest), _plain(entry.file))
        return results.PrefetchedFile(
            name=entry.name,
            version=entry.version,
            file=entry.file,
            digest=str(artifact.digest),
            size=artifact.size,
            path=str(self._store.path(artifact)),
            seconds=round(loop.time() - began, 3),
            sources=[] if held else self._gateway.sources.sources_of(artifact),
        )

    async def survey(
        self, command: commands.SurveyCommand, progress: Progress
    ) -> results.SurveyResult:
        """Say for each file of a lockfile where it can be had."""
        entries, left_out = await self._entries(
            command.lockfile, command.everything, progress
        )

        async def look(entry: LockEntry) -> results.SurveyedFile:
            named = await self._gateway.named(entry.digest)
            peers = 0
            if await self._gateway.resolver.held(entry.digest) is not None:
                state = "held"
            else:
                strong = named[0].strong if named else entry.digest
                peers = await self._gateway.sources.providers(strong, named)
                state = "peers" if peers else ("origin" if named else "nowhere")
            return results.SurveyedFile(**_said(entry), state=state, peers=peers)

        found = await _all([look(one) for one in entries], "looking up", progress)
        states = [one.state for one in found]
        return results.SurveyResult(
            entries=found,
            left_out=_all_left_out(left_out),
            counts={
                state: states.count(state)
                for state in ("held", "peers", "origin", "nowhere")
            },
        )

    async def digests(self, lockfile: str) -> set[str]:
        """Return the SHA-256 of what a lockfile names, where that is known here."""
        found: set[str] = set()
        for entry in (await self._locked(path_of(lockfile))).files:
            for digest in entry.digests:
                held = await asyncio.to_thread(self._store.find, digest)
                found.add(str(held.digest if held is not None else digest))
        return found

    async def adopt(
        self, command: commands.AdoptCommand, progress: Progress
    ) -> results.AdoptResult:
        """Offer what package managers have on disk already.

        With a lockfile, the files that it names; without one, those that a public
        upstream names, so that nothing from a private index slips out.
        """
        wanted: dict[Digest, LockEntry] | None = None
        if command.lockfile is not None:
            entries, _ = await self._entries(command.lockfile, True, progress)
            wanted = {digest: one for one in entries for digest in one.digests}
        await self._gateway.ready()
        shared = []
        paths = await asyncio.to_thread(_paths_in, command.folders)
        for count, path in enumerate(paths):
            progress(
                {"label": "reading caches", "done": count, "total": len(paths),
                 "unit": "files"}
            )  # fmt: skip
            file = await self._wanted_file(path, wanted)
            if file is not None:
                artifact = await self._import_file(path)
                self._catalogue.make_public(str(artifact.digest))
                self._catalogue.add_direct(str(artifact.digest), _plain(file))
                digest = str(artifact.digest)
                shared.append(
                    results.SharedArtifact(file=file, digest=digest, size=artifact.size)
                )
        await self._router.sync()
        return results.AdoptResult(artifacts=shared, looked_at=len(paths))

    async def origins(
        self, command: commands.OriginsCommand, _progress: Progress
    ) -> results.OriginsResult:
        """Say where what is at paths of the gateway comes from."""
        await self._gateway.ready()
        urls = [await self._gateway.origin_of(path) for path in command.paths]
        return results.OriginsResult(urls=urls)

    # --- lockfiles ---------------------------------------------------------------

    async def _entries(
        self, lockfile: str, everything: bool, progress: Progress
    ) -> tuple[list[LockEntry], list[LeftOut]]:
        """Read a lockfile, learn from upstreams what it means, choose what fits."""
        path = path_of(lockfile)
        locked = await self._locked(path)
        await self._learn(locked.files, progress)
        known = [await self._with_file(entry) for entry in locked.files]
        return known if everything else usable(known), locked.left_out

    async def _locked(self, path: Path) -> Locked:
        """Read a lockfile; UsageError or NodeError say why it cannot be read."""
        try:
            content = await asyncio.to_thread(content_of, path)
        except OSError as error:
            raise NodeError(f"cannot read {path}: {error.strerror}") from error
        try:
            return await self._gateway.pages.in_reader(
                lambda: read_lockfile(path.name, content)
            )
        except TimeoutError as error:
            raise UsageError(f"{path.name} takes too long to be read") from error

    async def _learn(self, entries: Iterable[LockEntry], progress: Progress) -> None:
        """Read the upstreams' pages of what is locked, as far as they can be asked."""
        await self._gateway.ready()
        names = sorted({(one.ecosystem, one.name) for one in entries})
        work = [self._learn_one(ecosystem, name) for ecosystem, name in names]
        await _all(work, "asking the indexes", progress)

    async def _learn_one(self, ecosystem: str, name: str) -> None:
        try:
            await self._gateway.indexes[ecosystem].learn(name)
        except (PageMissingError, UnreachableError):
            return

    async def _with_file(self, entry: LockEntry) -> LockEntry:
        """Fill in the file's name where only the index knows it."""
        if entry.file:
            return entry
        named = await self._gateway.named(entry.digest)
        return replace(entry, file=named[0].file) if named else entry

    async def _write_out(
        self, files: list[results.PrefetchedFile], folder: Path, *, force: bool
    ) -> list[results.PrefetchedFile]:
        """Write what was fetched below `folder`, under the names that are locked."""
        named = []
        for one in files:
            artifact = await self._store.find_soon(Digest.parse(one.digest))
            if artifact is None:
                raise NodeError(f"{one.digest} was removed from the store meanwhile")
            named.append(NamedArtifact(artifact, _plain(one.file)))
        paths = await self._output.write_folder(named, folder, force=force)
        return [
            replace_field(one, path=str(path))
            for one, path in zip(files, paths, strict=True)
        ]

    # --- what is on disk ---------------------------------------------------------

    async def _wanted_file(
        self, path: Path, wanted: dict[Digest, LockEntry] | None
    ) -> str | None:
        """Return the file name of what is at `path` if it is to be offered."""
        if wanted is not None:
            algorithms = {digest.algorithm for digest in wanted}
            found = await asyncio.to_thread(_digests_of, path, algorithms)
            entry = next((wanted[one] for one in found if one in wanted), None)
            return None if entry is None else entry.file
        found_in = await self._gateway.pages.in_reader(lambda: _project_in(path))
        if found_in is None:
            return None
        await self._learn_one(*found_in)
        digest = (await asyncio.to_thread(_digests_of, path, {"sha256"}))[0]
        named: Sequence[NamedFile] = await self._gateway.named(digest)
        if not named or self._gateway.sources.is_private(named):
            return None
        return named[0].file

    async def _import_file(self, path: Path) -> Artifact:
        try:
            body = await asyncio.to_thread(body_of, path)
            if isinstance(body, bytes):
                return await asyncio.to_thread(self._store.add_bytes, body)
            return await asyncio.to_thread(self._store.add, body)
        except (OSError, TransferError) as error:
            raise NodeError(f"cannot take in {path}: {error}") from error


async def _all(
    work: Sequence[Coroutine[Any, Any, Any]], label: str, progress: Progress
) -> list[Any]:
    """Do `work`, a few at once, saying how far it is; results in its order."""
    slots = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def one(coroutine: Coroutine[Any, Any, Any]) -> Any:
        nonlocal done
        async with slots:
            result = await coroutine
        done += 1
        progress({"label": label, "done": done, "total": len(work), "unit": "files"})
        return result

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(coroutine)) for coroutine in work]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


def _said(entry: LockEntry) -> dict[str, str]:
    return {
        "name": entry.name,
        "version": entry.version,
        "file": entry.file,
        "digest": str(entry.digest),
    }


def _plain(file: str) -> str:
    """Return a file's name if it is safe on every platform, else "": no paths."""
    return file if is_file_name(file) else ""


def _paths_in(folders: Sequence[str]) -> list[Path]:
    return [path for folder in folders for path in files_in(Path(folder))]


def _digests_of(path: Path, algorithms: set[str]) -> list[Digest]:
    body = body_of(path)
    if isinstance(body, bytes):
        return [Digest.of(body, name) for name in sorted(algorithms)]
    return [Digest.of_file(body, name) for name in sorted(algorithms)]


def _project_in(path: Path) -> tuple[str, str] | None:
    """Return (ecosystem, project) that a cached file belongs to, or None. Blocks."""
    body = body_of(path)
    for name, ecosystem in ecosystems().items():
        if (project := ecosystem.project_in(body)) is not None:
            return name, project
    return None


def _all_left_out(left_out: Sequence[LeftOut]) -> list[results.LeftOutEntry]:
    return [
        results.LeftOutEntry(name=one.name, version=one.version, why=one.why)
        for one in left_out
    ]
