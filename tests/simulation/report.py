"""What an experiment hands back: figures for machines, a table for people, a plot."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass
class Plot:
    """Lines over one pair of axes; each line is a list of (x, y)."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]]
    log_x: bool = False


@dataclass
class Result:
    """The figures of one run, and what to draw of it."""

    figures: dict[str, Any]
    plot: Plot | None = None
    failed: list[str] = field(default_factory=list)  # broken invariants

    def text(self) -> str:
        """Return the figures as lines for people."""
        width = max(len(name) for name in self.figures)
        return "\n".join(
            f"{name:<{width}}  {_plain(value)}" for name, value in self.figures.items()
        )

    def json(self) -> str:
        """Return the figures as one JSON document."""
        return json.dumps(self.figures)


def _plain(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which a share of all lie (nearest rank); 0 if none."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def distribution(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return at most 400 points of a cumulative distribution, shares from 0 to 1."""
    ordered = sorted(values)
    step = max(1, len(ordered) // 400)
    return [
        (ordered[place], (place + 1) / len(ordered))
        for place in range(0, len(ordered), step)
    ]


class Progress:
    """A bar on stderr where that is a terminal, nothing elsewhere."""

    def __init__(self, *, shown: bool | None = None) -> None:
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._last = 0.0
        self._started_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.monotonic() - self._started_at

    def show(self, label: str, done: float, total: float) -> None:
        """Draw how far a step has come, ten times a second at most."""
        now = time.monotonic()
        if not self._shown or (now - self._last < 0.1 and done < total):
            return
        self._last = now
        share = min(1.0, done / total) if total else 1.0
        bar = "█" * round(30 * share)
        sys.stderr.write(f"\r\033[K{label:<24} {bar:<30} {share:5.0%}")
        sys.stderr.flush()

    def end(self) -> None:
        """Take the bar away."""
        if self._shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def save_plot(plot: Plot, path: Path) -> None:
    """Draw a plot into a PNG file; matplotlib is loaded for this alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for label, points in plot.lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=label)
    axes.set_title(plot.title)
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    if plot.log_x:
        axes.set_xscale("log")
    axes.grid(visible=True, alpha=0.3)
    if len(plot.lines) > 1:
        axes.legend()
    figure.savefig(path)
