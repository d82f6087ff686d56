"""Debian archives, as the gateway knows them: apt and its kin."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from node.gateway.ecosystem import Ecosystem

if TYPE_CHECKING:
    from node.gateway.connecting import Recipe
    from node.gateway.index import IndexContext, PackageIndex


class Debian(Ecosystem):
    """Signed archives of packages; each has an upstream of its own."""

    name = "debian"
    tools = ("apt",)

    def recipe(self, tool: str, home: Path, base: str) -> Recipe:  # noqa: ARG002
        """Return how apt is pointed at the gateway at `base`."""
        from node.gateway.debian.connect import apt

        return apt(home, base)

    def index(self, context: IndexContext, upstream: str) -> PackageIndex:
        """Return the archive on an upstream."""
        from node.gateway.debian.index import DebianArchive

        return DebianArchive(context, upstream)


ECOSYSTEM = Debian()
