"""What wheels say of themselves: their names, and the metadata inside (PEP 427)."""

from __future__ import annotations

import zipfile
from pathlib import Path

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)

from node.gateway.limits import METADATA_BYTES_MAX


def project_of(file: str) -> tuple[str, str] | None:
    """Return (normalized project, version) of a wheel's or sdist's file name."""
    try:
        if file.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(file)
        else:
            name, version = parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return str(name), str(version)


def read_metadata(wheel: Path) -> bytes | None:
    """Return the METADATA inside a wheel, or None where it has none. Blocks."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                folder, _, name = entry.filename.partition("/")
                if name == "METADATA" and folder.endswith(".dist-info"):
                    if entry.file_size > METADATA_BYTES_MAX:
                        return None
                    with archive.open(entry) as file:
                        data = file.read(METADATA_BYTES_MAX + 1)
                    return data if len(data) <= METADATA_BYTES_MAX else None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None
    return None
