"""What a package needs, by its packument: a guess, for reading ahead.

npm chooses the newest version in a range, and `latest` where that is in it. Ranges are
read here as far as most are written: `^1.2.3`, `~1.2.3`, `1.2.x`, `1.2.3`. For others,
the guess is `latest`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec

from node.gateway import limits

_RANGE = re.compile(r"([~^]?)v?(\d{1,9})(?:\.(\d{1,9}|[x*]))?(?:\.(\d{1,9}|[x*]))?")
_RELEASE = re.compile(r"\d{1,9}\.\d{1,9}\.\d{1,9}")
_ELSEWHERE = re.compile(r"[:/]")  # a URL, a folder, or a package of another name


class _Outline(msgspec.Struct, rename={"tags": "dist-tags"}):
    versions: dict[str, msgspec.Raw] = {}
    tags: dict[str, str] = {}


class _Needs(msgspec.Struct, rename="camel"):
    dependencies: dict[str, str] = {}
    optional_dependencies: dict[str, str] = {}
    peer_dependencies: dict[str, str] = {}


_OUTLINE = msgspec.json.Decoder(_Outline)
_NEEDS = msgspec.json.Decoder(_Needs)


def needs_in(packument: bytes, wanted: str) -> Mapping[str, str]:
    """Return the ranges of what the likely version in a range needs, by name. Blocks.

    Empty where there is no good guess.
    """
    if len(packument) > limits.READ_AHEAD_BYTES_MAX:
        return {}
    try:
        outline = _OUTLINE.decode(packument)
        latest = outline.tags.get("latest", "")
        version = likely_version(outline.versions, latest, wanted)
        needs = _NEEDS.decode(outline.versions[version])
    except (msgspec.MsgspecError, KeyError):
        return {}
    found = {
        **needs.peer_dependencies,
        **needs.optional_dependencies,
        **needs.dependencies,
    }
    return {name: one for name, one in found.items() if not _ELSEWHERE.search(one)}


def likely_version(versions: Iterable[str], latest: str, wanted: str) -> str:
    """Return the version that npm would choose for a range, as far as it is read."""
    match = _RANGE.fullmatch(wanted.strip())
    if match is None:
        return latest
    start = _start_of(match)
    if latest.startswith(start) or latest == wanted:
        return latest
    inside = [one for one in versions if one.startswith(start)]
    releases = [one for one in inside if _RELEASE.fullmatch(one)]
    return max(releases, key=_numbers, default=latest)


def _start_of(match: re.Match[str]) -> str:
    """Return how the versions of a range begin."""
    sign, major, minor, patch = match.groups()
    is_open = minor in (None, "x", "*")
    if is_open or (sign == "^" and major != "0"):
        return f"{major}."
    if sign or patch in (None, "x", "*"):
        return f"{major}.{minor}."
    return f"{major}.{minor}.{patch}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
