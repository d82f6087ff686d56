"""Real packages for the demo: wheels from the index that pip on this machine uses.

`cryptography` needs `cffi`, which needs `pycparser`: their own metadata says so, and
that is where the dependencies below are read. Two versions of `pycparser` make the
update. Where no index can be reached, the same three are packed from the files that
are installed on this machine.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)

from node.errors import NodeError

NAMES = ("pycparser", "cffi", "cryptography")  # in the order of publishing
UPDATED = NAMES[0]
TOP = NAMES[-1]

DOWNLOAD_SECONDS_MAX = 90.0
_PACKED_AT = (2026, 1, 1, 0, 0, 0)  # so that the same files give the same digest


@dataclass(frozen=True, slots=True)
class Wheel:
    """One version of a package: its file, and which of the others it needs."""

    name: str
    version: str
    path: Path
    needs: tuple[str, ...]

    @property
    def size(self) -> int:
        """The length of the file in bytes."""
        return self.path.stat().st_size


@dataclass(frozen=True, slots=True)
class Wheels:
    """What the demo publishes: three packages, and a newer version of one of them."""

    first: tuple[Wheel, ...]
    update: Wheel
    origin: str

    def named(self, name: str) -> Wheel:
        """Return the first version of `name`."""
        return next(wheel for wheel in self.first if wheel.name == name)


def get_wheels(cache: Path, workshop: Path) -> Wheels:
    """Return the wheels in `cache`, downloaded now if they are not there.

    Without an index they are made in `workshop` from what is installed here; `origin`
    says which of it happened. NodeError if not even that can be done.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found = _wheels_in(cache)
    if found is not None:
        return found
    problem = _download(cache)
    found = _wheels_in(cache)
    if found is not None:
        return found
    return _packed_here(workshop, problem or "pip brought other files than expected")


def _wheels_in(folder: Path) -> Wheels | None:
    """Return the wheels of a folder; None if one of them is missing."""
    versions: dict[str, list[Wheel]] = {name: [] for name in NAMES}
    for path in sorted(folder.glob("*.whl")):
        wheel = _read_wheel(path)
        if wheel is not None and wheel.name in versions:
            versions[wheel.name].append(wheel)
    for found in versions.values():
        found.sort(key=lambda wheel: parse_wheel_filename(wheel.path.name)[1])
    if len(versions[UPDATED]) < 2 or not all(versions.values()):
        return None
    first = (versions[UPDATED][0], *(versions[name][-1] for name in NAMES[1:]))
    return Wheels(first, versions[UPDATED][-1], "wheels from the package index")


def _read_wheel(path: Path) -> Wheel | None:
    """Read name, version and needs of a wheel; None if the file is not a whole one."""
    try:
        name, version, _, _ = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            inside = next(
                entry
                for entry in archive.namelist()
                if entry.endswith(".dist-info/METADATA")
            )
            headers = HeaderParser().parsestr(archive.read(inside).decode())
    except (InvalidWheelFilename, zipfile.BadZipFile, StopIteration, OSError):
        return None
    needs = _needs(headers.get_all("Requires-Dist") or [])
    return Wheel(name, str(version), path, needs)


def _needs(requirements: list[str]) -> tuple[str, ...]:
    """Return which of the demo's packages a distribution needs on this Python."""
    found = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}):
            found.append(canonicalize_name(requirement.name))
    return tuple(name for name in NAMES if name in found)


def _download(cache: Path) -> str | None:
    """Fetch the wheels with pip; returns what went wrong, None if nothing did."""
    problem = _pip_download(cache, TOP)
    newest = max(
        (
            parse_wheel_filename(path.name)[1]
            for path in cache.glob(f"{UPDATED}-*.whl")
            if _read_wheel(path) is not None
        ),
        default=None,
    )
    if problem is not None or newest is None:
        return problem
    return _pip_download(cache, f"{UPDATED}<{newest}", "--no-deps")


def _pip_download(cache: Path, requirement: str, *options: str) -> str | None:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input"),
        *("--disable-pip-version-check", "--retries", "1", "--timeout", "15"),
        *("--only-binary", ":all:", "--dest", str(cache), *options, requirement),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"pip did not answer within {DOWNLOAD_SECONDS_MAX:.0f} s"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return errors[-1] if errors else f"pip ended with exit code {done.returncode}"


def _packed_here(workshop: Path, problem: str) -> Wheels:
    """Pack the three packages from the files installed on this machine."""
    workshop.mkdir(parents=True, exist_ok=True)
    first = tuple(_pack(workshop, name) for name in NAMES)
    old = first[0]
    update = workshop / f"{old.name}-{old.version}.post1.zip"
    note = f"{old.name} {old.version}.post1: the same files and this line.\n"
    update.write_bytes(old.path.read_bytes())
    with zipfile.ZipFile(update, "a") as archive:
        archive.writestr(zipfile.ZipInfo("UPDATE", _PACKED_AT), note)
    return Wheels(
        first,
        Wheel(old.name, f"{old.version}.post1", update, old.needs),
        f"packed from the files installed here, because no index answered: {problem}",
    )


def _pack(workshop: Path, name: str) -> Wheel:
    try:
        installed = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise NodeError(
            f"the demo needs {name}, which no index delivers and which is not "
            "installed here; try again with a network connection"
        ) from error
    path = workshop / f"{name}-{installed.version}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry in sorted(installed.files or [], key=str):
            source = Path(str(entry.locate()))
            if source.is_file() and ".." not in entry.parts:
                member = zipfile.ZipInfo(entry.as_posix(), _PACKED_AT)
                archive.writestr(member, source.read_bytes(), zipfile.ZIP_DEFLATED)
    needs = _needs(installed.requires or [])
    return Wheel(name, installed.version, path, needs)
