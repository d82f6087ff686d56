"""What package managers keep on disk: files whose digests a lockfile may name.

Only read, never written. pip keeps whole HTTP bodies, npm and opam name their files by
digest, cargo keeps crates under their names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from node.gateway.ecosystems import ecosystems

BODY_BYTES_MAX = 4 * 1024**3
_OLD_PIP = b"cc=4,"
_BODY_KEY = b"\xa4body"
_BIN_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4}


def cache_folders(environ: Mapping[str, str], home: Path) -> dict[str, Path]:
    """Return the cache folders of each package manager that exist here."""
    found: dict[str, Path] = {}
    for ecosystem in ecosystems().values():
        found |= ecosystem.caches(environ, home)
    return {name: folder for name, folder in found.items() if folder.is_dir()}


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the plain files below a cache folder, links not followed. Blocks."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if not path.is_symlink() and 0 < path.stat().st_size <= BODY_BYTES_MAX:
                yield path


def body_of(path: Path) -> Path | bytes:
    """Return what a cached file holds: itself, or the body inside. Blocks.

    pip before 23.3 wrote bodies into a msgpack map behind a short prefix.
    """
    with path.open("rb") as file:
        if file.read(len(_OLD_PIP)) != _OLD_PIP:
            return path
        data = file.read()
    place = data.find(_BODY_KEY) + len(_BODY_KEY)
    width = _BIN_LENGTHS.get(data[place]) if len(_BODY_KEY) <= place < len(data) else 0
    if not width:
        return path
    start = place + 1 + width
    length = int.from_bytes(data[place + 1 : start], "big")
    return data[start : start + length]
