"""An offer: one artifact, or download under way, that a connection wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.connection import wire

if TYPE_CHECKING:
    from transfer.content.digest import Digest
    from transfer.content.manifest import Manifest
    from transfer.seeding.served_files import ServedFile
    from transfer.seeding.superseeding import SwarmPeer
    from transfer.store.partial import Partial


@dataclass(slots=True)
class Offer:
    """One artifact, or download under way, that a connection wants."""

    name: Digest
    file: ServedFile
    partial: Partial | None = None
    version_sent: int = -1
    sent_at: float = 0.0
    swarm_peer: SwarmPeer | None = None
    """Its place in the swarm; None if the artifact has one chunk."""

    @property
    def manifest(self) -> Manifest:
        """The manifest by which its chunks are numbered."""
        return self.file.manifest

    def is_due(self, now: float, have_seconds: float) -> bool:
        """Whether chunks were gained that the peer has not heard of."""
        return (
            self.partial is not None
            and self.version_sent != self.partial.version
            and now - self.sent_at >= have_seconds
        )

    def have(self, number: int, now: float) -> wire.Have:
        """Return what is held of it, for the peer."""
        digest = self.manifest.digest
        if self.partial is None:
            return wire.Have(number, digest, whole=True, bitmap=b"")
        self.version_sent = self.partial.version
        self.sent_at = now
        held = self.partial.have(digest)
        none = bytes(-(-self.manifest.count // 8))
        bitmap = none if held is None else held
        return wire.Have(number, digest, whole=False, bitmap=bitmap)
