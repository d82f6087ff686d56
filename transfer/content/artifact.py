"""Artifacts: whole, verified files, named by their SHA-256."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.content.digest import ALIAS_ALGORITHMS

if TYPE_CHECKING:
    from transfer.content.digest import Digest


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file as it is published, held in the store and verified."""

    digest: Digest
    """Its SHA-256: its name."""
    size: int
    manifest_digest: bytes
    aliases: dict[str, Digest] = field(default_factory=dict, compare=False)
    """By algorithm: sha512, blake2b-256, sha1, md5, as far as computed yet.

    They follow from the bytes, so artifacts are equal without them.
    """
    added_at: float = 0.0
    """Seconds since the epoch."""

    @property
    def digests(self) -> tuple[Digest, ...]:
        """The name and all known aliases."""
        return (self.digest, *self.aliases.values())

    @property
    def has_all_aliases(self) -> bool:
        """Whether every alias has been computed."""
        return len(self.aliases) == len(ALIAS_ALGORITHMS)
