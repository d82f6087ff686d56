"""npm, as the gateway knows it: npm, pnpm, yarn and bun."""

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


class Npm(Ecosystem):
    """The npm registry and its clients."""

    name = "npm"
    tools = ("npm", "pnpm", "yarn", "yarn-berry", "bun")
    lockfiles = (
        "package-lock.json, npm-shrinkwrap.json, pnpm-lock.yaml, yarn.lock, bun.lock"
    )

    def recipe(self, tool: str, home: Path, base: str) -> Recipe:
        """Return how one of the tools is pointed at the gateway at `base`."""
        from node.gateway.npm.connect import RECIPES

        return RECIPES[tool](home, base)

    def upstream(self, home: Path, url: str) -> Upstream | None:
        """Return the registry at `url`, or the one that npm uses. Blocks."""
        from node.gateway.npm.configured import registry

        return registry(home, url)

    def lockfile_reader(self, file: str) -> LockfileReader | None:
        """Return what reads a lockfile of this name, or None."""
        from node.gateway.npm.lockfiles import read_package_lock
        from node.gateway.npm.other_lockfiles import READERS

        names = ("package-lock.json", "npm-shrinkwrap.json")
        return read_package_lock if file in names else READERS.get(file)

    def caches(self, environ: Mapping[str, str], home: Path) -> dict[str, Path]:
        """Return where npm caches what it downloaded."""
        cache = Path(environ.get("npm_config_cache") or home / ".npm")
        return {"npm": cache / "_cacache" / "content-v2"}

    def index(self, context: IndexContext, upstream: str) -> PackageIndex:
        """Return the npm registry on an upstream."""
        from node.gateway.npm.index import NpmIndex

        return NpmIndex(context, upstream)


ECOSYSTEM = Npm()
