"""Lockfiles of pnpm (versions 5, 6 and 9), yarn classic and bun.

None of them is read beyond what it takes to find names, versions and digests: of the
YAML of pnpm, and of what yarn classic writes, that is one thing on each line.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from node.gateway.locked import Locked, LockEntry, LockfileReader
from node.gateway.named_file import parse_digests
from node.gateway.npm.platform import fits_here

_PNPM_KEY = re.compile(r"/?((?:@[^/@]++/)?[^/@]++)[@/]([^_(]++).*+")
_INTEGRITY = re.compile(r"\bintegrity: *+['\"]?(sha[0-9]++-[A-Za-z0-9+/=]++)")
_LIST = re.compile(r"(os|cpu|libc): *+\[([^\]]*+)\]")
_SHA1 = re.compile(r"#([0-9a-f]{40})\"?")
_NO_INTEGRITY = "it is locked without an integrity"
# A text, which stays, or a comma before a closing bracket, which JSON has not.
_COMMA = re.compile(r'("(?:[^"\\]++|\\.)*+(?:"|\Z))|,(?=\s*+[}\]])')


def read_pnpm_lock(text: str) -> Locked:
    """Read pnpm-lock.yaml."""
    locked = Locked()
    for key, lines in _records(io.StringIO(text)):
        match = _PNPM_KEY.fullmatch(key)
        name, version = match.groups() if match else (key[:100], "")
        if any("directory:" in one for one in lines):
            continue  # a part of the project itself
        given = [
            found[1]
            for one in lines
            if one.startswith(("resolution:", "integrity:"))
            and (found := _INTEGRITY.search(one))
        ]
        said = {
            found[1]: [one.strip(" '\"") for one in found[2].split(",")]
            for one in lines
            if (found := _LIST.match(one))
        }
        _add(locked, release=(name, version), digests=given, said=said)
    return locked


def _records(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the key and the lines of each package, without their blanks."""
    key, is_inside = "", False
    found: list[str] = []
    for line in lines:
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        depth = len(line) - len(line.lstrip(" "))
        if depth <= 2 and key:
            yield key, found
            key, found = "", []
        if depth == 0:
            is_inside = words == "packages:"
        elif is_inside and depth == 2:
            key = words.removesuffix(":").strip("'\"")
        elif is_inside and key:
            found.append(words)
    if key:
        yield key, found


def read_yarn_lock(text: str) -> Locked:
    """Read yarn.lock of yarn classic; ValueError for one of a later yarn."""
    if re.search(r"^__metadata:", text, re.MULTILINE):
        raise ValueError(
            "its checksums are those of yarn's own archives, by which no file is "
            "found; lock with npm, pnpm or bun"
        )
    locked = Locked()
    release: tuple[str, str] = ("", "")
    digests: list[str] = []
    for line in itertools.chain(io.StringIO(text), ["end:"]):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        if not line.startswith(" "):
            if release[0]:
                _add(locked, release=release, digests=digests, said={})
            release, digests = (_name_in(words), ""), []
        elif words.startswith("version "):
            release = release[0], words.split(" ", 1)[1].strip('"')
        elif words.startswith("integrity "):
            digests += words.split()[1:]
        elif words.startswith("resolved ") and (match := _SHA1.search(words)):
            digests.append(f"sha1:{match[1]}")
    return locked


def _name_in(header: str) -> str:
    """Return the package that a line such as `"a@npm:b@^1", a@^2:` is about."""
    first = header.removesuffix(":").split(",")[0].strip().strip('"')
    name, _, range_ = first[1:].partition("@")
    if range_.startswith("npm:"):
        given = range_.removeprefix("npm:")
        return given[:1] + given[1:].partition("@")[0]
    return first[:1] + name


def read_bun_lock(text: str) -> Locked:
    """Read bun.lock, which is JSON with commas before closing brackets."""
    locked = Locked()
    document = json.loads(_COMMA.sub(lambda match: match[1] or "", text))
    for package in document.get("packages", {}).values():
        spec = str(package[0])
        name, _, version = spec[1:].partition("@")
        name = spec[:1] + name
        if version.startswith(("workspace:", "link:", "file:")):
            continue
        about = next((one for one in package if isinstance(one, dict)), {})
        said = {
            key: [value] if isinstance(value, str) else value
            for key, value in about.items()
        }
        texts = [one for one in package[1:] if isinstance(one, str)]
        _add(locked, release=(name, version), digests=texts[-1:], said=said)
    return locked


def _add(
    locked: Locked,
    *,
    release: tuple[str, str],
    digests: Iterable[str],
    said: Mapping[str, Any],
) -> None:
    name, version = release
    found = parse_digests(digests)
    if not found:
        locked.skip(name, version, _NO_INTEGRITY)
        return
    file = f"{name.rpartition('/')[2]}-{version}.tgz"
    here = fits_here(dict(said))
    locked.add(LockEntry("npm", name, version, found, file, here=here))


READERS: Mapping[str, LockfileReader] = {
    "pnpm-lock.yaml": read_pnpm_lock,
    "yarn.lock": read_yarn_lock,
    "bun.lock": read_bun_lock,
}
"""What reads a lockfile, by the file's name."""
