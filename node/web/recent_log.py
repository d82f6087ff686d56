"""The newest lines of the log, kept in memory for the dashboard."""

from __future__ import annotations

import logging
from collections import deque

import msgspec

LINES_MAX = 500
LINE_CHARACTERS_MAX = 500


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line: its number since the start, its time (UTC), level and text."""

    number: int
    at: float
    level: str
    text: str


class RecentLog(logging.Handler):
    """Keeps the newest lines; a handler of the root logger while a door is open."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[LogLine] = deque(maxlen=LINES_MAX)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        try:
            text = record.getMessage()[:LINE_CHARACTERS_MAX]
        except (TypeError, ValueError):
            self.handleError(record)
            return
        self._count += 1
        self._lines.append(
            LogLine(
                number=self._count,
                at=record.created,
                level=record.levelname.lower(),
                text=f"{record.name}: {text}",
            )
        )

    def since(self, number: int) -> list[LogLine]:
        """Return the lines after the one with this number, oldest first."""
        return [line for line in self._lines if line.number > number]
