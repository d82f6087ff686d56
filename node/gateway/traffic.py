"""What package managers were given, counted by where this node had it from."""

from __future__ import annotations

from collections.abc import Callable
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

    def counts(self) -> dict[str, int]:
        """Return every count since the node started, under the name it is kept by."""
        found: dict[str, int] = {}
        for source, traffic in self.by_source.items():
            found[f"gateway_{source}_files"] = traffic.files
            found[f"gateway_{source}_bytes"] = traffic.bytes
        return found

    def ever(self, total: Callable[[str, int], int]) -> dict[str, SourceTraffic]:
        """Return the counts of all runs; `total` adds those before to this one's."""
        found = {name: total(name, count) for name, count in self.counts().items()}
        return {
            source: SourceTraffic(
                files=found[f"gateway_{source}_files"],
                bytes=found[f"gateway_{source}_bytes"],
            )
            for source in SOURCES
        }


def saved_bytes(by_source: dict[str, SourceTraffic]) -> int:
    """Return how many bytes the origins did not have to send."""
    return sum(one.bytes for source, one in by_source.items() if source != "origin")
