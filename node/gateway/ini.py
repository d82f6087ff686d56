"""The INI files of package managers, read as pip and npm read them.

A line has a number, so that `connect` can put it aside; `configparser` gives none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Option:
    """One option: where it stands and what it says."""

    section: str
    name: str
    """As it was written."""
    value: str
    lines: list[int] = field(default_factory=list)


def options(text: str, *, delimiters: str, continues: bool) -> Iterator[Option]:
    """Yield the options of a file in order.

    `delimiters` end a name; with `continues`, an indented line goes on with the value
    of the one before, as in Python's configparser.
    """
    section = ""
    last: Option | None = None
    for number, line in enumerate(text.split("\n")):
        words = line.strip().lstrip("\ufeff")
        if not words or words[0] in "#;":
            continue
        if continues and last is not None and line[0].isspace():
            last.value = f"{last.value}\n{words}".strip()
            last.lines.append(number)
            continue
        if last is not None:
            yield last
            last = None
        if words.startswith("[") and "]" in words:
            section = words[1 : words.index("]")].strip()
            continue
        places = [at for one in delimiters if (at := words.find(one)) >= 0]
        cut = min(places, default=len(words))
        last = Option(section, words[:cut].strip(), words[cut + 1 :].strip(), [number])
    if last is not None:
        yield last
