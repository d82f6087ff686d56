"""Paths of this machine's files in text that is always Unicode.

A file's name is bytes; Python has those that are no UTF-8 as lone surrogates, which
JSON and SQLite refuse. Such a path travels as a file URL (RFC 8089).
"""

from __future__ import annotations

import os
from pathlib import Path

_URL = "file://"


def path_text(path: str) -> str:
    """Return an absolute path as a command carries it."""
    try:
        path.encode()
    except UnicodeEncodeError:
        from urllib.parse import quote  # commands that only ask a node are quick

        return _URL + quote(os.fsencode(path))
    return path


def path_of(text: str) -> Path:
    """Return the path that a command carries: the reverse of `path_text`."""
    if not text.startswith(f"{_URL}/"):
        return Path(text)
    from urllib.parse import unquote_to_bytes

    return Path(os.fsdecode(unquote_to_bytes(text.removeprefix(_URL))))
