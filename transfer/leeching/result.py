"""The result of a download: the artifact, and what each peer contributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.connection.peer import Peer
    from transfer.content.artifact import Artifact


@dataclass(frozen=True, slots=True)
class Source:
    """How many bytes of an artifact came from one peer."""

    peer: Peer
    bytes: int


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download: the artifact, its duration, and its sources."""

    artifact: Artifact
    seconds: float
    sources: list[Source]
    """Empty if the artifact was held already."""
