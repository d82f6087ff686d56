"""Publish: sign a package file, offer it, store its release record, alert holders."""

from __future__ import annotations

from node import commands, results
from node.commands import Progress
from node.errors import NodeError
from node.model.catalogue import Catalogue
from node.model.keys import PublisherKeys
from node.releases.alerts import PUBLISHING
from node.releases.newest import Releases
from node.releases.package_builder import PackageBuilder
from node.releases.pipeline import Released, ReleasePipeline


class ReleasePublisher:
    """What a publisher does: release a version, and alert its users again."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        keys: PublisherKeys,
        builder: PackageBuilder,
        releases: Releases,
        pipeline: ReleasePipeline,
    ) -> None:
        self._catalogue = catalogue
        self._keys = keys
        self._builder = builder
        self._releases = releases
        self._pipeline = pipeline

    async def publish(
        self, command: commands.PublishCommand, progress: Progress
    ) -> results.PublishResult:
        """Sign and offer a package, replace the version before, alert its holders."""
        key = self._keys.load_or_new(command.key, command.passphrase)
        package, record = await self._builder.build(command, key, progress)
        released = await self._pipeline.release(
            record, effort=PUBLISHING, progress=progress
        )
        if released is None:
            raise NodeError(
                f"a newer release of {record.name} came from elsewhere meanwhile; "
                "publish again to release this one after it"
            )
        return results.PublishResult(
            package=f"sha256:{record.package.hex()}",
            package_file=str(self._builder.path(package)),
            publisher=key.text,
            name=record.name,
            version=record.version,
            sequence=record.sequence,
            replaces=len(package.body.replaces),
            **_reached(released),
        )

    async def broadcast(
        self, command: commands.BroadcastCommand, progress: Progress
    ) -> results.BroadcastResult:
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
            raise NodeError(
                f"the key that signed {name!r} was revoked; publish its next version"
            )
        released = await self._pipeline.release(
            release.record, effort=PUBLISHING, progress=progress
        )
        if released is None:
            raise NodeError(f"{name!r} was released anew meanwhile; try again")
        return results.BroadcastResult(
            name=name, version=release.record.version, **_reached(released)
        )


def _reached(released: Released) -> dict[str, int]:
    audience = released.audience
    return {
        "holders": len(audience.holders),
        "followers": len(audience.followers),
        "audience": len(audience.everybody),
        "alerted": released.report.alerted,
        "unreachable": released.report.unreachable,
    }
