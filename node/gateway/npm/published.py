"""A package's document for npm, made from the package.json inside its tarball.

What a registry adds to package.json is little: the `dist` of each version and the
dist-tags. The document of npm's shorter form has only what an installation needs.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import msgspec

from node.gateway.archives import read_member
from node.gateway.published import PublishedPackage
from node.model.packages import ArtifactEntry
from transfer import Digest

MANIFEST = "package/package.json"
_SHORT = (
    "name", "version", "dependencies", "devDependencies", "optionalDependencies",
    "peerDependencies", "peerDependenciesMeta", "bundleDependencies",
    "bundledDependencies", "bin", "directories", "engines", "os", "cpu", "libc",
    "funding", "deprecated",
)  # fmt: skip
_INSTALLS = ("preinstall", "install", "postinstall")


def tarball_of(package: PublishedPackage) -> ArtifactEntry | None:
    """Return the tarball of npm among a package's files, as `npm pack` names it."""
    scope, _, bare = package.name.rpartition("/")
    names = {f"{bare}-{package.version}.tgz"}
    if scope:
        names.add(f"{scope.removeprefix('@')}-{bare}-{package.version}.tgz")
    return next((one for one in package.artifacts if one.file in names), None)


def read_manifest(tarball: Path, name: str, version: str) -> dict[str, Any]:
    """Return the package.json of a tarball; ValueError where it is not one. Blocks."""
    content = read_member(tarball, MANIFEST)
    try:
        manifest = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError(f"its package.json cannot be read: {error}") from error
    if (manifest.get("name"), manifest.get("version")) != (name, version):
        raise ValueError(f"its package.json is not that of {name} {version}")
    return manifest


def write_packument(
    manifest: dict[str, Any],
    tarball: str,
    digests: dict[str, Digest],
    *,
    short: bool,
) -> bytes:
    """Return the document of a package of one version, whose file is at `tarball`."""
    about = {
        key: value
        for key, value in manifest.items()
        if (key in _SHORT if short else not key.startswith("_"))
    }
    scripts = manifest.get("scripts")
    if isinstance(scripts, dict) and any(one in scripts for one in _INSTALLS):
        about["hasInstallScript"] = True
    sha512 = base64.b64encode(digests["sha512"].raw).decode()
    about["dist"] = {
        "tarball": tarball,
        "integrity": f"sha512-{sha512}",
        "shasum": digests["sha1"].hex,
    }
    name, version = manifest["name"], manifest["version"]
    return msgspec.json.encode(
        {
            "name": name,
            "dist-tags": {"latest": version},
            "versions": {version: about},
        }
    )
