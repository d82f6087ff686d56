"""Cargo, as the gateway knows it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from node.gateway.ecosystem import Ecosystem
from node.gateway.upstream import Upstream

if TYPE_CHECKING:
    from node.gateway.connecting import Recipe
    from node.gateway.index import IndexContext, PackageIndex
    from node.gateway.locked import LockfileReader


class Cargo(Ecosystem):
    """The sparse index and its client."""

    name = "cargo"
    tools = ("cargo",)
    lockfiles = "Cargo.lock"

    def recipe(self, tool: str, home: Path, base: str) -> Recipe:  # noqa: ARG002
        """Return how cargo is pointed at the gateway at `base`."""
        from node.gateway.cargo.connect import cargo

        return cargo(home, base)

    def upstream(self, home: Path, url: str) -> Upstream | None:  # noqa: ARG002
        """Return the index at `url`, or the one that cargo itself uses. Blocks."""
        from node.gateway.cargo.configured import as_cargo_asks

        return as_cargo_asks(Upstream(self.name, url or "https://index.crates.io/"))

    def lockfile_reader(self, file: str) -> LockfileReader | None:
        """Return what reads a lockfile of this name, or None."""
        from node.gateway.cargo.lockfiles import read_cargo_lock

        return read_cargo_lock if file == "Cargo.lock" else None

    def caches(self, environ: Mapping[str, str], home: Path) -> dict[str, Path]:
        """Return where cargo caches crates."""
        root = Path(environ.get("CARGO_HOME") or home / ".cargo")
        return {"cargo": root / "registry" / "cache"}

    def index(self, context: IndexContext, upstream: str) -> PackageIndex:
        """Return the crate index on an upstream."""
        from node.gateway.cargo.index import CrateIndex

        return CrateIndex(context, upstream)


ECOSYSTEM = Cargo()
