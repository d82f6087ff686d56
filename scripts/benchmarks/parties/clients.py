"""pip, uv and npm: one run of each into a fresh folder, with nothing cached, timed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CLIENT_SECONDS_MAX = 600.0
# What the machine's own configuration says must not reach a made index.
_FOREIGN = ("PIP_", "UV_", "NPM_", "CARAVAN_")


@dataclass(frozen=True, slots=True)
class Client:
    """A package manager: the route of its index below an origin and below a node."""

    name: str
    origin_route: str
    node_route: str

    def seconds(
        self,
        index: str | None,
        names: Sequence[str],
        folder: Path,
    ) -> float:
        """Time one run; without an index it uses what this machine is configured for.

        It writes below `folder`; what it wrote is removed again.
        """
        target = Path(tempfile.mkdtemp(dir=folder))
        command = _COMMANDS[self.name](index, names, target)
        is_clean = index is not None
        own = {"TMPDIR": str(target), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        if is_clean:
            own |= {
                "PIP_CONFIG_FILE": os.devnull,
                "UV_NO_CONFIG": "1",
                "NPM_CONFIG_USERCONFIG": str(target / "npmrc"),
            }
        own["NPM_CONFIG_CACHE"] = str(target / "npm-cache")
        own["NPM_CONFIG_UPDATE_NOTIFIER"] = "false"
        environment = {**_environment(clean=is_clean), **own}
        (target / "project").mkdir(exist_ok=True)
        began = time.perf_counter()
        done = subprocess.run(
            command,
            cwd=target / "project",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS_MAX,
            check=False,
        )
        seconds = time.perf_counter() - began
        shutil.rmtree(target, ignore_errors=True)
        if done.returncode:
            raise RuntimeError(f"{self.name} failed: {done.stderr[-2000:]}")
        return seconds


def _environment(*, clean: bool) -> Mapping[str, str]:
    foreign = _FOREIGN if clean else ("CARAVAN_",)
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(foreign)
    }


def _pip(index: str | None, names: Sequence[str], target: Path) -> list[str]:
    where = ["--index-url", index] if index else []
    flags = ["-q", "--no-cache-dir", "-d", str(target / "wheels")]
    return [sys.executable, "-m", "pip", "download", *flags, *where, *names]


def _uv(index: str | None, names: Sequence[str], target: Path) -> list[str]:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else "uv"
    where = ["--default-index", index] if index else []
    flags = ["-q", "--no-cache", "--python", sys.executable]
    flags += ["--target", str(target / "site")]
    return [uv, "pip", "install", *flags, *where, *names]


def _npm(index: str | None, names: Sequence[str], target: Path) -> list[str]:
    about = {
        "name": "made",
        "version": "1.0.0",
        "dependencies": dict.fromkeys(names, "*"),
    }
    project = target / "project"
    project.mkdir(exist_ok=True)
    (project / "package.json").write_text(json.dumps(about))
    where = ["--registry", index] if index else []
    flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    return ["npm", "install", *flags, *where]


_COMMANDS = {"pip": _pip, "uv": _uv, "npm": _npm}
CLIENTS = {
    "pip": Client("pip", "/simple", "/pypi/simple"),
    "uv": Client("uv", "/simple", "/pypi/simple"),
    "npm": Client("npm", "/npm/", "/npm/"),
}
