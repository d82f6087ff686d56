"""What becomes of a download's whole file."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transfer.connection.peer import Peer
    from transfer.content.artifact import Artifact
    from transfer.leeching.picker import PeerState


class WholeVerdict(enum.Enum):
    """What a whole file turned out to be."""

    COMMITTED = enum.auto()
    DAMAGED_HERE = enum.auto()
    """The disk did not give back what was written: no peer is to blame."""
    FALSE_MANIFEST = enum.auto()


@dataclass(frozen=True, slots=True)
class Settlement:
    """A verdict, with what follows from it."""

    verdict: WholeVerdict
    artifact: Artifact | None = None
    liars: set[Peer] = field(default_factory=set)
    """The peers that vouched for a manifest that is false."""
    closing: list[PeerState] = field(default_factory=list)
    """All connections of the false manifest, to be closed."""
