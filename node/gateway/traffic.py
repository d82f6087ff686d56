"""What package managers were given, counted by where this node had it from."""

from __future__ import annotations

from typing import Literal

from node.results import SourceTraffic

SourceName = Literal["store", "peers", "origin"]
SOURCES: tuple[SourceName, ...] = ("store", "peers", "origin")


class Traffic:
    """Counts since the node started."""

    def __init__(self) -> None:
        self.by_source: dict[str, SourceTraffic] = {
            source: SourceTraffic() for source in SOURCES
        }

    def count(self, source: SourceName, size: int, *, is_whole: bool) -> None:
        """Count `size` bytes of one answer; a part of a file is no further file."""
        traffic = self.by_source[source]
        traffic.files += is_whole
        traffic.bytes += size
