"""What the audience sees: numbered steps, sentences with figures, a summary at the end.

On a terminal it has colours; in a pipe the same words are plain lines. With `--json`
they go to stderr and the summary goes to stdout as one document.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

MIB = 1 << 20


def size_text(count: float) -> str:
    """Return a number of bytes as people read it."""
    if count >= MIB:
        return f"{count / MIB:.1f} MiB"
    return f"{count / 1024:.0f} KiB"


class Narrator:
    """Tells the story and remembers its figures."""

    def __init__(self, *, json_output: bool) -> None:
        self._json = json_output
        self._console = Console(stderr=json_output, highlight=False)
        self._steps: list[dict[str, Any]] = []

    @property
    def on_terminal(self) -> bool:
        """Whether a person is watching, and not a pipe."""
        return self._console.is_terminal

    @property
    def steps(self) -> list[dict[str, Any]]:
        """What every finished step showed, in order."""
        return self._steps

    def title(self, text: str) -> None:
        """Open the story."""
        self._print(f"[bold]{escape(text)}[/bold]")

    def say(self, text: str) -> None:
        """Tell one thing that happened."""
        self._print(f"   {escape(text)}")

    @contextmanager
    def step(self, name: str, title: str) -> Iterator[dict[str, Any]]:
        """Tell one step, and time it; what is put into the result is its figures."""
        figures: dict[str, Any] = {}
        self._print()
        self._print(f"[bold cyan]{len(self._steps) + 1:2}[/] [bold]{escape(title)}[/]")
        started = time.monotonic()
        yield figures
        seconds = round(time.monotonic() - started, 2)
        self._print(f"   [green]done[/] in {seconds:.1f} s")
        self._steps.append(
            {"step": name, "title": title, "seconds": seconds, "figures": figures}
        )

    def failed(self, error: Exception) -> None:
        """Say which step went wrong, and why."""
        self._print(f"   [bold red]failed[/]: {escape(str(error))}")

    def summary(self, document: dict[str, Any]) -> None:
        """Close the story: a table for people, or one JSON document on stdout."""
        if self._json:
            sys.stdout.write(json.dumps(document, indent=1) + "\n")
            return
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for step in self._steps:
            table.add_row("ok", escape(step["title"]), f"{step['seconds']:.1f} s")
        self._print()
        self._console.print(table)
        self._print()
        words = "All of it worked" if document["ok"] else "It stopped at a failed step"
        self._print(
            f"[bold]{words}[/]: {document['nodes']} nodes, {len(self._steps)} steps, "
            f"{document['seconds']:.0f} s; no process and no file is left."
        )

    def _print(self, text: str = "") -> None:
        self._console.print(text, soft_wrap=True)
