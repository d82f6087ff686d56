"""opam files, read as far as needed: their fields and sections, not what these mean.

The grammar is in the manual, opam.ocaml.org/doc/Manual.html, "General syntax".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORD = re.compile(r"[A-Za-z0-9_+-]+")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_OPEN, _CLOSE = "{[(", "}])"


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a string (its text without escapes read), or a sign; and where it is."""

    kind: str
    text: str
    start: int
    end: int


def without_section(text: str, name: str) -> str:
    """Return an opam file without its sections `name { ... }`; ValueError."""
    places: list[tuple[int, int]] = []
    depth, start = 0, -1
    tokens = list(tokens_of(text))
    for place, token in enumerate(tokens):
        if token.kind == "sign" and token.text in _CLOSE:
            depth -= 1
            if depth == 0 and start >= 0:
                places.append((start, token.end))
                start = -1
        if not depth and start < 0 and _opens(tokens, place, name):
            start = token.start
        if token.kind == "sign" and token.text in _OPEN:
            depth += 1
        if depth < 0:
            raise ValueError("its opam file closes what was not opened")
    if depth:
        raise ValueError("its opam file ends too early")
    for first, last in reversed(places):
        text = text[:first] + text[last:]
    return text


def field(text: str, name: str) -> str | None:
    """Return the string of a field `name: "..."` of an opam file; ValueError."""
    tokens = list(tokens_of(text))
    depth = 0
    for place, token in enumerate(tokens[:-2]):
        if token.kind == "sign":
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
        colon, value = tokens[place + 1], tokens[place + 2]
        is_field = (token.kind, token.text, colon.text) == ("word", name, ":")
        if not depth and is_field and value.kind == "string":
            return value.text
    return None


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the tokens of an opam file without its comments; ValueError."""
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
        elif text[place] == "#":
            place = _after(text, "\n", place, default=len(text))
        elif text.startswith("(*", place):
            place = _after(text, "*)", place + 2)
        else:
            token = _token(text, place)
            yield token
            place = token.end


def _token(text: str, place: int) -> Token:
    if text.startswith('"""', place):
        end = _after(text, '"""', place + 3)
        return Token("string", text[place + 3 : end - 3], place, end)
    if text[place] == '"':
        match = _STRING.match(text, place)
        if match is None:
            raise ValueError("a string in its opam file has no end")
        return Token("string", match[1], place, match.end())
    if match := _WORD.match(text, place):
        return Token("word", match[0], place, match.end())
    return Token("sign", text[place], place, place + 1)


def _after(text: str, mark: str, place: int, default: int | None = None) -> int:
    """Return where the next `mark` ends."""
    found = text.find(mark, place)
    if found >= 0:
        return found + len(mark)
    if default is None:
        raise ValueError("a comment or string in its opam file has no end")
    return default


def _opens(tokens: list[Token], place: int, name: str) -> bool:
    """Tell whether a section `name {` begins here, rather than a value of a field."""
    token = tokens[place]
    if (token.kind, token.text) != ("word", name) or place + 1 == len(tokens):
        return False
    before = tokens[place - 1] if place else None
    is_value = (
        before is not None and before.kind == "sign" and before.text not in _CLOSE
    )
    following = tokens[place + 1]
    return not is_value and (following.kind, following.text) == ("sign", "{")
