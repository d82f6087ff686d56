"""How values are written for people: sizes, durations, columns.

Names, notes and addresses come from other nodes, so control characters, which could
drive the terminal, are shown and never sent.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

_UNITS = ("KiB", "MiB", "GiB", "TiB")
_GAP = "  "


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
    """Write a time span: 0.42 s, 3 min, 5 h, 2 days."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def count(number: int, noun: str) -> str:
    """Write how many: 1 node, 3 nodes."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def bold(text: str) -> str:
    """Return `text` in bold where stdout is a terminal that shows it."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain else f"\x1b[1m{text}\x1b[0m"


def say(text: str) -> None:
    """Print one line of an answer."""
    print(clean(text), flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows: aligned under a header on a terminal, with tabs in a pipe."""
    lines = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for line in lines:
            print("\t".join(line))
        return
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    print(bold(_aligned([name.upper() for name in header], widths)))
    for line in lines:
        print(_aligned(line, widths))


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print named values, one on each line."""
    width = max(len(name) for name, _ in pairs) + 1 if sys.stdout.isatty() else 0
    for name, value in pairs:
        print(f"{name + ':':<{width}} {clean(value)}")


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return _GAP.join(padded).rstrip()
