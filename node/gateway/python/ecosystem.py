"""Python, as the gateway knows it: pip, uv and poetry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from node.gateway.ecosystem import Ecosystem
from node.gateway.upstream import Upstream

if TYPE_CHECKING:
    from node.gateway.connecting import Recipe
    from node.gateway.index import IndexContext, PackageIndex
    from node.gateway.locked import LockEntry, LockfileReader


class Python(Ecosystem):
    """The simple repository API and its clients."""

    name = "pypi"
    tools = ("pip", "uv", "poetry", "pdm", "pipenv")
    lockfiles = (
        "requirements.txt with hashes, uv.lock, poetry.lock, pdm.lock, Pipfile.lock, "
        "pylock.toml"
    )
    one_file_per_release = True

    def recipe(self, tool: str, home: Path, base: str) -> Recipe:
        """Return how one of the tools is pointed at the gateway at `base`."""
        from node.gateway.python.connect import RECIPES

        return RECIPES[tool](home, base)

    def fallback(self, tool: str, home: Path, base: str) -> Recipe | None:
        """Return how pip asks the gateway at `base` beside its own index."""
        from node.gateway.python.connect import pip_beside_its_index

        return pip_beside_its_index(home, base) if tool == "pip" else None

    def upstream(self, home: Path, url: str) -> Upstream | None:
        """Return the index at `url`, or the one that pip uses, or else uv. Blocks."""
        from node.gateway.python.configured import as_pip_asks, index_in_use

        return as_pip_asks(Upstream(self.name, url or index_in_use(home)))

    def lockfile_reader(self, file: str) -> LockfileReader | None:
        """Return what reads a lockfile of this name, or None."""
        from node.gateway.python.lockfiles import reader_of

        return reader_of(file)

    def fit(self, entry: LockEntry) -> int | None:
        """Return how well a file fits here; a source archive comes last."""
        from node.gateway.python.wheels import fit

        return fit(entry.file)

    def caches(self, environ: Mapping[str, str], home: Path) -> dict[str, Path]:
        """Return where pip caches what it downloaded."""
        xdg = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
        return {"pip": Path(environ.get("PIP_CACHE_DIR") or xdg / "pip")}

    def project_in(self, file: Path | bytes) -> str | None:
        """Return the project whose wheel or sdist a cached file is. Blocks."""
        from node.gateway.python.wheels import project_in

        return project_in(file)

    def index(self, context: IndexContext, upstream: str) -> PackageIndex:
        """Return the Python index on an upstream."""
        from node.gateway.python.index import PythonIndex

        return PythonIndex(context, upstream)


ECOSYSTEM = Python()
