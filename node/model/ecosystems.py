"""What a file's name says of the ecosystem that it belongs to: its purl and tags.

Python's rules come from `packaging`, the purl (package URL, ECMA-427) from
`packageurl`. Nothing is guessed: a file whose name fits no rule, or another name or
version than its package, has no purl.
"""

from __future__ import annotations

from packageurl import PackageURL
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

TAGS_MAX = 64


def describe_file(file: str, name: str, version: str) -> tuple[str, list[str]]:
    """Return (purl, tags) of a package's file; ("", []) where no rule fits."""
    if file.endswith(".whl") and (found := _wheel(file)) is not None:
        wheel_name, wheel_version, tags = found
        if _same_release((wheel_name, wheel_version), (name, version)):
            return _pypi(wheel_name, wheel_version), tags
    sdist = _sdist(file) if file.endswith((".tar.gz", ".zip")) else None
    if sdist is not None and _same_release(sdist, (name, version)):
        return _pypi(*sdist), []
    if file == f"{name}-{version}.crate":
        return str(PackageURL("cargo", None, name, version)), []
    scope, _, bare = name.partition("/")
    if name.startswith("@") and file == f"{bare}-{version}.tgz":
        return str(PackageURL("npm", scope, bare, version)), []
    return "", []


def is_purl_of(purl: str, name: str, version: str) -> bool:
    """Tell whether a purl is well formed and names this package."""
    try:
        parsed = PackageURL.from_string(purl)
    except ValueError:
        return False
    if parsed.type == "pypi":
        return _same_release((parsed.name, parsed.version or ""), (name, version))
    full = f"{parsed.namespace}/{parsed.name}" if parsed.namespace else parsed.name
    return (full, parsed.version) == (name, version)


def _wheel(file: str) -> tuple[str, str, list[str]] | None:
    try:
        name, version, _, tags = parse_wheel_filename(file)
    except (InvalidWheelFilename, InvalidVersion):
        return None
    return name, str(version), sorted(str(tag) for tag in tags)[:TAGS_MAX]


def _sdist(file: str) -> tuple[str, str] | None:
    try:
        name, version = parse_sdist_filename(file)
    except (InvalidSdistFilename, InvalidVersion):
        return None
    return name, str(version)


def _same_release(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Tell whether two (name, version) mean one release by the rules of PyPI."""
    try:
        same = Version(one[1]) == Version(other[1])
    except InvalidVersion:
        return False
    return same and canonicalize_name(one[0]) == canonicalize_name(other[0])


def _pypi(name: str, version: str) -> str:
    return str(PackageURL("pypi", None, canonicalize_name(name), version))
