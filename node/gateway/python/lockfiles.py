"""Lockfiles of Python: requirements.txt, uv.lock, poetry.lock, pdm.lock, pylock."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from node.gateway import toml
from node.gateway.locked import Locked, LockEntry, LockfileReader
from node.gateway.named_file import parse_digests
from node.gateway.python.wheels import normalized, project_of

# Every quantifier is possessive: on a line of a megabyte of blanks, a pattern that can
# give back what it took needs a time that grows with the square of the length.
_REQUIREMENT = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*+)\s*+(?:\[[^\]]*+\]\s*+)?+"
    r"(?:={2,3}\s*+([^\s;\\#]++)|@\s*+([^\s;]++))?+"
)
_NAMED_URL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*+(?:\[[^\]]*+\])?+@")
_HASH = re.compile(r"--hash(?:=|\s)\s*+([a-z0-9]++):([0-9a-fA-F]++)")
_CONTINUED = re.compile(r"\\\r?\n")
_PYLOCK = re.compile(r"pylock(?:\.[^.]++(?=\.))?\.toml")
_INCLUDES = ("-r", "--requirement", "-e", "--editable")
_NO_DIGEST = "it is locked without a digest"


def reader_of(file: str) -> LockfileReader | None:
    """Return what reads a lockfile of this name, or None."""
    if _PYLOCK.fullmatch(file):
        return read_pylock
    if file.endswith((".txt", ".in")):
        return read_requirements
    known: dict[str, Callable[[str], Locked]] = {
        "uv.lock": read_uv_lock,
        "poetry.lock": read_poetry_lock,
        "pdm.lock": read_poetry_lock,
        "Pipfile.lock": read_pipfile_lock,
    }
    return known.get(file)


def read_requirements(text: str) -> Locked:
    """Read a requirements file (pip's documentation, "Requirements File Format")."""
    locked = Locked()
    for line in _lines(_CONTINUED.sub(" ", text)):
        words = _without_comment(line).strip()
        if words.startswith(_INCLUDES):
            locked.skip(words[:100], "", "what it includes is not read")
        if not words or words.startswith("-"):
            continue
        name, version, url = _requirement(words)
        texts = [f"{algorithm}:{value}" for algorithm, value in _HASH.findall(words)]
        # Each is of another file: as the lockfile has them, not by strength.
        digests = [
            one for text in [*texts, _fragment(url)] for one in parse_digests([text])
        ]
        file = _file_in(url) if url else ""
        for one in digests:
            locked.add(LockEntry("pypi", name, version, (one,), file))
        if not digests:
            locked.skip(name, version, _NO_DIGEST)
    return locked


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text as `splitlines` has them, but one after the other."""
    for block in io.StringIO(text):
        yield from block.splitlines()


def _requirement(words: str) -> tuple[str, str, str]:
    """Return (name, version, URL) of a line; what is not said is ""."""
    first = words.split(maxsplit=1)[0]
    if "/" in first.partition("#")[0] and not _NAMED_URL.match(first):
        project = project_of(_file_in(first))  # a URL, or a path
        return (*(project or (first, "")), first)
    match = _REQUIREMENT.match(words)
    if match is None:
        return words[:100], "", ""
    url = match[3] or ""
    project = project_of(_file_in(url)) if url else None
    version = match[2] or (project[1] if project else "")
    return normalized(match[1]), version, url


def _without_comment(line: str) -> str:
    """Return a line up to a "#" at its start or behind a blank, as pip does."""
    place = line.find("#")
    while place > 0 and not line[place - 1].isspace():
        place = line.find("#", place + 1)
    return line if place < 0 else line[:place]


def read_uv_lock(text: str) -> Locked:
    """Read uv.lock."""
    locked = Locked()
    for package in toml.loads(text).get("package", []):
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        _add(locked, package, files)
    return locked


def read_poetry_lock(text: str) -> Locked:
    """Read poetry.lock, also of before 1.1, and pdm.lock, also of before 2.8."""
    locked = Locked()
    document = toml.loads(text)
    old = _files_apart(document.get("metadata", {}))
    for package in document.get("package", []):
        name = normalized(package["name"])
        apart = old.get(name) or old.get(f"{name} {package.get('version', '')}", [])
        _add(locked, package, package.get("files") or apart)
    return locked


def _files_apart(metadata: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the files that older lockfiles keep apart from their packages.

    By name, or by name and version; before poetry 1.0 they had hashes only.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for key, hashes in metadata.get("hashes", {}).items():
        found[normalized(key)] = [{"hash": f"sha256:{one}"} for one in hashes]
    for key, files in metadata.get("files", {}).items():
        name, space, version = key.partition(" ")
        found[normalized(name) + space + version] = files
    return found


def read_pipfile_lock(text: str) -> Locked:
    """Read Pipfile.lock; the files that a digest belongs to have no name there."""
    locked = Locked()
    for group, packages in json.loads(text).items():
        if group == "_meta":
            continue
        for name, package in packages.items():
            version = str(package.get("version", "")).lstrip("=")
            digests = [
                one
                for text in package.get("hashes", [])
                for one in parse_digests([text])
            ]
            for one in digests:
                locked.add(LockEntry("pypi", normalized(name), version, (one,)))
            if not digests:
                locked.skip(normalized(name), version, _NO_DIGEST)
    return locked


def read_pylock(text: str) -> Locked:
    """Read pylock.toml (PEP 751)."""
    locked = Locked()
    for package in toml.loads(text).get("packages", []):
        files = [
            *package.get("wheels", []),
            *filter(None, [package.get("sdist"), package.get("archive")]),
        ]
        _add(locked, package, files)
    return locked


def _add(
    locked: Locked, package: dict[str, Any], files: Iterable[dict[str, Any]]
) -> None:
    """Take in the files of one release: {file, url or path, hash or hashes, size}."""
    name, version = normalized(package["name"]), str(package.get("version", ""))
    found = False
    for one in files:
        digests = parse_digests(_hashes(one))
        if digests:
            found = True
            size = one.get("size")
            known = size if isinstance(size, int) and size >= 0 else None
            url = str(one.get("url") or one.get("path") or "")
            file = str(one.get("file") or one.get("name") or _file_in(url))
            locked.add(LockEntry("pypi", name, version, digests, file, known))
    if not found and not _is_own(package):
        locked.skip(name, version, _NO_DIGEST)


def _hashes(file: dict[str, Any]) -> Iterator[str]:
    yield str(file.get("hash", ""))
    for algorithm, value in file.get("hashes", {}).items():
        yield f"{algorithm}:{value}"


def _is_own(package: dict[str, Any]) -> bool:
    """Tell whether a package is the project itself, or a part of its workspace."""
    source = package.get("source", {})
    own = ("editable", "virtual", "directory", "workspace")
    if not isinstance(source, dict):
        return False
    return source.get("type") == "directory" or any(one in source for one in own)


def _file_in(url: str) -> str:
    """Return the file's name at the end of a URL, where "+" is written as %2B."""
    path = url.partition("#")[0].partition("?")[0]
    return unquote(path.rpartition("/")[2])


def _fragment(url: str) -> str:
    """Return the digest in a URL's fragment as ALGORITHM:HEX, or ""."""
    for part in url.partition("#")[2].split("&"):
        algorithm, _, value = part.partition("=")
        if value and algorithm in ("sha256", "sha512", "sha1", "md5"):
            return f"{algorithm}:{value}"
    return ""
