"""Which file of a project an installer will choose, and what that one needs.

Both are guesses, for reading ahead: an installer may run another Python than this node,
on another machine, and may want another release than the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from node.gateway import limits
from node.gateway.named_files import NamedFiles
from node.gateway.python.plain_page import METADATA
from node.gateway.python.wheels import fit, normalized, project_of
from node.gateway.urls import blob_digest
from transfer import Digest

_LINES = 400  # looked at from the end of a page, where the newest releases are
_OLDER = 8  # files of older releases that end the search
_FIELD = b"requires-dist:"


@dataclass(frozen=True, slots=True)
class Need:
    """One dependency."""

    name: str
    specifier: SpecifierSet
    extras: frozenset[str]


@dataclass(frozen=True, slots=True)
class LikelyWheel:
    """A wheel whose metadata the index has apart."""

    file: str
    digest: Digest


def likely_wheel(files: NamedFiles, specifier: SpecifierSet) -> LikelyWheel | None:
    """Return the wheel that this machine would choose; None without a good guess.

    Blocks.
    """
    best: tuple[Version, list[LikelyWheel]] | None = None
    older = 0
    for wheel in _newest_first(files):
        version = _version_of(wheel.file)
        if version is None or version not in specifier:
            continue
        if version.is_prerelease and not specifier.prereleases:
            continue
        if best is None or version > best[0]:
            best = version, [wheel]
        elif version == best[0]:
            best[1].append(wheel)
        elif (older := older + 1) >= _OLDER:
            break
    if best is None:
        return None
    for wheel in best[1]:
        if wheel.file.endswith("-py3-none-any.whl"):
            return wheel
    ranked = [(rank, one) for one in best[1] if (rank := fit(one.file)) is not None]
    return min(ranked, key=lambda one: one[0])[1] if ranked else None


def needs_in(metadata: bytes, extras: Iterable[str]) -> list[Need]:
    """Return what a wheel needs on this machine, by its METADATA. Blocks.

    What cannot be read is left out.
    """
    wanted = tuple(extras)
    head = metadata.partition(b"\n\n")[0]
    found: list[Need] = []
    for line in head.splitlines()[: limits.READ_AHEAD_LINES_MAX]:
        if line[: len(_FIELD)].lower() != _FIELD or len(found) >= _LINES:
            continue
        if b"extra" in line and not wanted:
            continue
        text = line[len(_FIELD) :].decode("utf-8", "replace").strip()
        need = _need_in(text, wanted) if len(text) <= _LINES else None
        if need is not None:
            found.append(need)
    return found


def _need_in(text: str, extras: tuple[str, ...]) -> Need | None:
    try:
        requirement = Requirement(text)
        marker = requirement.marker
        is_meant = marker is None or any(
            marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
    except (InvalidRequirement, ValueError, KeyError, RecursionError):
        return None
    if not is_meant or requirement.url:
        return None
    name, more = normalized(requirement.name), frozenset(requirement.extras)
    return Need(name, requirement.specifier, more)


def _newest_first(files: NamedFiles) -> Iterator[LikelyWheel]:
    """Yield the wheels at the end of a page whose metadata it has apart."""
    for line in reversed(files.text.rsplit(b"\n", _LINES)[1:]):
        name, _, rest = line.decode("utf-8", "replace").partition("\t")
        if not name.endswith(METADATA):
            continue
        digest = blob_digest(*name.removesuffix(METADATA).partition(":")[::2])
        file = rest.rpartition("/")[2].removesuffix(METADATA)
        if digest is not None and file.endswith(".whl"):
            yield LikelyWheel(file, digest)


def _version_of(file: str) -> Version | None:
    parsed = project_of(file)
    try:
        return None if parsed is None else Version(parsed[1])
    except InvalidVersion:
        return None
