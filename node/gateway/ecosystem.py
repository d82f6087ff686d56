# ruff: noqa: ARG002 - what is not overridden ignores its arguments
"""A package ecosystem: everything that the gateway knows of one family of tools.

A new ecosystem is a folder of `node/gateway` with an `ecosystem.py` that has an
`ECOSYSTEM`, and one line in `node.settings.ECOSYSTEMS`. From there come its routes, the
upstream that its tools use, its lockfiles, its caches, and the lines for `connect`.

Modules called `ecosystem` are loaded by the command line, so they import what is heavy
only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from node.gateway.upstream import Upstream

if TYPE_CHECKING:
    from node.gateway.connecting import Recipe
    from node.gateway.index import IndexContext, PackageIndex
    from node.gateway.locked import LockEntry, LockfileReader


class Ecosystem:
    """One family of package managers; each folder of the gateway subclasses this."""

    name = ""
    """What its upstream is called in the settings."""
    tools: tuple[str, ...] = ()
    """The tools that `connect` can point at this node."""
    lockfiles = ""
    """The lockfiles that are read, in words for a person."""
    one_file_per_release = False
    """Whether a machine uses only the best of a release's files."""

    def recipe(self, tool: str, home: Path, base: str) -> Recipe:
        """Return how `tool` is pointed at the gateway at `base`."""
        raise NotImplementedError

    def fallback(self, tool: str, home: Path, base: str) -> Recipe | None:
        """Return lines with which `tool` goes on while nothing answers at `base`.

        None where the tool has no such way.
        """
        made = self.recipe(tool, home, base)
        return made if made.goes_on else None

    def upstream(self, home: Path, url: str) -> Upstream | None:
        """Return the upstream at `url`, or, where that is "", the one the tools use.

        With what the tools' own configuration says of it: credentials, certificates.
        `home` is the node's folder. Reads configuration files; blocks.
        """
        return Upstream(self.name, url) if url else None

    def lockfile_reader(self, file: str) -> LockfileReader | None:
        """Return what reads a lockfile of this name, or None."""
        return None

    def fit(self, entry: LockEntry) -> int | None:
        """Return how well a locked file fits this machine: 0 the best, None not."""
        return 0 if entry.here else None

    def caches(self, environ: Mapping[str, str], home: Path) -> dict[str, Path]:
        """Return where each tool caches files, of the user whose home is `home`."""
        return {}

    def project_in(self, file: Path | bytes) -> str | None:
        """Return the project that a cached file belongs to, or None. Blocks."""
        return None

    def index(self, context: IndexContext, upstream: str) -> PackageIndex:
        """Return what answers this ecosystem's tools from an upstream of this name."""
        raise NotImplementedError
