"""Publish: sign a package file, offer it, store the release record, alert holders."""

from __future__ import annotations

import asyncio
import base64
import binascii
from pathlib import Path

from dht import Delegation, Dht, RecordError, ReleaseRecord
from node import commands
from node.commands import Document, Progress
from node.content.fetch import Closure, Fetch
from node.content.router import ContentRouter
from node.content.share import Share
from node.errors import NodeError, RefusedError, UsageError
from node.model.catalogue import Catalogue, PackageRow
from node.model.ecosystems import describe_file
from node.model.keys import PublisherKey, PublisherKeys, publisher_text
from node.model.names import is_file_name, is_name, is_version
from node.model.packages import (
    FORMAT,
    REPLACES_MAX,
    ArtifactEntry,
    Body,
    Dependency,
    Package,
    issued_now,
)
from node.model.targets import DigestTarget, FileTarget, parse_target
from node.model.trust_store import TrustStore
from node.releases.alerts import Alerting
from node.releases.newest import Releases
from node.releases.renewal import VALID_SECONDS, Renewal
from node.releases.updates import Updates
from node.wallclock import Now
from transfer import Artifact, Store


class Publish:
    """What a publisher does: release a version, and tell of it again."""

    def __init__(
        self,
        dht: Dht,
        store: Store,
        catalogue: Catalogue,
        beliefs: TrustStore,
        keys: PublisherKeys,
        share: Share,
        fetch: Fetch,
        releases: Releases,
        updates: Updates,
        alerting: Alerting,
        provide: ContentRouter,
        renewal: Renewal,
        home: Path,
        now: Now,
    ) -> None:
        self._dht = dht
        self._store = store
        self._catalogue = catalogue
        self._beliefs = beliefs
        self._keys = keys
        self._share = share
        self._fetch = fetch
        self._releases = releases
        self._updates = updates
        self._alerting = alerting
        self._provide = provide
        self._renewal = renewal
        self._folder = home / "packages"
        self._now = now

    async def publish(self, command: commands.Publish, progress: Progress) -> Document:
        """Sign and offer a package, replace the version before, alert its holders."""
        _check(command)
        key = self._keys.load_or_new(command.key, command.passphrase)
        dependencies = [
            await self._dependency(text, progress) for text in command.depends
        ]
        artifacts = [await self._add(Path(file), progress) for file in command.files]
        previous = await self._previous(key.publisher, command.name, progress)
        if previous is not None and previous.version == command.version:
            raise NodeError(
                f"{command.name} {command.version} is published already; "
                "a new release needs a new version"
            )
        entries = [
            _entry(Path(file).name, artifact, command)
            for file, artifact in zip(command.files, artifacts, strict=True)
        ]
        body = self._body(command, key, entries, dependencies, previous)
        package = Package.sign(body, key)
        stored = await self._keep(package)
        record = self._record(package, stored, key)
        self._releases.learn(record, confirmed=0)
        release = self._releases.known(record.publisher, record.name)
        if release is not None:
            await self._updates.withdraw(release)
        await self._provide.sync()
        if key.delegation is not None:
            await self._dht.store_record(key.delegation, keep=True)
        await self._dht.store_record(record, keep=True)
        audience = await self._alerting.audience(record)
        count = len(audience.everybody)
        event = {"label": "alerting", "total": count, "unit": "nodes"}
        progress({**event, "done": 0})
        reach = await self._alerting.alert(record, audience)
        progress({**event, "done": count})
        return {
            "package": str(stored.digest),
            "package_file": str(self._folder / package.file_name),
            "publisher": key.text,
            "name": body.name,
            "version": body.version,
            "sequence": body.sequence,
            "replaces": len(body.replaces),
            "holders": len(audience.holders),
            "followers": len(audience.followers),
            "audience": len(audience.everybody),
            "alerted": reach.told,
            "unreachable": reach.unreachable,
        }

    async def delegate(
        self, command: commands.Delegate, _progress: Progress
    ) -> Document:
        """Make a delegation known to the network; RefusedError for a wrong one.

        Own releases of the epochs that it ends are signed anew.
        """
        try:
            raw = base64.b64decode(command.delegation, validate=True)
            delegation = Delegation.verify(raw, self._now())
        except (RecordError, binascii.Error) as error:
            raise RefusedError(f"this is no delegation that counts: {error}") from error
        if delegation.epoch < self._beliefs.epoch_of(delegation.publisher):
            raise RefusedError("a newer delegation has revoked this one")
        self._releases.learn_delegation(delegation)
        report = await self._dht.store_record(delegation, keep=True)
        signed = await self._renewal.renew()
        return {
            "signed_anew": [f"{one.name} {one.version}" for one in signed],
            "publisher": publisher_text(delegation.publisher),
            "epoch": delegation.epoch,
            "stored": report.stored,
        }

    async def broadcast(
        self, command: commands.Broadcast, _progress: Progress
    ) -> Document:
        """Alert the holders and followers of the newest own release of a name."""
        name = command.name
        own = [
            row for row in self._catalogue.packages() if row.own and row.name == name
        ]
        if not own:
            raise NodeError(f"no release of {name!r} was published from here")
        publisher = max(own, key=lambda row: row.order).publisher
        release = self._releases.known(publisher, name)
        if release is None:
            raise NodeError(f"the newest release of {name!r} has expired; publish one")
        await self._dht.store_record(release.record, keep=True)
        audience = await self._alerting.audience(release.record)
        reach = await self._alerting.alert(release.record, audience)
        return {
            "name": name,
            "version": release.record.version,
            "holders": len(audience.holders),
            "followers": len(audience.followers),
            "audience": len(audience.everybody),
            "alerted": reach.told,
            "unreachable": reach.unreachable,
        }

    async def _previous(
        self, publisher: bytes, name: str, progress: Progress
    ) -> PackageRow | None:
        """Return the release that a new one follows, from here or the network."""
        await self._releases.refresh(publisher, name)
        release = self._releases.known(publisher, name)
        if (
            release is not None
            and self._catalogue.package(str(release.package)) is None
        ):
            await self._releases.package_of(release, progress)
        last = self._beliefs.release(publisher, name)
        for row in self._catalogue.packages_named(publisher, name):
            # A crash before the record was stored leaves a package never released.
            if last is not None and row.order <= last.order:
                return row
        return None

    def _body(
        self,
        command: commands.Publish,
        key: PublisherKey,
        entries: list[ArtifactEntry],
        dependencies: list[Dependency],
        previous: PackageRow | None,
    ) -> Body:
        epoch, sequence = self._order(key, command.name)
        delegation = key.delegation.raw if key.delegation else b""
        return Body(
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
        epoch = self._beliefs.epoch_of(key.publisher)
        if key.delegation is not None:
            if key.delegation.epoch < epoch:
                raise NodeError(
                    "this release key was revoked: its publisher has delegated a "
                    f"newer one (epoch {epoch})"
                )
            if key.delegation.not_after <= self._now():
                raise NodeError("the delegation of this release key has ended")
            epoch = key.delegation.epoch
        last = self._beliefs.release(key.publisher, name)
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
        artifact = await self._share.add(path, progress)
        return await asyncio.to_thread(self._store.with_aliases, artifact.digest)

    async def _keep(self, package: Package) -> Artifact:
        """Put a package file into the store, the catalogue and people's folder."""
        stored = await asyncio.to_thread(self._store.add_bytes, package.raw)
        self._catalogue.add_package(str(stored.digest), package, held=True, own=True)
        self._folder.mkdir(exist_ok=True)
        await asyncio.to_thread(
            self._store.export, stored, self._folder / package.file_name
        )
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
        )

    async def _dependency(self, text: str, progress: Progress) -> Dependency:
        """Read a --depends target; what it names is fetched, so that it is offered."""
        target = parse_target(text, self._catalogue, self._beliefs)
        closure = Closure(self._fetch, progress, dependencies=True)
        if isinstance(target, FileTarget):
            digest = (await self._share.add(target.path, progress)).digest
        elif isinstance(target, DigestTarget):
            digest = target.digest
        else:
            digest = await self._releases.find_version(
                target.publisher, target.name, target.version, progress
            )
        await closure.bring([digest], [])
        found = closure.fetched(digest).artifact.digest
        row = self._catalogue.package(str(found))
        if row is None:
            return Dependency("artifact", str(found))
        return Dependency("package", str(found), row.name, row.version)


def _check(command: commands.Publish) -> None:
    """Raise UsageError for a name, version or file that cannot be published."""
    if not is_name(command.name):
        raise UsageError(f"{command.name!r} cannot name a package")
    if not is_version(command.version):
        raise UsageError(f"{command.version!r} cannot be a version")
    if not command.files:
        raise UsageError("a package needs at least one file")
    names = [Path(file).name for file in command.files]
    for name in names:
        if not is_file_name(name):
            raise UsageError(f"{name!r} cannot be the name of a file in a package")
    if len({name.casefold() for name in names}) != len(names):
        raise UsageError("two of the files have the same name")


def _entry(file: str, artifact: Artifact, command: commands.Publish) -> ArtifactEntry:
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
