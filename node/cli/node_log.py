"""The log of a running node: `node.log` in its folder, and stderr.

One line for each event, with its time in UTC. The file never grows beyond a bound:
when it is full it becomes `node.log.1`, whose content is lost, and a new one begins.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from node.cli.text import clean

LOG_FILE = "node.log"
LOG_BYTES_MAX = 8 * 1024 * 1024
TERMINAL_FORMAT = "caravan: %(message)s"
LINE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LineFormatter(logging.Formatter):
    """One line for each record, also where an error comes with it."""

    def formatTime(  # noqa: N802 (the name that logging gives it)
        self,
        record: logging.LogRecord,
        datefmt: str | None = None,  # noqa: ARG002
    ) -> str:
        """Write the time of a record in UTC (RFC 3339)."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line of text."""
        record.message = _message(record)
        record.asctime = self.formatTime(record)
        return self.formatMessage(record)


class JsonFormatter(LineFormatter):
    """One JSON object for each record: time, level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one JSON object."""
        return json.dumps(
            {
                "time": self.formatTime(record),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": _message(record),
            }
        )


class NodeLogFile(RotatingFileHandler):
    """`node.log`, readable by its owner only, and bounded while the node runs.

    With `takes_stderr`, what others write to stderr goes into the same file: it is
    turned with it, so that no old file stays open and grows.
    """

    def __init__(self, path: Path, *, takes_stderr: bool = False) -> None:
        self._takes_stderr = takes_stderr
        super().__init__(
            path, maxBytes=LOG_BYTES_MAX, backupCount=1, encoding="utf-8", delay=True
        )

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.baseFilename, flags, 0o600)
        stream = TextIOWrapper(
            os.fdopen(descriptor, "ab"), encoding="utf-8", errors="replace"
        )
        if self._takes_stderr:
            os.dup2(stream.fileno(), 2)
        return stream


def start_log(
    home: Path, *, level: str, form: str, verbose: bool, is_detached: bool
) -> None:
    """Log to node.log at `level`, and to stderr unless detached.

    On stderr, only warnings show unless `verbose`.
    """
    # Where the disk is full there is nowhere to say so; the node goes on.
    logging.raiseExceptions = False
    lines = JsonFormatter() if form == "json" else LineFormatter(LINE_FORMAT)
    file = NodeLogFile(home / LOG_FILE, takes_stderr=is_detached)
    file.setFormatter(lines)
    root = logging.getLogger()
    root.addHandler(file)
    number = getattr(logging, level.upper())
    root.setLevel(number)
    if is_detached:
        return
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(number if verbose else max(number, logging.WARNING))
    is_terminal = sys.stderr.isatty() and form != "json"
    stderr.setFormatter(logging.Formatter(TERMINAL_FORMAT) if is_terminal else lines)
    root.addHandler(stderr)


def _message(record: logging.LogRecord) -> str:
    """Return a record's message and error, on one line and without control codes."""
    message = record.getMessage()
    if record.exc_info and (error := record.exc_info[1]) is not None:
        message += f": {type(error).__name__}: {error}{_place(error)}"
    return clean(message)


def _place(error: BaseException) -> str:
    """Return where an error was raised: its innermost file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})"
