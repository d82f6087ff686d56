"""Package managers as a user runs them, in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from node.demo.processes import NodeProcess

CLIENT_SECONDS_MAX = 100.0
# Whatever the machine's own configuration says of indexes must not reach the clients.
_FOREIGN = (
    "PIP_", "UV_", "NPM_", "CARGO_REGISTR", "OPAM", "CARAVAN_", "YARN_", "BUN_", "PDM_",
    "POETRY_", "PIPENV_", "PIPX_", "HATCH_", "PNPM_", "VIRTUAL_ENV",
)  # fmt: skip
CLIENTS = Path(__file__).parents[2] / ".clients/bin"
"""Where `scripts/clients` puts what Debian does not have."""


def need(program: str) -> str:
    """Return where a client is; without it, a skip that names it, on CI a failure."""
    beside = [Path(sys.executable).parent / program, CLIENTS / program]
    found = next((str(one) for one in beside if one.exists()), shutil.which(program))
    fault = "is not installed" if found is None else why_not_usable(found)
    if found is not None and not fault:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{program} {fault}; .ci/run installs what the tests need")
    pytest.skip(f"{program} {fault}")


@cache
def why_not_usable(path: str) -> str:
    """Return why a client that is there does not run, or nothing if it does.

    rustup, for one, puts a `cargo` on the path that only says that it has no toolchain.
    """
    try:
        done = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLIENT_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run: {error}"
    if done.returncode:
        said = (done.stderr or done.stdout).strip().partition("\n")[0]
        return f"does not run: `{path} --version` ended with {done.returncode}: {said}"
    return ""


def run_client(
    command: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a client in `folder`, its own home, however it ends."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        # Some are stricter where they see that they run on CI.
        if not name.upper().startswith(_FOREIGN) and name != "CI"
    }
    own = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "NPM_CONFIG_USERCONFIG": str(home / "npmrc"),
        "NPM_CONFIG_CACHE": str(home / "npm-cache"),
    }
    return subprocess.run(
        [str(one) for one in command],
        cwd=folder,
        env={**kept, **own, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS_MAX,
        check=False,
    )


def own_home(folder: Path) -> dict[str, str]:
    """Return what gives a client a home below `folder`, with caches of its own."""
    home = folder / "home"
    return {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_DATA_HOME": str(home / ".local/share"),
        "XDG_STATE_HOME": str(home / ".local/state"),
    }


def must(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a client printed; AssertionError if it failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def gateway(node: NodeProcess) -> str:
    """Return the URL of a node's gateway."""
    return f"http://{node.ready['web']}"


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Ask a gateway as no package manager would; returns status and body."""
    request = urllib.request.Request(url, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
