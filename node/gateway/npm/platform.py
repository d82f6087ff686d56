"""Whether a package of package-lock.json is for this platform."""

from __future__ import annotations

import platform
import sys
from typing import Any

_SYSTEMS = {"win32": "win32", "darwin": "darwin", "linux": "linux"}
_MACHINES = {
    "x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64",
    "i686": "ia32", "i386": "ia32", "ppc64le": "ppc64", "s390x": "s390x",
    "riscv64": "riscv64", "loongarch64": "loong64",
}  # fmt: skip


def fits_here(package: dict[str, Any]) -> bool:
    """Tell whether `os` and `cpu` of a locked package include this machine."""
    machine = platform.machine().lower()
    return _allows(package.get("os"), _SYSTEMS.get(sys.platform, sys.platform)) and (
        _allows(package.get("cpu"), _MACHINES.get(machine, machine))
    )


def _allows(listed: Any, name: str) -> bool:
    """Read a list of names, or of names that "!" excludes."""
    texts = [str(one) for one in listed] if isinstance(listed, list) else []
    excluded = {one[1:] for one in texts if one.startswith("!")}
    wanted = {one for one in texts if not one.startswith("!")}
    return name not in excluded and (not wanted or name in wanted)
