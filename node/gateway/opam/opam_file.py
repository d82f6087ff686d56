"""opam files, read as far as needed: their fields and sections, not what these mean.

The grammar is in the manual, opam.ocaml.org/doc/Manual.html, "General syntax". Every
pattern takes time in proportion to what it reads: its quantifiers are possessive, and
a string or comment without an end goes on to the end of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from node.gateway.named_file import parse_digests
from transfer import Digest

_TRIPLE = r'"""(?:[^"\\]++|\\(?:.|\Z)|"(?!""))*+(?:"""|\Z)'
_SIMPLE = r'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)'
_COMMENT = r"\(\*|\#[^\n]*+"
_COMMENT_EDGE = re.compile(r"\(\*|\*\)")
_ESCAPE = re.compile(r"\\(?:\r?\n[ \t]*+|([0-9]{3})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b"}
_TOKEN = re.compile(
    rf"(?P<skip>\s++|{_COMMENT})|(?P<triple>{_TRIPLE})|(?P<string>{_SIMPLE})"
    r"|(?P<word>[A-Za-z0-9_+-]++)|(?P<sign>.)",
    re.DOTALL,
)
# What matters for finding a section; all else is passed over at the speed of C.
_LANDMARK = re.compile(
    rf"{_COMMENT}|{_TRIPLE}|{_SIMPLE}|[\[\](){{}}]"
    r"|(?<![A-Za-z0-9_+-])(?:url|extra-source)(?![A-Za-z0-9_+-])",
    re.DOTALL,
)
_OPEN, _CLOSE = "{[(", "}])"
_BARE_MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a string (its text without escapes read), or a sign; and where it is."""

    kind: str
    text: str
    start: int
    end: int

    def is_sign(self, signs: str) -> bool:
        """Tell whether it is one of these signs."""
        return self.kind == "sign" and self.text in signs


@dataclass(frozen=True, slots=True)
class OpamArchive:
    """An archive that an opam file names."""

    url: str
    digests: tuple[Digest, ...]
    """Its checksums, the strongest first; empty where it has none."""

    @property
    def file(self) -> str:
        """The last part of its URL."""
        return self.url.partition("?")[0].rpartition("/")[2]


def archives_in(text: str) -> Iterator[OpamArchive]:
    """Yield the archives of the sections `url` and `extra-source`; ValueError."""
    depth = place = 0
    while (match := _LANDMARK.search(text, place)) is not None:
        place = match.end()
        if match[0] == "(*":
            place = _comment_end(text, place)
        first = match[0][0]
        if match[0] in ("url", "extra-source") and not depth:
            section = _section_at(text, place)
            if section is not None:
                tokens, place = section
                if (archive := _archive(tokens)) is not None:
                    yield archive
        elif len(match[0]) == 1 and first != "#":
            depth += (first in _OPEN) - (first in _CLOSE)


def _section_at(text: str, place: int) -> tuple[list[Token], int] | None:
    """Return the tokens in the braces that follow, and where they close, or None."""
    tokens: list[Token] = []
    depth = 0
    for token in tokens_of(text, place):
        if not depth and token.kind == "string" and not tokens:
            continue  # the file that an extra source becomes
        if token.is_sign(_OPEN):
            depth += 1
        elif token.is_sign(_CLOSE):
            depth -= 1
        elif not depth:
            return None
        if not depth:
            return tokens[1:], token.end
        tokens.append(token)
    return None


def _archive(tokens: list[Token]) -> OpamArchive | None:
    """Read `src` (or `archive`, as it was called) and `checksum` of a section."""
    url, sums, name = "", [], ""
    for place, token in enumerate(tokens):
        following = tokens[place + 1] if place + 1 < len(tokens) else None
        if token.kind == "word" and following is not None and following.is_sign(":"):
            name = token.text
        elif token.kind == "string" and name in ("src", "archive", "http"):
            url = url or unescaped(token.text)
        elif token.kind == "string" and name == "checksum":
            said = unescaped(token.text).strip()
            is_bare = _BARE_MD5.fullmatch(said) is not None
            sums.append(f"md5:{said}" if is_bare else said.replace("=", ":", 1))
    return OpamArchive(url, parse_digests(sums)) if url else None


def without_section(text: str, name: str) -> str:
    """Return an opam file without its sections `name { ... }`; ValueError."""
    places: list[tuple[int, int]] = []
    depth, start = 0, -1
    tokens = list(tokens_of(text))
    for place, token in enumerate(tokens):
        if token.is_sign(_CLOSE):
            depth -= 1
            if depth == 0 and start >= 0:
                places.append((start, token.end))
                start = -1
        if not depth and start < 0 and _opens(tokens, place, name):
            start = token.start
        if token.is_sign(_OPEN):
            depth += 1
        if depth < 0:
            raise ValueError("its opam file closes what was not opened")
    if depth:
        raise ValueError("its opam file ends too early")
    kept, end = [], 0
    for first, last in places:
        kept.append(text[end:first])
        end = last
    return "".join([*kept, text[end:]])


def field(text: str, name: str) -> str | None:
    """Return the string of a field `name: "..."` of an opam file; ValueError."""
    value = _field(text, name)
    return unescaped(value[0].text) if value and value[0].kind == "string" else None


def field_span(text: str, name: str) -> tuple[int, int] | None:
    """Return where a field `name: VALUE` begins and where its value ends; ValueError.

    A value is a string, a word, or what stands in brackets.
    """
    value = _field(text, name)
    if not value:
        return None
    depth = 0
    for token in value:
        depth += token.is_sign(_OPEN) - token.is_sign(_CLOSE)
        if depth <= 0:
            start = text.rindex(name, 0, value[0].start)
            return start, token.end
    raise ValueError(f"the value of {name} in it has no end")


def _field(text: str, name: str) -> list[Token]:
    """Return the tokens from the value of a field on; none where it is not there."""
    tokens = list(tokens_of(text))
    depth = 0
    for place, token in enumerate(tokens[:-2]):
        depth += token.is_sign(_OPEN) - token.is_sign(_CLOSE)
        is_field = (token.kind, token.text) == ("word", name)
        if not depth and is_field and tokens[place + 1].is_sign(":"):
            return tokens[place + 2 :]
    return []


def tokens_of(text: str, place: int = 0) -> Iterator[Token]:
    """Yield the tokens of an opam file without its comments; ValueError."""
    while (match := _TOKEN.match(text, place)) is not None:
        place = match.end()
        kind, whole = match.lastgroup or "sign", match[0]
        if kind == "skip":
            if whole == "(*":
                place = _comment_end(text, place)
            continue
        if kind in ("triple", "string"):
            mark = 3 if kind == "triple" else 1
            if len(whole) < 2 * mark or not whole.endswith('"' * mark):
                raise ValueError("a string in its opam file has no end")
            yield Token("string", whole[mark:-mark], match.start(), match.end())
        else:
            yield Token(kind, whole, match.start(), match.end())


def unescaped(text: str) -> str:
    """Return what a string means: its escapes are those of OCaml."""

    def meant(match: re.Match[str]) -> str:
        decimal, hexadecimal, sign = match.groups()
        if sign is not None:
            return _ESCAPED.get(sign, sign)
        if decimal is None and hexadecimal is None:
            return ""  # a line that goes on
        return chr(int(decimal) if decimal else int(hexadecimal, 16))

    return _ESCAPE.sub(meant, text) if "\\" in text else text


def _comment_end(text: str, place: int) -> int:
    """Return where the comment that was opened before `place` ends; ValueError.

    Comments nest.
    """
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, place):
        depth += 1 if edge[0] == "(*" else -1
        if not depth:
            return edge.end()
    raise ValueError("a comment in its opam file has no end")


def _opens(tokens: list[Token], place: int, name: str) -> bool:
    """Tell whether a section `name {` begins here, rather than a value of a field."""
    token = tokens[place]
    if (token.kind, token.text) != ("word", name) or place + 1 == len(tokens):
        return False
    before = tokens[place - 1] if place else None
    is_value = (
        before is not None and before.kind == "sign" and before.text not in _CLOSE
    )
    return not is_value and tokens[place + 1].is_sign("{")
