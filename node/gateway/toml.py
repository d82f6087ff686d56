"""TOML of strangers: time and memory grow with its length, and no faster.

A key of many dotted parts costs `tomllib` the square of their number in time and in
memory: 20 kB take 400 MB. No lockfile and no manifest has such a key, so one is refused
before the text is parsed.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

# So many parts in a row. Looked at once each: a part begins behind no part.
_LONG_KEY = re.compile(
    r"(?<![A-Za-z0-9_-])"
    r"(?:(?:[A-Za-z0-9_-]++|\"[^\"\n]*+\"|'[^'\n]*+')[ \t]*+\.[ \t]*+){40}"
)


def loads(text: str) -> dict[str, Any]:
    """Return the document of a TOML text; ValueError, RecursionError. Blocks."""
    if _LONG_KEY.search(text):
        raise ValueError("it has a key of too many parts")
    return tomllib.loads(text)
