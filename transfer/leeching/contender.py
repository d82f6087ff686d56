"""One of several manifests that a download may turn out to have: plan and file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.connection.buffers import own_buffer
from transfer.errors import StoreError
from transfer.limits import BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

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

    def held_alike(self, other: Contender) -> Iterator[int]:
        """Return the chunks that lie in this file and that the other names too."""
        count = min(self.manifest.count, other.manifest.count)
        for index in range(count):
            if self.held[index] and self.names_alike(other.manifest, index):
                yield index

    def plan_lost(self, rivals: Iterable[Contender]) -> None:
        """Plan anew if chunks that count as done lie neither here nor in a rival."""
        done = held_for(self, rivals)
        if done.count(1) + self.picker.missing < self.manifest.count:
            self.picker.reset(done)

    def copy_chunk(self, source: Contender, index: int) -> bool:
        """Copy a chunk out of another file; False if it is not there any more."""
        offset, length = self.manifest.offset(index), self.manifest.length(index)
        try:
            data = os.pread(source.partial.descriptor, length, offset)
        except OSError:
            return False
        if len(data) != length:
            return False
        self.partial.write(offset, data)
        return True


def held_for(contender: Contender, rivals: Iterable[Contender]) -> bytearray:
    """Return 1 for each chunk that lies in its file, or in a rival's that names it.

    A plan counts exactly these as done. If it counted another, nobody would fetch
    it: each contender would take it for brought by the others.
    """
    held = bytearray(contender.held)
    for rival in rivals:
        for index in rival.held_alike(contender):
            held[index] = 1
    return held


def owed_by(
    own: Contender, contenders: Mapping[bytes, Contender]
) -> Callable[[int, float], bool]:
    """Return what says whether a rival has a chunk, or is owed it and not in vain."""

    def owed(index: int, now: float) -> bool:
        return any(
            rival is not own
            and rival.names_alike(own.manifest, index)
            and rival.picker.is_owed(index, now)
            for rival in contenders.values()
        )

    return owed


@dataclass(frozen=True, slots=True)
class ChunkClaim:
    """The right to write one chunk into one file."""

    home: Contender
    index: int
    hasher: PrefixHasher | None
    """What follows the file, if it leads."""
    part: tuple[Hashable, int] | None
    """The source and length of what lies there of the chunk."""

    def hash_part(self, length: int, update: Callable[[memoryview], object]) -> None:
        """Hash what lies in the file of the chunk already; raise StoreError."""
        descriptor, place = self.home.partial.descriptor, 0
        while place < length:
            view = own_buffer()[: min(BUFFER_BYTES, length - place)]
            offset = self.home.manifest.offset(self.index) + place
            if os.preadv(descriptor, [view], offset) != len(view):
                raise StoreError("The download cannot be read back.")
            update(view)
            place += len(view)
