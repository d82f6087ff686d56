"""The `fetch` command: read its targets, bring their closure, write it out."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Protocol

from node import commands, results
from node.commands import Progress
from node.content.closure import Closure
from node.content.fetcher import ContentFetcher, Fetched
from node.content.routing import Routing
from node.content.share import Sharer
from node.content.withdrawal import Withdrawal
from node.errors import NodeError, UsageError
from node.model.catalogue import Catalogue
from node.model.targets import DigestTarget, NameTarget, Target, parse_target
from node.model.trust_store import TrustStore
from transfer import Digest, Store, TransferError


class VersionFinder(Protocol):
    """Finds the package file of a published version."""

    async def find_version(
        self,
        publisher: bytes,
        name: str,
        *,
        version: str | None,
        progress: Progress,
    ) -> Digest:
        """Return its digest; without `version`, that of the newest release."""


class FetchCommands:
    """Does what `caravan fetch` asks."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        trust_store: TrustStore,
        fetcher: ContentFetcher,
        versions: VersionFinder,
        sharer: Sharer,
        router: Routing,
        withdrawal: Withdrawal,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._fetcher = fetcher
        self._versions = versions
        self._sharer = sharer
        self._router = router
        self._withdrawal = withdrawal

    async def fetch(
        self, command: commands.FetchCommand, progress: Progress
    ) -> results.FetchResult:
        """Download, verify, keep and offer targets; write them where asked."""
        if not command.targets:
            raise UsageError("say what to fetch: a digest, a .caravan file or a name")
        targets = [
            parse_target(text, self._catalogue, self._trust_store)
            for text in command.targets
        ]
        closure = Closure(
            fetcher=self._fetcher,
            catalogue=self._catalogue,
            progress=progress,
            dependencies=command.dependencies,
        )
        digests: list[Digest] = []
        packages: list[Digest] = []
        order: list[Digest] = []
        for target in targets:
            digest = await self._digest(target, progress)
            order.append(digest)
            (digests if isinstance(target, DigestTarget) else packages).append(digest)
        await closure.bring(digests, packages)
        fetched = _in_order(closure, digests, order)
        for one in fetched:
            self._withdrawal.check(str(one.artifact.digest))
        for target in targets:
            if isinstance(target, NameTarget):
                self._follow(target)
        await self._router.sync()
        paths = await self._paths(fetched, command.output)
        return results.FetchResult(
            artifacts=[
                one.entry(str(path)) for one, path in zip(fetched, paths, strict=True)
            ]
        )

    def _follow(self, target: NameTarget) -> None:
        """Follow a name because it was fetched, unless it is followed already."""
        if self._trust_store.followed(target.publisher, target.name) is None:
            self._trust_store.follow(target.publisher, target.name, "never")

    async def _digest(self, target: Target, progress: Progress) -> Digest:
        """Return the digest of what a target names, or of its package file."""
        if isinstance(target, DigestTarget):
            return target.digest
        if isinstance(target, NameTarget):
            return await self._versions.find_version(
                target.publisher,
                target.name,
                version=target.version,
                progress=progress,
            )
        artifact = await self._sharer.add(target.path, progress)
        if await self._fetcher.read_package(artifact) is None:
            raise NodeError(f"{target.path} is not a package file")
        return artifact.digest

    async def _paths(self, fetched: list[Fetched], output: str | None) -> list[Path]:
        """Return where each artifact is, after writing it to `output` if asked."""
        if output is None:
            return [self._store.path(one.artifact) for one in fetched]
        target = Path(output)
        is_folder = output.endswith(os.sep)
        try:
            return await asyncio.to_thread(self._write, fetched, target, is_folder)
        except (OSError, TransferError) as error:
            raise NodeError(f"cannot write to {target}: {error}") from error

    def _write(
        self, fetched: list[Fetched], target: Path, is_folder: bool
    ) -> list[Path]:
        if len(fetched) == 1 and not is_folder and not target.is_dir():
            paths = [target]
        else:
            paths = [target / name for name in _file_names(fetched)]
        for one, path in zip(fetched, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._store.export(one.artifact, path)
        return paths


def _in_order(
    closure: Closure, digests: list[Digest], order: list[Digest]
) -> list[Fetched]:
    """Return what was asked for first, then all that it needs, each once."""
    asked: dict[str, Fetched] = {}
    needed: dict[str, Fetched] = {}
    for digest in order:
        root = closure.fetched(digest)
        if digest in digests:
            asked.setdefault(str(root.artifact.digest), root)
        for one in closure.artifacts_of(root.artifact.digest):
            needed.setdefault(str(one.artifact.digest), one)
    return list(
        {**asked, **{k: v for k, v in needed.items() if k not in asked}}.values()
    )


def _file_names(fetched: list[Fetched]) -> list[str]:
    """Return a distinct plain file name for each, the digest where none is known."""
    names: list[str] = []
    taken: set[str] = set()
    for one in fetched:
        name = one.file or one.artifact.digest.hex
        if name.casefold() in taken:
            name = f"{one.artifact.digest.short()}-{name}"
        taken.add(name.casefold())
        names.append(name)
    return names
