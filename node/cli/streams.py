"""Write a fetched file to stdout, a pipe or a device, in this process.

The node cannot do that: it has another stdout, other /dev/fd, and no time to wait for a
pipe's reader. Such a target is opened and written to, as `cp` does, and never replaced.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from node.errors import NodeError, VerificationError

if TYPE_CHECKING:
    from node.results import FetchResult

STDOUT = "-"
COPY_BYTES = 1024 * 1024


def is_stream(path: str) -> bool:
    """Tell whether `path` is stdout, or exists and is neither a file nor a folder."""
    if path == STDOUT:
        return True
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_stream(result: FetchResult, path: str) -> None:
    """Write the one file of `result` to `path`; raise NodeError if there are more."""
    if len(result.artifacts) != 1:
        raise NodeError(
            f"expected one file to write to {path}, not {len(result.artifacts)}; "
            "choose a folder, or one digest"
        )
    (artifact,) = result.artifacts
    with Path(artifact.path).open("rb") as source:
        # First all of it is verified: nothing reads a byte of a damaged file.
        if f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}" != (
            artifact.digest
        ):
            raise VerificationError(
                f"{artifact.path} is damaged; `caravan verify` fetches it again"
            )
        source.seek(0)
        if path == STDOUT:
            sys.stdout.flush()
            _copy(source, sys.stdout.fileno())
            return
        sink = os.open(path, os.O_WRONLY | os.O_NOCTTY)
        try:
            _copy(source, sink)
        finally:
            os.close(sink)


def _copy(source: BinaryIO, sink: int) -> None:
    while part := source.read(COPY_BYTES):
        view = memoryview(part)
        while view:
            view = view[os.write(sink, view) :]
