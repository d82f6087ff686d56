"""The result of a download: the artifact, and what each peer contributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transfer.connection.peer import Peer
    from transfer.content.artifact import Artifact
    from transfer.content.digest import Digest


class Given(NamedTuple):
    """A small artifact, and the peer that gave it."""

    artifact: Artifact
    peer: Peer


@dataclass(frozen=True, slots=True)
class Source:
    """How many bytes of an artifact came from one peer."""

    peer: Peer
    bytes: int


@dataclass(frozen=True, slots=True)
class DownloadProgress:
    """A download under way, in bytes; `total` is None until a manifest is known."""

    digest: Digest
    done: int
    total: int | None
    sources: list[Source]


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download: the artifact, its duration, and its sources."""

    artifact: Artifact
    seconds: float
    sources: list[Source]
    """Empty if the artifact was held already."""
