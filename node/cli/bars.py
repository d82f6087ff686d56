"""Progress bars: one for each label of the progress events."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from node.cli.text import clean, size

LABEL_CHARACTERS_MAX = 40
BARS_MAX = 10


class AmountColumn(ProgressColumn):
    """How much is done, of how much, and how fast."""

    def render(self, task: Task) -> Text:
        """Write the amount of one bar in its unit."""
        done, unit = int(task.completed), str(task.fields["unit"])
        total = None if task.total is None else int(task.total)
        if unit != "bytes":
            return Text(f"{done} {unit}" if total is None else f"{done}/{total} {unit}")
        amount = size(done) if total is None else f"{size(done)} of {size(total)}"
        speed = task.finished_speed or task.speed
        return Text(f"{amount}  {size(int(speed))}/s" if speed else amount)


class Bars:
    """Draws the bars; those that are done make room when there are many."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            AmountColumn(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(file=stream),
        )
        self._bars: dict[str, TaskID] = {}
        self._progress.start()

    def show(self, event: dict[str, Any]) -> None:
        """Move the bar of `event`, made now if it is the first of its label."""
        label, total = str(event["label"]), event["total"]
        if label not in self._bars:
            self._make_room()
            self._bars[label] = self._progress.add_task(
                _short(label), total=total, unit=str(event["unit"])
            )
        self._progress.update(
            self._bars[label], completed=event["done"], total=total, unit=event["unit"]
        )

    def stop(self) -> None:
        """Leave the bars as they are, and the terminal as it was."""
        self._progress.stop()

    def _make_room(self) -> None:
        if len(self._bars) < BARS_MAX:
            return
        finished = {task.id for task in self._progress.tasks if task.finished}
        for label, bar in list(self._bars.items()):
            if bar in finished:
                self._progress.remove_task(bar)
                del self._bars[label]
                return


def _short(label: str) -> str:
    label = clean(label)
    if len(label) <= LABEL_CHARACTERS_MAX:
        return label
    return label[: LABEL_CHARACTERS_MAX - 1] + "…"
