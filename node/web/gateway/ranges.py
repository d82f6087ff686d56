"""Conditional and range requests, decided without I/O (RFC 9110, chapters 13, 14)."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime

_RANGE = re.compile(
    r"\s*+bytes\s*+=\s*+([0-9]{0,18})\s*+-\s*+([0-9]{0,18})\s*+", re.IGNORECASE
)


class UnsatisfiableError(Exception):
    """The range lies beyond the end."""


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return (start, end) of a single range; None where the whole is to be sent.

    Several ranges, and what cannot be read, mean the whole.
    """
    match = _RANGE.fullmatch(text)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        count = min(int(last), size)
        if not count:
            raise UnsatisfiableError
        return size - count, size
    start = int(first)
    end = min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableError
    return start, end


def matches(condition: str, etag: str) -> bool:
    """Tell whether an If-None-Match names this entity tag; weak ones do as well."""
    if condition.strip() == "*":
        return True
    tags = {one.strip().removeprefix("W/") for one in condition.split(",")}
    return etag in tags


def is_not_newer(modified: str, since: str) -> bool:
    """Tell whether a Last-Modified is no later than an If-Modified-Since."""
    first, second = _date(modified), _date(since)
    return first is not None and second is not None and first <= second


def _date(text: str) -> datetime | None:
    if not text or len(text) > 50:
        return None
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if found.tzinfo is not None else None
