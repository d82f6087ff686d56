"""How values are written for people: sizes, durations, columns.

Names, notes and addresses come from other nodes, so control characters, which could
drive the terminal, are shown and never sent.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

_UNITS = ("KiB", "MiB", "GiB", "TiB")
_GAP = "  "
_DIGEST = re.compile(r"[a-z0-9-]+:[0-9a-f]{32,128}")
_WORD = re.compile(r"(?:`[^`]*`|\S)+")
DIGEST_DIGITS = 12
"""How many digits of a digest tables print where there is no room for all."""
NODE_ID_DIGITS = 16
COLUMN_MIN = 8
COLUMN_READABLE = 20
"""Columns are not cut below this where other columns can go instead."""


def is_for_people(stream: TextIO) -> bool:
    """Tell whether a person looks at `stream`: a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def clean(text: object) -> str:
    """Return `text` on one line, control characters escaped."""
    return "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}"
        for character in str(text)
    )


def size(count: int) -> str:
    """Return a number of bytes as people read it.

    >>> size(17), size(1_572_864)
    ('17 B', '1.5 MiB')
    """
    if count < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        if value < 999.95 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Write a time span: 0.42 s, 4.2 s, 42 s, 3 min, 5 h, 2 days."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def count(number: int, noun: str) -> str:
    """Write how many: 1 node, 3 nodes, 2 addresses."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}es" if noun.endswith("s") else f"{number} {noun}s"


def bold(text: str) -> str:
    """Return `text` in bold where stdout is a terminal that shows it."""
    is_plain = not is_for_people(sys.stdout) or bool(os.environ.get("NO_COLOR"))
    return text if is_plain else f"\x1b[1m{text}\x1b[0m"


def say(text: str) -> None:
    """Print one line of an answer."""
    print(clean(text), flush=True)


def remark(sentence: str) -> None:
    """Print a sentence beside the answer, on stderr; terminals get it in lines."""
    line = clean(sentence)
    if is_for_people(sys.stderr):
        line = wrapped(line, _terminal_columns())
    print(line, file=sys.stderr, flush=True)


def wrapped(text: str, columns: int) -> str:
    """Break `text` into lines of at most `columns`, where that cuts no word.

    What stands in back-quotes is a command, and goes whole to the next line.
    """
    lines = [""]
    for word in _WORD.findall(text):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and width(longer) > columns:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def width(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def fit(text: str, columns: int) -> str:
    """Return `text` in at most `columns`; an ellipsis stands for what was cut."""
    if width(text) <= columns:
        return text
    kept, used = "", 1
    for character in text:
        used += _character_width(character)
        if used > columns:
            break
        kept += character
    return kept + "…" if columns > 0 else ""


def short_digest(text: str) -> str:
    """Return the part of a digest that tables print, and commands read again."""
    algorithm, colon, digest = text.partition(":")
    return f"{algorithm}{colon}{digest[:DIGEST_DIGITS]}"


def short_node_id(text: str) -> str:
    """Return the part of a node id that people are shown; `--json` has all of it."""
    return text[:NODE_ID_DIGITS]


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    optional: Sequence[str] = (),
    *,
    wraps: bool = False,
) -> None:
    """Print rows: aligned under a header on a terminal, with tabs in a pipe.

    On a terminal it fits: first digests are shortened and the widest columns cut, then
    the columns named in `optional` are dropped, in their order. With `wraps`, the last
    column is advice: it goes on below instead of being cut.
    """
    lines = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in lines:
            print("\t".join(line))
        return
    if not lines:
        return
    columns = [list(column) for column in zip(header, *lines, strict=True)]
    if wraps:
        columns = _wrapped(columns, _terminal_columns())
    widths = _fitted(columns, optional, _terminal_columns())
    print(bold(_aligned([column[0].upper() for column in columns], widths)))
    for cells in zip(*(column[1:] for column in columns), strict=True):
        print(_aligned(cells, widths))


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print named values, one on each line."""
    name_width = max(len(name) for name, _ in pairs) + 1 if sys.stdout.isatty() else 0
    for name, value in pairs:
        print(f"{name + ':':<{name_width}} {clean(value)}")


def _wrapped(columns: list[list[str]], most: int) -> list[list[str]]:
    """Break the last column into lines that fit beside the others."""
    from textwrap import wrap

    used = sum(max(map(width, one)) + len(_GAP) for one in columns[:-1])
    room = max(most - used, COLUMN_READABLE)
    rows = [[column[0] for column in columns]]
    for cells in zip(*(column[1:] for column in columns), strict=True):
        first, *others = wrap(cells[-1], room) or [""]
        rows.append([*cells[:-1], first])
        rows += [[*[""] * (len(columns) - 1), other] for other in others]
    return [list(column) for column in zip(*rows, strict=True)]


def _fitted(columns: list[list[str]], optional: Sequence[str], most: int) -> list[int]:
    """Shorten and drop `columns` until they fit into `most`; return their widths."""

    def needed() -> list[int]:
        return [max(map(width, column)) for column in columns]

    def excess(widths: Sequence[int]) -> int:
        return sum(widths) + len(_GAP) * (len(widths) - 1) - most

    if excess(needed()) > 0:
        for column in columns:
            if all(map(_DIGEST.fullmatch, column[1:])):
                column[1:] = map(short_digest, column[1:])

    def cut(least: int) -> list[int]:
        widths = needed()
        while (over := excess(widths)) > 0 and max(widths) > least:
            widest = widths.index(max(widths))
            widths[widest] = max(least, widths[widest] - over)
        return widths

    for name in optional:
        if excess(cut(COLUMN_READABLE)) > 0:
            columns[:] = [column for column in columns if column[0] != name]
    return cut(COLUMN_MIN)


def _terminal_columns() -> int:
    from shutil import get_terminal_size  # here: nothing else needs it

    return get_terminal_size().columns


def _character_width(character: str) -> int:
    from unicodedata import combining, east_asian_width

    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    fitted = [fit(cell, most) for cell, most in zip(cells, widths, strict=True)]
    padded = [
        cell + " " * (most - width(cell))
        for cell, most in zip(fitted, widths, strict=True)
    ]
    return _GAP.join(padded).rstrip()
