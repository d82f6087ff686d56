"""Lockfiles of npm: package-lock.json and npm-shrinkwrap.json, all versions."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from node.gateway.locked import Locked, LockEntry
from node.gateway.named_file import parse_digests
from node.gateway.npm.platform import fits_here


def read_package_lock(text: str) -> Locked:
    """Read a lockfile: `packages` of versions 2 and 3, `dependencies` of version 1."""
    locked = Locked()
    document = json.loads(text)
    packages = list(document.get("packages", {}).items())
    if not packages:
        packages = _tree(document.get("dependencies", {}))
    for path, package in packages:
        if not path or package.get("link") or package.get("inBundle"):
            continue
        name, version = _release(path, package)
        if not name:
            continue
        digests = parse_digests(str(package.get("integrity") or "").split())
        if not digests:
            if "node_modules/" in path:
                locked.skip(name, version, "it is locked without an integrity")
            continue
        file = f"{name.rpartition('/')[2]}-{version}.tgz"
        locked.add(
            LockEntry("npm", name, version, digests, file, here=fits_here(package))
        )
    return locked


def _release(path: str, package: dict[str, Any]) -> tuple[str, str]:
    """Return a package's own name and version; it may be installed under an alias."""
    name = str(package.get("name") or path.rpartition("node_modules/")[2])
    version = str(package.get("version", ""))
    if version.startswith("npm:"):
        name, _, version = version.removeprefix("npm:").rpartition("@")
    resolved = str(package.get("resolved") or "")
    if not package.get("name") and "/-/" in resolved:
        # Version 3 says the alias in the path and the package in the URL only.
        start = unquote(resolved.partition("://")[2].partition("/")[2])
        own = start.partition("/-/")[0]
        last = own.rpartition("/")[2]
        scope = own.rpartition("/")[0].rpartition("/")[2]
        name = f"{scope}/{last}" if scope.startswith("@") else last
    return name, version


def _tree(dependencies: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the packages of a lockfile of version 1, which nests them.

    A path is that of the package alone: all the folders above it together would grow
    with the square of the depth.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    waiting = [dependencies]
    while waiting:
        for name, package in waiting.pop().items():
            found.append((f"node_modules/{name}", package))
            waiting.append(package.get("dependencies", {}))
    return found
