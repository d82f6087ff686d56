"""Thirty real wheels, as a usual set of requirements has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WHEELS = [
    "aiohttp", "aiosignal", "attrs", "blinker", "certifi", "cffi",
    "charset-normalizer", "click", "cryptography", "flask", "frozenlist", "idna",
    "itsdangerous", "jinja2", "markdown-it-py", "markupsafe", "mdurl", "msgpack",
    "multidict", "numpy", "packaging", "platformdirs", "propcache", "pycparser",
    "pygments", "requests", "rich", "urllib3", "werkzeug", "yarl",
]  # fmt: skip


def bring_wheels(folder: Path) -> None:
    """Download the set once, from the index that pip uses; it stays in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if len(list(folder.glob("*.whl"))) < len(WHEELS):
        flags = ["-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
        pip = [sys.executable, "-m", "pip"]
        subprocess.run([*pip, "download", *flags, *WHEELS], check=True)
