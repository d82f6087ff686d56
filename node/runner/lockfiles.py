"""The relay's address in lockfiles: some tools write down which index they asked.

The relay is gone when the command is, so nothing may keep its address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOCKFILES = (
    "uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile", "Pipfile.lock",
    "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock",
    "bun.lock",
)  # fmt: skip
_BYTES_MAX = 64 * 1024 * 1024
_FOLDERS_MAX = 32


def naming(address: str, command: Sequence[str], folder: Path) -> list[Path]:
    """Return the lockfiles of the command's project that name `address`. Blocks.

    A project is looked for in `folder`, in those above, and in those that the command
    names.
    """
    found = []
    for place in list(_folders(command, folder))[:_FOLDERS_MAX]:
        for name in LOCKFILES:
            file = place / name
            with suppress(OSError):
                if not file.is_file() or file.stat().st_size > _BYTES_MAX:
                    continue
                if address.encode() in file.read_bytes():
                    found.append(file)
    return found


async def clean(files: Sequence[Path], home: Path, say: Callable[[str], None]) -> None:
    """Put the origins' addresses into `files`, with the node at `home`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "node.cli.main", "--home", str(home), "--json",
        "lockfile", "clean", *map(str, files),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode == 0:
        return
    why = "no node answers"
    with suppress(ValueError, KeyError, TypeError):
        why = str(json.loads(out)["error"])
    names = " ".join(map(str, files))
    say(
        f"{names}: the address of a node stayed in it ({why}); put the origin's back "
        f"with `caravan lockfile clean {names}` while a node is running"
    )


def _folders(command: Sequence[str], folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents
    for word in command[1:]:
        with suppress(OSError, ValueError):
            path = folder / word.rpartition("=")[2]
            if path.is_dir() and path != folder:
                yield path
