"""The links of an HTML page, read in time that grows with its length.

Python's own HTML parser needs a time that grows with the square of the length of some
pages. Only what an index page needs is read: the attributes of `a`, `base` and `meta`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

# A quote counts only behind "=", as in a browser. Nothing is looked at twice: where a
# tag has no end, the page ends.
_TAG = re.compile(
    r"<(?:(!--)|(/?[A-Za-z][^\s/>]*+)"
    r"((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+)*+)>)"
)
_ATTRIBUTE = re.compile(
    r"([^\s=/>\"']++)"
    r"(?:\s*+=\s*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\s>\"'][^\s>]*+)))?+"
)
_READ = ("a", "base", "meta")
_RAW = ("script", "style", "textarea", "title")


def tags(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (name, attributes) of the tags that matter, in order."""
    place = text.find("<")
    while place >= 0:
        match = _TAG.match(text, place)
        if match is None:
            following = text[place + 1 : place + 2]
            if following == "/" or following.isalpha():
                return  # a tag without an end
            place = text.find("<", place + 1)
            continue
        name = (match[2] or "").lower()
        end = match.end()
        if match[1]:
            end = _behind(text, "-->", end)
        elif name in _RAW:
            end = _behind(text, f"</{name}", end)
        elif name in _READ:
            yield name, _attributes(match[3])
        place = text.find("<", end)


def _attributes(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for match in _ATTRIBUTE.finditer(text):
        value = match[2] or match[3] or match[4] or ""
        if "&" in value:
            value = _unescaped(value)
        found.setdefault(match[1].lower(), value)
    return found


def _unescaped(value: str) -> str:
    try:
        return html.unescape(value)
    except ValueError:  # a number of more digits than Python reads
        return value


def _behind(text: str, mark: str, place: int) -> int:
    """Return where the next `mark` ends, or the end of the text."""
    found = text.find(mark, place)
    return found + len(mark) if found >= 0 else len(text)
