"""Which index pip on this machine is configured to use.

pip itself is asked, as a program: it alone knows all its files, variables and its
default. An answer that leads to a Caravan gateway, because `caravan connect pip` wrote
it there, is passed over for what pip used before that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

PIP_SECONDS_MAX = 20.0
GATEWAY_PATHS = ("/pypi/simple", "/npm")
CONNECTED_FILE = "connected.json"
_KEYS = ("install.index-url", "global.index-url")
_DEFAULT = re.compile(r"--index-url\b.*?\(default:?\s*(https?://\S+?)\)", re.DOTALL)


def index_of_pip(home: Path) -> str:
    """Return the URL of pip's index, or "" where there is no pip. Blocks."""
    for url in _candidates(home):
        if url.startswith(("http://", "https://")) and not is_gateway(url):
            return url
    return ""


def is_gateway(url: str) -> bool:
    """Tell whether a URL is that of a gateway on this machine."""
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    return local and parts.path.rstrip("/") in GATEWAY_PATHS


def _candidates(home: Path) -> Iterator[str]:
    if variable := os.environ.get("PIP_INDEX_URL"):
        yield variable
    pip = _pip()
    for key in _KEYS:
        yield _said(pip, "config", "get", key).strip()
    yield used_before(home, "pip")
    # The help names the default, on a line that may be broken anywhere.
    text = _said(pip, "--isolated", "install", "--help")
    if match := _DEFAULT.search(re.sub(r"\n\s+", " ", text)):
        yield match[1]


def used_before(home: Path, tool: str) -> str:
    """Return the index that a tool used before it was connected to this node, or ""."""
    try:
        noted = json.loads((home / CONNECTED_FILE).read_text("utf-8"))
        url = str(noted[tool]["before"] or "")
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    usable = url.startswith(("http://", "https://")) and not is_gateway(url)
    return url if usable else ""


def _pip() -> Sequence[str]:
    """Return how pip is started: the user's own, or that of this Python."""
    found = shutil.which("pip") or shutil.which("pip3")
    return [found] if found else [sys.executable, "-m", "pip"]


def _said(pip: Sequence[str], *arguments: str) -> str:
    """Return what pip prints, or "" where it fails."""
    variables = {**os.environ, "COLUMNS": "400", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if "--isolated" in arguments:
        variables = {
            name: value
            for name, value in variables.items()
            if not name.startswith("PIP_")
        } | {"PIP_CONFIG_FILE": os.devnull}
    try:
        done = subprocess.run(
            [*pip, *arguments],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
