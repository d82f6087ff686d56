"""Write a fetched file to stdout, a pipe or a device, in this process.

The node cannot do that: it has another stdout, other /dev/fd, and no time to wait for a
pipe's reader. Such a target is opened and written to, as `cp` does, and never replaced.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from node.errors import NodeError, VerificationError

if TYPE_CHECKING:
    from node.results import FetchResult

STDOUT = "-"
COPY_BYTES = 1024 * 1024
READER_SECONDS_MAX = 10.0
"""How long a pipe is waited for until somebody reads it."""


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
        sink = _opened(path)
        try:
            _copy(source, sink)
        finally:
            os.close(sink)


def _opened(path: str) -> int:
    """Open a device or pipe to write; NodeError where nobody reads a pipe in time."""
    until = time.monotonic() + READER_SECONDS_MAX
    while True:
        try:
            sink = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            is_pipe = stat.S_ISFIFO(Path(path).stat().st_mode)
            if error.errno != errno.ENXIO or not is_pipe:
                raise
        else:
            os.set_blocking(sink, True)
            return sink
        if time.monotonic() > until:
            raise NodeError(f"{path} is a pipe, and nobody reads it")
        time.sleep(0.05)


def _copy(source: BinaryIO, sink: int) -> None:
    while part := source.read(COPY_BYTES):
        view = memoryview(part)
        while view:
            view = view[os.write(sink, view) :]
