"""Lockfiles: what a project was locked to, by digest.

Each form is read as far as digests go; nothing in it is believed beyond that. URLs in
a lockfile are never fetched: where a file's origin is, the upstream's own page says.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from packaging.tags import sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from node.errors import UsageError
from node.gateway import limits
from node.gateway.npm.platform import fits_here
from node.gateway.opam.index import digests_in
from node.gateway.page_cache import strongest_first
from node.gateway.python.simple import normalized
from transfer import Digest, DigestError

FORMS = (
    "requirements.txt with hashes, uv.lock, poetry.lock, pdm.lock, pylock.toml, "
    "Cargo.lock, package-lock.json and opam files"
)
_HASH = re.compile(r"--hash[= ]\s*([a-z0-9]+):([0-9a-fA-F]+)")
_REQUIREMENT = re.compile(
    r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*==\s*([^\s;\\]+)"
)
_FILES_MAX = 10**6  # the rank of a file that no tag of this machine fits


@dataclass(frozen=True, slots=True)
class Entry:
    """One file that a lockfile names."""

    ecosystem: str
    name: str
    version: str
    digests: tuple[Digest, ...]
    """Of one and the same file, the strongest first; never empty."""
    file: str = ""
    size: int | None = None
    here: bool = True
    """False where the lockfile says that it is for another platform."""

    @property
    def digest(self) -> Digest:
        """The digest that it is looked up by."""
        return self.digests[0]


Reader = Callable[[str], Iterator[Entry]]


def read_lockfile(name: str, content: bytes) -> list[Entry]:
    """Return the files that a lockfile called `name` names, each once.

    Raises UsageError where it cannot be read, or names no digest.
    """
    reader = _reader_of(name)
    try:
        found = {entry.digest: entry for entry in reader(content.decode("utf-8-sig"))}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UsageError(f"{name} cannot be read: {error}") from error
    if not found:
        raise UsageError(f"{name} names no digests; {FORMS} are read")
    if len(found) > limits.LOCKFILE_ENTRIES_MAX:
        raise UsageError(f"{name} names more files than are read")
    return list(found.values())


def usable(entries: Iterable[Entry]) -> list[Entry]:
    """Return what this machine would install: of each release the file that fits best.

    A source archive counts only where no wheel fits.
    """
    chosen: dict[tuple[str, str, str], tuple[int, Entry]] = {}
    others: list[Entry] = []
    for entry in entries:
        if entry.ecosystem != "pypi":
            others += [entry] if entry.here else []
            continue
        if (rank := _rank(entry.file)) is None:
            continue
        key = (entry.ecosystem, entry.name, entry.version)
        if key not in chosen or rank < chosen[key][0]:
            chosen[key] = (rank, entry)
    return [entry for _, entry in chosen.values()] + others


def _rank(file: str) -> int | None:
    """Return how well a Python file fits here, 0 the best; None if it does not."""
    if not file.endswith(".whl"):
        return _FILES_MAX
    try:
        tags = parse_wheel_filename(file)[3]
    except InvalidWheelFilename:
        return None
    return min((_ranks()[tag] for tag in tags if tag in _ranks()), default=None)


@cache
def _ranks() -> dict[Any, int]:
    return {tag: rank for rank, tag in enumerate(sys_tags())}


def _reader_of(name: str) -> Reader:
    if re.fullmatch(r"pylock(\.[^.]+)?\.toml", name):
        return _pylock
    if name in _READERS:
        return _READERS[name]
    if name == "opam" or name.endswith((".opam", ".opam.locked")):
        return _opam
    if name.endswith((".txt", ".in")):
        return _requirements
    raise UsageError(f"{name} is no lockfile that is read here; {FORMS} are")


def _digest(text: str) -> tuple[Digest, ...]:
    try:
        return (Digest.parse(text),)
    except DigestError:
        return ()


def _entries(
    ecosystem: str, name: str, version: str, files: Iterable[dict[str, Any]]
) -> Iterator[Entry]:
    """Yield the files of one release that have {file or url, hash, size}."""
    for one in files:
        if digests := _digest(str(one.get("hash", ""))):
            url = str(one.get("url") or one.get("path") or "")
            file = str(one.get("file") or url.partition("#")[0].rpartition("/")[2])
            size = one.get("size")
            known = size if isinstance(size, int) else None
            yield Entry(ecosystem, name, version, digests, file, known)


def _requirements(text: str) -> Iterator[Entry]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        match = _REQUIREMENT.match(line)
        if match is None:
            continue
        for algorithm, value in _HASH.findall(line):
            if digests := _digest(f"{algorithm}:{value}"):
                yield Entry("pypi", normalized(match[1]), match[2], digests)


def _uv(text: str) -> Iterator[Entry]:
    for package in tomllib.loads(text).get("package", []):
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        version = str(package.get("version", ""))
        yield from _entries("pypi", normalized(package["name"]), version, files)


def _poetry(text: str) -> Iterator[Entry]:
    document = tomllib.loads(text)
    old = document.get("metadata", {}).get("files", {})
    for package in document.get("package", []):
        name, version = package["name"], str(package.get("version", ""))
        files = package.get("files") or old.get(name, [])
        yield from _entries("pypi", normalized(name), version, files)


def _pylock(text: str) -> Iterator[Entry]:
    for package in tomllib.loads(text).get("packages", []):
        name, version = normalized(package["name"]), str(package.get("version", ""))
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        for one in files:
            hashes = one.get("hashes", {}).items()
            digests = {
                d for name_, value in hashes for d in _digest(f"{name_}:{value}")
            }
            path = str(one.get("url") or one.get("path") or "")
            file = str(one.get("name") or path.rpartition("/")[2])
            if digests:
                size = one.get("size")
                yield Entry("pypi", name, version, strongest_first(digests), file, size)


def _cargo(text: str) -> Iterator[Entry]:
    for package in tomllib.loads(text).get("package", []):
        name, version = package["name"], package["version"]
        if digests := _digest(f"sha256:{package.get('checksum', '')}"):
            yield Entry("cargo", name, version, digests, f"{name}-{version}.crate")


def _npm(text: str) -> Iterator[Entry]:
    document = json.loads(text)
    packages = dict(document.get("packages", {}))
    packages |= _npm_tree(document.get("dependencies", {}))
    for path, package in packages.items():
        name = package.get("name") or path.rpartition("node_modules/")[2]
        version = str(package.get("version", ""))
        texts = str(package.get("integrity") or "").split()
        digests = strongest_first({d for one in texts for d in _digest(one)})
        if digests and name:
            short = name.rpartition("/")[2]
            yield Entry(
                "npm", name, version, digests, f"{short}-{version}.tgz", None,
                fits_here(package),
            )  # fmt: skip


def _npm_tree(dependencies: dict[str, Any]) -> dict[str, Any]:
    """Return the packages of a lockfile of version 1, which nests them."""
    found: dict[str, Any] = {}
    for name, package in dependencies.items():
        nested = _npm_tree(package.get("dependencies", {}))
        prefix = f"node_modules/{name}"
        found[prefix] = package
        found |= {f"{prefix}/{path}": one for path, one in nested.items()}
    return found


def _opam(text: str) -> Iterator[Entry]:
    for section in re.findall(r"\{([^{}]*)\}", text):
        if digests := digests_in(section):
            source = re.search(r'"(https?://[^"]+)"', section)
            file = source[1].rpartition("/")[2] if source else ""
            yield Entry("opam", file, "", digests, file)


_READERS: dict[str, Reader] = {
    "uv.lock": _uv,
    "poetry.lock": _poetry,
    "pdm.lock": _poetry,
    "Cargo.lock": _cargo,
    "package-lock.json": _npm,
    "npm-shrinkwrap.json": _npm,
}
