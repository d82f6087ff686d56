"""From a `publish` command to a signed package file: read, number, sign, keep."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

from dht import ReleaseRecord
from node import commands
from node.commands import Progress
from node.content.closure import Closures
from node.content.fetcher import ContentFetcher
from node.content.share import Sharer
from node.errors import NodeError, UsageError
from node.model.catalogue import Catalogue, PackageRow
from node.model.ecosystems import describe_file
from node.model.keys import PublisherKey
from node.model.names import is_file_name, is_name, is_version
from node.model.packages import (
    FORMAT,
    REPLACES_MAX,
    ArtifactEntry,
    Dependency,
    Package,
    PackageBody,
    issued_now,
)
from node.model.paths import path_of
from node.model.targets import DigestTarget, FileTarget, parse_target
from node.model.trust_store import TrustStore
from node.releases.newest import Releases
from node.releases.renewal import VALID_SECONDS
from node.wallclock import Now
from transfer import Artifact, Digest, Store


class PackageBuilder:
    """Makes package files, each the successor of the newest release of its name."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        trust_store: TrustStore,
        sharer: Sharer,
        fetcher: ContentFetcher,
        closures: Closures,
        releases: Releases,
        folder: Path,
        now: Now,
    ) -> None:
        """`folder` is where people find the package files that were made here."""
        self._store = store
        self._catalogue = catalogue
        self._trust_store = trust_store
        self._sharer = sharer
        self._fetcher = fetcher
        self._closures = closures
        self._releases = releases
        self._folder = folder
        self._now = now

    async def build(
        self, command: commands.PublishCommand, key: PublisherKey, progress: Progress
    ) -> tuple[Package, ReleaseRecord]:
        """Sign a package of `command.files`, keep it, and sign its release record.

        Raise UsageError for names that cannot be published, NodeError where the
        version exists already or the key may not sign.
        """
        _check(command)
        dependencies = [
            await self._dependency(text, progress) for text in command.depends
        ]
        previous = await self._previous(key.publisher, command.name, progress)
        if previous is not None and previous.version == command.version:
            raise NodeError(
                f"{command.name} {command.version} is published already; "
                "a new release needs a new version"
            )
        artifacts = [await self._add(path_of(file), progress) for file in command.files]
        entries = [
            _entry(path_of(file).name, artifact, command)
            for file, artifact in zip(command.files, artifacts, strict=True)
        ]
        body = self._body(
            command,
            key=key,
            entries=entries,
            dependencies=dependencies,
            previous=previous,
        )
        package = Package.sign(body, key)
        stored = await self._store_package(package)
        return package, self._record(package, stored, key)

    def path(self, package: Package) -> Path:
        """Return where people find a package file."""
        return self._folder / package.file_name

    async def _previous(
        self, publisher: bytes, name: str, progress: Progress
    ) -> PackageRow | None:
        """Return the release that a new one follows, from here or the network.

        It is the one that counts. Where its key was revoked, it is the newest that was
        published from here or that the root key signed: what a thief released is
        neither replaced nor followed.
        """
        await self._releases.refresh(publisher, name)
        release = self._releases.known(publisher, name)
        if release is not None:
            digest = str(release.package)
            if self._catalogue.package(digest) is None:
                await self._releases.package_of(release, progress)
            return self._catalogue.package(digest)
        last = self._trust_store.release(publisher, name)
        for row in self._catalogue.packages_named(publisher, name):
            # A crash before the record was stored leaves a package never released.
            if last is None or row.order > last.order:
                continue
            if row.own or await self._is_of_root(row, progress):
                return row
        return None

    async def _is_of_root(self, row: PackageRow, progress: Progress) -> bool:
        """Tell whether a publisher's root key signed a package file."""
        try:
            package, _ = await self._fetcher.package(Digest.parse(row.digest), progress)
        except NodeError:
            return False
        return not package.body.delegation

    def _body(
        self,
        command: commands.PublishCommand,
        *,
        key: PublisherKey,
        entries: list[ArtifactEntry],
        dependencies: list[Dependency],
        previous: PackageRow | None,
    ) -> PackageBody:
        epoch, sequence = self._order(key, command.name)
        delegation = key.delegation.raw if key.delegation else b""
        return PackageBody(
            format=FORMAT,
            publisher=key.text,
            name=command.name,
            version=command.version,
            epoch=epoch,
            sequence=sequence,
            issued=issued_now(self._now()),
            artifacts=entries,
            dependencies=dependencies,
            replaces=self._replaces(previous, {entry.digest for entry in entries}),
            previous=previous.digest if previous else "",
            urgency=command.urgency,
            note=command.note,
            license=command.license,
            home_page=command.home_page,
            delegation=base64.b64encode(delegation).decode(),
        )

    def _order(self, key: PublisherKey, name: str) -> tuple[int, int]:
        """Return (epoch, sequence) of the next release; NodeError for a revoked key."""
        epoch = self._trust_store.epoch_of(key.publisher)
        if key.delegation is not None:
            if key.delegation.epoch < epoch:
                raise NodeError(
                    "this release key was revoked: its publisher has delegated a "
                    f"newer one (epoch {epoch})"
                )
            if key.delegation.not_after <= self._now():
                raise NodeError("the delegation of this release key has ended")
            epoch = key.delegation.epoch
        last = self._trust_store.release(key.publisher, name)
        if last is None or last.order[0] < epoch:
            return epoch, 1
        return epoch, last.order[1] + 1

    def _replaces(self, previous: PackageRow | None, kept: set[str]) -> list[str]:
        """Return the artifacts that the new version ends, the latest ones first."""
        if previous is None:
            return []
        ended = [artifact for _, artifact in self._catalogue.files_of(previous.digest)]
        ended += self._catalogue.replaced_by(previous.digest)
        return [one for one in dict.fromkeys(ended) if one not in kept][:REPLACES_MAX]

    async def _add(self, path: Path, progress: Progress) -> Artifact:
        artifact = await self._sharer.add(path, progress)
        return await asyncio.to_thread(self._store.with_aliases, artifact.digest)

    async def _store_package(self, package: Package) -> Artifact:
        """Put a package file into the store, the catalogue and people's folder."""
        stored = await asyncio.to_thread(self._store.add_bytes, package.raw)
        self._catalogue.add_package(str(stored.digest), package, held=True, own=True)
        self._folder.mkdir(exist_ok=True)
        await asyncio.to_thread(self._store.export, stored, self.path(package))
        return stored

    def _record(
        self, package: Package, stored: Artifact, key: PublisherKey
    ) -> ReleaseRecord:
        issued = package.body.issued.timestamp()
        return ReleaseRecord.sign(
            key.private_key,
            publisher=key.publisher,
            name=package.body.name,
            version=package.body.version,
            epoch=package.body.epoch,
            sequence=package.body.sequence,
            package=stored.digest.raw,
            urgency=package.body.urgency,
            issued_at=int(issued),
            expires_at=int(issued + VALID_SECONDS),
            delegation=key.delegation,
            network=self._releases.network,
        )

    async def _dependency(self, text: str, progress: Progress) -> Dependency:
        """Read a --depends target; what it names is fetched, so that it is offered."""
        target = parse_target(text, self._catalogue, self._trust_store)
        closure = self._closures.new(progress)
        if isinstance(target, FileTarget):
            digest = (await self._sharer.add(target.path, progress)).digest
        elif isinstance(target, DigestTarget):
            digest = target.digest
        else:
            digest = await self._releases.find_version(
                target.publisher,
                target.name,
                version=target.version,
                progress=progress,
            )
        await closure.bring([digest], [])
        found = closure.fetched(digest).artifact.digest
        row = self._catalogue.package(str(found))
        if row is None:
            return Dependency("artifact", str(found))
        return Dependency("package", str(found), row.name, row.version)


def _check(command: commands.PublishCommand) -> None:
    """Raise UsageError for a name, version or file that cannot be published."""
    if not is_name(command.name):
        raise UsageError(f"{command.name!r} cannot name a package")
    if not is_version(command.version):
        raise UsageError(f"{command.version!r} cannot be a version")
    if not command.files:
        raise UsageError("a package needs at least one file")
    names = [path_of(file).name for file in command.files]
    for name in names:
        if not is_file_name(name):
            raise UsageError(f"{name!r} cannot be the name of a file in a package")
    if len({name.casefold() for name in names}) != len(names):
        raise UsageError("two of the files have the same name")


def _entry(
    file: str, artifact: Artifact, command: commands.PublishCommand
) -> ArtifactEntry:
    purl, tags = describe_file(file, command.name, command.version)
    aliases = artifact.aliases
    return ArtifactEntry(
        file=file,
        size=artifact.size,
        digest=str(artifact.digest),
        manifest=artifact.manifest_digest.hex(),
        sha512=aliases["sha512"].hex,
        blake2b_256=aliases["blake2b-256"].hex,
        purl=purl,
        tags=tags,
    )
