"""What a caller wants, and what it knows of it: one value from the node to the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.content.manifest import Manifest
from transfer.errors import FalseManifestError, ManifestError
from transfer.limits import EAGER_BYTES_MAX

if TYPE_CHECKING:
    from transfer.content.digest import Digest


@dataclass(frozen=True, slots=True)
class Wanted:
    """An artifact by its digest, with what a trusted source says of it."""

    digest: Digest
    """Of any algorithm."""
    size: int | None = None
    """Its exact size in bytes, if that is known."""
    size_max: int | None = None
    """More bytes than this are not wanted."""
    manifest: bytes | None = None
    """The digest of its manifest, if that is known."""

    @property
    def may_be_small(self) -> bool:
        """Whether it may fit into one answer without a manifest."""
        return self.size is None or self.size <= EAGER_BYTES_MAX

    @property
    def small_bytes_max(self) -> int:
        """How many bytes are taken in one answer."""
        if self.size_max is None:
            return EAGER_BYTES_MAX
        return min(EAGER_BYTES_MAX, max(self.size_max, 0))

    def believable(self, encoded: bytes) -> Manifest:
        """Read a manifest that may be true; raise FalseManifestError for others."""
        try:
            manifest = Manifest.decode(encoded)
        except ManifestError as error:
            raise FalseManifestError(str(error)) from error
        if self.size is not None and manifest.size != self.size:
            raise FalseManifestError
        if self.size_max is not None and manifest.size > self.size_max:
            raise FalseManifestError("The peer's manifest is larger than is wanted.")
        if self.manifest not in (None, manifest.digest):
            raise FalseManifestError
        return manifest
