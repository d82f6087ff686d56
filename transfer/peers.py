"""Peers, and what a download tells about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from transfer.index import Artifact


@dataclass(frozen=True, slots=True)
class Peer:
    """Where somebody offers content, and the node key that must be found there."""

    host: str
    """A numeric IP address."""
    port: int
    public_key: bytes | None = None
    """None where any key will do."""

    def __str__(self) -> str:
        if ":" in self.host:
            return f"[{self.host}]:{self.port}"
        return f"{self.host}:{self.port}"

    @property
    def source(self) -> Hashable:
        """What is banned when it lies: the key, else the address."""
        return self.public_key or (self.host, self.port)


@dataclass(frozen=True, slots=True)
class Source:
    """How many bytes of an artifact came from one peer."""

    peer: Peer
    bytes: int


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The end of a download: the artifact, and who gave it."""

    artifact: Artifact
    seconds: float
    sources: list[Source]
    """Empty where the artifact was held already."""
