"""The `fetch` command: read its targets, bring their closure, write it out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from node import commands, results
from node.commands import Progress
from node.content.closure import Closure, ClosureLimitError, Closures
from node.content.fetcher import ContentFetcher, Fetched
from node.content.output import NamedArtifact, OutputWriter
from node.content.routing import Routing
from node.content.several import Outcomes
from node.content.share import Sharer
from node.content.withdrawal import Withdrawal
from node.errors import NodeError, UsageError
from node.model.catalogue import Catalogue
from node.model.paths import path_of
from node.model.targets import DigestTarget, NameTarget, Target, parse_target
from node.model.trust_store import TrustStore
from transfer import Digest, Store

TARGETS_AT_ONCE = 64
"""How many targets are brought at once where each is brought by itself."""


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


@dataclass(slots=True)
class _Brought:
    """Targets that were had, and what was fetched for them, in order and once each."""

    targets: list[Target]
    fetched: dict[str, Fetched]


class FetchCommands:
    """Does what `caravan fetch` asks."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        trust_store: TrustStore,
        fetcher: ContentFetcher,
        closures: Closures,
        versions: VersionFinder,
        sharer: Sharer,
        router: Routing,
        withdrawal: Withdrawal,
        output: OutputWriter,
        index_names: Callable[[Sequence[Digest]], Awaitable[list[str]]],
    ) -> None:
        """`index_names` returns the names that package indexes gave files, or ""."""
        self._store = store
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._fetcher = fetcher
        self._closures = closures
        self._versions = versions
        self._sharer = sharer
        self._router = router
        self._withdrawal = withdrawal
        self._output = output
        self._index_names = index_names

    async def fetch(
        self, command: commands.FetchCommand, progress: Progress
    ) -> results.FetchResult:
        """Download, verify, keep and offer targets; write them where asked."""
        if not command.targets:
            raise UsageError("expected a digest, a .caravan file or a name to fetch")
        try:
            brought = await self._bring(command.targets, command, progress)
            failed: list[tuple[str, NodeError]] = []
        except ClosureLimitError:
            raise
        except NodeError:
            if len(command.targets) == 1:
                raise
            brought, failed = await self._bring_each(command, progress)
        targets, fetched = brought.targets, list(brought.fetched.values())
        if not targets:
            Outcomes(targets, failed).check(results.FetchResult(artifacts=[]))
        for target in targets:
            if isinstance(target, NameTarget):
                self._follow(target)
        # At once: neither needs the other, and both wait for peers.
        _, named = await asyncio.gather(self._router.sync(), self._named(fetched))
        paths = await self._paths(named, targets, command)
        result = results.FetchResult(
            artifacts=[
                replace(one, file=name.name).entry(str(path))
                for one, name, path in zip(fetched, named, paths, strict=True)
            ]
        )
        Outcomes(targets, failed).check(result)
        return result

    async def _bring(
        self,
        texts: Sequence[str],
        command: commands.FetchCommand,
        progress: Progress,
    ) -> _Brought:
        """Fetch targets with what they need; NodeError where any cannot be had."""
        targets = [
            parse_target(text, self._catalogue, self._trust_store) for text in texts
        ]
        closure = self._closures.new(
            progress,
            dependencies=command.dependencies,
            bounded=not command.yes,
            check=self._withdrawal.check,
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
        self._withdrawal.check(*(str(one.artifact.digest) for one in fetched.values()))
        return _Brought(targets, fetched)

    async def _bring_each(
        self, command: commands.FetchCommand, progress: Progress
    ) -> tuple[_Brought, list[tuple[str, NodeError]]]:
        """Bring what can be had of targets that could not be brought at once.

        What came before is held: that is brought together, each other target by
        itself, so that none takes another along.
        """
        together = await self._held_of(command.targets)
        whole = _Brought([], {})
        if together:
            try:
                whole = await self._bring(together, command, progress)
            except NodeError:
                together = []
        alone = _without(command.targets, together)
        slots = asyncio.Semaphore(TARGETS_AT_ONCE)

        async def bring(text: str) -> _Brought | NodeError:
            async with slots:
                try:
                    return await self._bring([text], command, progress)
                except NodeError as error:
                    return error

        found = await asyncio.gather(*map(bring, alone))
        failed = []
        for text, one in zip(alone, found, strict=True):
            if isinstance(one, NodeError):
                failed.append((text, one))
            else:
                whole.targets += one.targets
                whole.fetched.update(one.fetched)
        return whole, failed

    async def _held_of(self, texts: Sequence[str]) -> list[str]:
        """Return those of these targets that are digests of what is held."""
        digests: dict[str, Digest] = {}
        for text in texts:
            with contextlib.suppress(NodeError):
                target = parse_target(text, self._catalogue, self._trust_store)
                if isinstance(target, DigestTarget):
                    digests[text] = target.digest
        held = await self._fetcher.held(digests.values())
        return [text for text, digest in digests.items() if digest in held]

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

    async def _paths(
        self,
        files: list[NamedArtifact],
        targets: list[Target],
        command: commands.FetchCommand,
    ) -> list[Path]:
        """Return where each artifact is, after writing it where the user said.

        What can bring several files goes into a folder: a package, or two targets.
        """
        if command.output is None:
            return [self._store.path(one.artifact) for one in files]
        is_one = len(files) == len(command.targets) == 1 and isinstance(
            targets[0], DigestTarget
        )
        is_one = is_one and "/" not in files[0].name
        output = path_of(command.output)
        if is_one and await self._output.is_file_name(command.output):
            return [await self._output.write_file(files[0].artifact, output)]
        return await self._output.write_folder(files, output, force=command.force)

    async def _named(self, fetched: list[Fetched]) -> list[NamedArtifact]:
        """Name each artifact, by its giver's word where nothing here knows."""
        names = [self._name(one) for one in fetched]
        unnamed = [place for place, name in enumerate(names) if not name]
        digests = [fetched[place].artifact.digest for place in unnamed]
        indexed = await self._index_names(digests) if digests else []
        for place, name in zip(unnamed, indexed, strict=True):
            names[place] = name
        pairs = list(zip(fetched, names, strict=True))
        hints = await self._fetcher.hinted_names(one for one, name in pairs if not name)
        for digest, name in hints.items():
            self._catalogue.add_direct(str(digest), name)
        return [
            NamedArtifact(one.artifact, name or hints.get(one.artifact.digest, ""))
            for one, name in pairs
        ]

    def _name(self, fetched: Fetched) -> str:
        """Return what people call an artifact by the catalogue, "" without a name."""
        if fetched.file:
            return fetched.file
        digest = fetched.artifact.digest
        packages = self._catalogue.packages_with(str(digest))
        name = packages[0][1] if packages else ""
        return name or self._catalogue.direct_file(str(digest))


def _without(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return these texts, each once, without the others."""
    gone = set(others)
    return [one for one in dict.fromkeys(texts) if one not in gone]


def _in_order(
    closure: Closure, digests: list[Digest], order: list[Digest]
) -> dict[str, Fetched]:
    """Return what was asked for first, then all that it needs, each once."""
    asked: dict[str, Fetched] = {}
    needed: dict[str, Fetched] = {}
    by_digest = set(digests)
    for digest in order:
        root = closure.fetched(digest)
        if (files := closure.folders.get(str(root.artifact.digest))) is not None:
            # Each file by its name in this folder, whatever it is called elsewhere.
            for file in files:
                found = closure.fetched(Digest.parse(file.digest))
                asked[f"{file.digest} {file.name}"] = replace(found, file=file.name)
            continue
        if digest in by_digest:
            asked.setdefault(str(root.artifact.digest), root)
        for one in closure.artifacts_of(root.artifact.digest):
            needed.setdefault(str(one.artifact.digest), one)
    return {**asked, **{k: v for k, v in needed.items() if k not in asked}}
