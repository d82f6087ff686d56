"""How every benchmark reports: a table for people, or one JSON document.

A row has what was measured here, what was measured beside it in the same run, their
ratio, the goal for one of the two, and whether it was reached. Progress goes to stderr,
so that `--json` leaves one document on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import dataclass, field
from typing import Any

HEADINGS = ("measured", "ours", "theirs", "beside", "ratio", "goal", "reached")


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the ratio ours / theirs, or, with `ratio=False`, on ours alone."""

    bound: float
    ratio: bool = True
    at_least: bool = False

    def reached(self, ours: float, ratio: float | None) -> bool | None:
        """Tell whether a row reaches it; None where there was nothing beside it."""
        value = ratio if self.ratio else ours
        if value is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound

    def words(self, unit: str) -> str:
        """Return it as people read it: `<= 0.35 x`, or `<= 50 ms`."""
        sign = ">=" if self.at_least else "<="
        return f"{sign} {figure(self.bound)} {'x' if self.ratio else unit}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table; `more` holds further figures by name."""

    what: str
    ours: float
    unit: str
    theirs: float | None = None
    beside: str = ""
    goal: Goal | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """Ours by theirs, where something was measured beside it."""
        return self.ours / self.theirs if self.theirs else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal was reached; None without a goal or without a peer."""
        return self.goal.reached(self.ours, self.ratio) if self.goal else None

    def cells(self, names: list[str]) -> list[str]:
        """Return the row as the table shows it, with `names` of `more` at its end."""
        theirs = "" if self.theirs is None else f"{figure(self.theirs)} {self.unit}"
        reached = {True: "yes", False: "NO", None: ""}[self.reached]
        more = [self.more.get(name, "") for name in names]
        return [
            self.what,
            f"{figure(self.ours)} {self.unit}".rstrip(),
            theirs.rstrip(),
            self.beside,
            "" if self.ratio is None else figure(self.ratio),
            self.goal.words(self.unit) if self.goal else "",
            reached,
            *(figure(one) if isinstance(one, float) else str(one) for one in more),
        ]

    def document(self) -> dict[str, Any]:
        """Return the row for `--json`."""
        goal = self.goal.words(self.unit) if self.goal else None
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "theirs": self.theirs,
            "beside": self.beside or None,
            "ratio": self.ratio,
            "goal": goal,
            "reached": self.reached,
            **self.more,
        }


@dataclass
class Report:
    """The tables of one run of a benchmark, printed as they are finished."""

    name: str
    as_json: bool
    sections: list[dict[str, Any]] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something of the run that is no figure, such as a peer that is absent."""
        print(text, file=sys.stderr, flush=True)

    def section(self, title: str, rows: list[Row], note: str = "") -> None:
        """Add a table; it is printed at once unless the output is JSON."""
        documents = [row.document() for row in rows]
        self.sections.append({"title": title, "note": note, "rows": documents})
        if not self.as_json:
            print(f"\n{title}\n\n{table(rows)}", flush=True)
            if note:
                print(f"\n{note}", flush=True)

    def end(self) -> None:
        """Print the document, if the output is JSON."""
        if self.as_json:
            document = {
                "benchmark": self.name,
                "machine": machine(),
                "sections": self.sections,
            }
            print(json.dumps(document, indent=2))


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that all benchmarks have."""
    found = argparse.ArgumentParser(
        prog=f"scripts/bench {name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--json", action="store_true", help="print one JSON document")
    return found


def table(rows: list[Row]) -> str:
    """Return rows as an aligned Markdown table, without columns that are empty."""
    names = sorted({name for row in rows for name in row.more})
    lines = [[*HEADINGS, *names], *(row.cells(names) for row in rows)]
    used = [at for at in range(len(lines[0])) if any(line[at] for line in lines[1:])]
    wide = {at: max(len(line[at]) for line in lines) for at in used}
    text = [" | ".join(line[at].ljust(wide[at]) for at in used) for line in lines]
    rule = "|".join("-" * (wide[at] + 2) for at in used)
    body = [f"| {line} |" for line in text]
    return "\n".join([body[0], f"|{rule}|", *body[1:]])


def figure(value: float) -> str:
    """Return a number with three digits that mean something."""
    if value == 0 or abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine() -> dict[str, Any]:
    """Return where a run took place."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processors": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
    }
