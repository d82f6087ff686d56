"""Moves the node to the background, and hears from there whether it is ready.

The process is forked before anything but the command line is loaded, so there is
neither a thread nor an event loop to carry over. What the child would print with
`--json`, its ready line or its error, comes back through a pipe.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any

from node.cli.answer import read_fields
from node.cli.client import reported
from node.errors import NodeError

if TYPE_CHECKING:
    from pathlib import Path

LOG_FILE = "node.log"
READY_SECONDS_MAX = 60.0
READY_BYTES_MAX = 64 * 1024


def detach(home: Path) -> Any | None:
    """Fork: None in the child, which runs the node; its ready line in the parent.

    Raises NodeError with the child's sentence and exit code if it fails to start.
    """
    log = _open_log(home)
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _leave_terminal(write_end, log)
        return None
    os.close(write_end)
    os.close(log)
    try:
        return _ready(_line(read_end), home / LOG_FILE)
    except BaseException:
        # Ctrl-C, a failure or a hang: nothing is left behind.
        os.kill(pid, signal.SIGTERM)
        raise
    finally:
        os.close(read_end)


def _open_log(home: Path) -> int:
    path = home / LOG_FILE
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise NodeError(f"cannot write {path}: {error.strerror}") from error


def _leave_terminal(stdout: int, stderr: int) -> None:
    """Leave the terminal: an own session, no input, output to the parent and log."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)
        os.close(source)


def _line(read_end: int) -> bytes:
    """Read what the child says first, up to its line end or its death."""
    line = b""
    while not line.endswith(b"\n") and len(line) < READY_BYTES_MAX:
        ready, _, _ = select.select([read_end], [], [], READY_SECONDS_MAX)
        if not ready:
            raise NodeError(f"the node was not ready within {READY_SECONDS_MAX:.0f} s")
        part = os.read(read_end, READY_BYTES_MAX)
        if not part:
            break
        line += part
    return line


def _ready(line: bytes, log: Path) -> Any:
    try:
        ready = read_fields(line)
    except ValueError as error:
        raise NodeError(f"the node ended before it was ready; see {log}") from error
    if "error" in ready:
        raise reported(ready)
    return ready
