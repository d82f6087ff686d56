"""One of several manifests that a download may turn out to have: plan and file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from transfer.content.manifest import Manifest
    from transfer.leeching.picker import ChunkPicker
    from transfer.leeching.prefix import PrefixHasher
    from transfer.store.partial import Partial


@dataclass(slots=True, eq=False)
class Contender:
    """One claimed manifest: its plan, its file and what lies in that file."""

    manifest: Manifest
    picker: ChunkPicker
    partial: Partial
    held: bytearray
    """1 for each chunk that lies in this file; the plan counts others' as well."""
    parts: dict[int, tuple[Hashable, int]] = field(default_factory=dict)
    """The source and length of what lies in the file of chunks that broke off."""

    def names_alike(self, manifest: Manifest, index: int) -> bool:
        """Whether both manifests name the same chunk at the same place."""
        own = self.manifest
        return own is manifest or (
            own.chunk_size == manifest.chunk_size
            and index < min(own.count, manifest.count)
            and own.chunk(index) == manifest.chunk(index)
        )


@dataclass(frozen=True, slots=True)
class ChunkClaim:
    """The right to write one chunk into one file."""

    home: Contender
    index: int
    hasher: PrefixHasher | None
    """What follows the file, if it leads."""
    part: tuple[Hashable, int] | None
    """The source and length of what lies there of the chunk."""
