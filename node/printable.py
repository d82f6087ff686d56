"""Text of this machine that is always Unicode."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a text for people, logs and tables.

    The bytes of a file's name that are no UTF-8, lone surrogates in Python, become
    replacement characters.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
