"""What Python's files say of themselves: names, tags, and the metadata inside wheels.

File names: PEP 427 for wheels, PEP 625 for source archives.
"""

from __future__ import annotations

import re
import tarfile
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)

from node.gateway import archives, zips

_FILES_MAX = 10**6  # the rank of a file that no tag of this machine fits
_SEPARATORS = re.compile(r"[-_.]++")
NAME_CHARACTERS_MAX = 250


def normalized(name: str) -> str:
    """Return the name that all spellings of a project share (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()


@lru_cache(4096)
def project_of(file: str) -> tuple[str, str] | None:
    """Return (normalized project, version) of a wheel's or sdist's file name."""
    if len(file) > NAME_CHARACTERS_MAX:
        return None
    try:
        if file.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(file)
        else:
            name, version = parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename, ValueError):
        return None
    return str(name), str(version)


def fit(file: str) -> int | None:
    """Return how well a file fits this machine: 0 the best, None if it does not.

    A source archive fits everywhere, and comes last.
    """
    if not file.endswith(".whl"):
        return _FILES_MAX
    if len(file) > NAME_CHARACTERS_MAX:
        return None
    try:
        tags = parse_wheel_filename(file)[3]
    except (InvalidWheelFilename, ValueError):
        return None
    return min((_ranks()[tag] for tag in tags if tag in _ranks()), default=None)


@cache
def _ranks() -> dict[Any, int]:
    from packaging.tags import sys_tags

    return {tag: rank for rank, tag in enumerate(sys_tags())}


def is_metadata(path: str) -> bool:
    """Tell whether a path in a wheel is that of its METADATA (PEP 427)."""
    folder, _, name = path.partition("/")
    return name == "METADATA" and folder.endswith(".dist-info")


def read_metadata(wheel: Path) -> bytes | None:
    """Return the METADATA inside a wheel, or None where it has none. Blocks."""
    try:
        with wheel.open("rb") as file:
            return zips.read_member(file, wheel.stat().st_size, is_metadata)
    except (OSError, ValueError):
        return None


def project_in(file: Path | bytes) -> str | None:
    """Return the project whose wheel or sdist a file is, or None. Blocks."""
    try:
        if isinstance(file, bytes):
            return _project_in(BytesIO(file), len(file))
        with file.open("rb") as opened:
            return _project_in(opened, file.stat().st_size)
    except (OSError, ValueError):
        return None


def _project_in(file: Any, size: int) -> str | None:
    start = file.read(2)
    file.seek(0)
    name = ""
    if start == b"PK":
        found = next(
            (one.name for one in zips.entries(file, size) if is_metadata(one.name)), ""
        )
        release = found.partition("/")[0].removesuffix(".dist-info")
        name = f"{release}-py3-none-any.whl" if found else ""
    elif start == b"\x1f\x8b":
        first: tarfile.TarInfo | None = next(
            (member for member, _ in archives.members_of(file)), None
        )
        name = f"{first.name.partition('/')[0]}.tar.gz" if first else ""
    parsed = project_of(name) if name else None
    return parsed[0] if parsed else None
