"""The lines that point apt at this node."""

from __future__ import annotations

from pathlib import Path

from node.gateway.connecting import Recipe

APT_NOTE = (
    "Set the mirror you use now as [upstreams] debian in config.toml, add it to that "
    "file as the next line with priority:2, and name the file in your sources: "
    "URIs: mirror+file:/etc/apt/caravan-mirrors.list"
)


def apt(home: Path, base: str) -> Recipe:
    """Return how apt is pointed at the gateway at `base`."""
    return Recipe(
        tool="apt",
        home=home,
        file=Path("/etc/apt/caravan-mirrors.list"),
        lines=f"{base}/debian/\tpriority:1",
        if_down="apt goes on to the next mirror after some seconds",
        goes_on=True,
        notes=[APT_NOTE],
    )
