"""Progress bars: one for each thing that comes, and one for all of them together."""

from __future__ import annotations

import time
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
from rich.table import Column
from rich.text import Text

from node.cli.text import clean, count, duration, size

BARS_MAX = 10
SUMMARY_SECONDS_MIN = 1.0
_BAR_COLUMNS_MIN = 60
"""A narrower terminal has room for names and amounts only."""
_REMAINING_COLUMNS_MIN = 76
_AMOUNT_CHARACTERS = len("1023.9 MiB of 1023.9 MiB")
_SPEED_CHARACTERS = len("1023.9 MiB/s")


class AmountColumn(ProgressColumn):
    """How much is done, of how much."""

    def __init__(self, *, is_narrow: bool) -> None:
        self._is_narrow = is_narrow
        super().__init__(Column(no_wrap=True, justify="right"))

    def render(self, task: Task) -> Text:
        """Write the amount of one bar in its unit, always equally wide."""
        done, unit = int(task.completed), str(task.fields["unit"])
        total = None if task.total is None else int(task.total)
        if unit != "bytes":
            words = f"{done} {unit}" if total is None else f"{done}/{total} {unit}"
        elif total is None:
            words = size(done)
        elif self._is_narrow:
            words = f"{100 * done // max(1, total)} %"
        else:
            words = f"{size(done)} of {size(total)}"
        return Text(words if self._is_narrow else words.rjust(_AMOUNT_CHARACTERS))


class SpeedColumn(ProgressColumn):
    """How fast bytes come."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True, justify="right"))

    def render(self, task: Task) -> Text:
        """Write the speed of one bar."""
        speed = task.finished_speed or task.speed
        is_known = speed and task.fields["unit"] == "bytes"
        words = f"{size(int(speed))}/s" if is_known and speed else ""
        return Text(words.rjust(_SPEED_CHARACTERS))


class Bars:
    """Draws the bars; those that are done make room when there are many."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=stream)
        self._progress = Progress(
            *_columns(self._console.width),
            console=self._console,
            expand=True,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self._bytes: dict[str, tuple[int, int | None]] = {}
        self._total: TaskID | None = None
        self._started = time.monotonic()
        self._progress.start()

    def show(self, event: dict[str, Any]) -> None:
        """Move the bar of `event`, made now if it is the first with its key."""
        key, total = str(event.get("key", event["label"])), event["total"]
        unit, done = str(event["unit"]), event["done"]
        if key not in self._bars:
            self._make_room()
            self._bars[key] = self._progress.add_task(
                clean(event["label"]), total=total, unit=unit
            )
        self._progress.update(self._bars[key], completed=done, total=total, unit=unit)
        if unit == "bytes":
            self._bytes[key] = (done, total)
            self._show_total()

    def stop(self, *, is_complete: bool) -> None:
        """Take the bars away; say in one line what came, if all of it did.

        One file that came at once is not worth a line: the answer names it.
        """
        self._progress.stop()
        received = sum(done for done, _ in self._bytes.values())
        seconds = max(0.01, time.monotonic() - self._started)
        is_news = len(self._bytes) > 1 or seconds > SUMMARY_SECONDS_MIN
        if is_complete and received and is_news:
            words = (
                f"{count(len(self._bytes), 'file')}, {size(received)} in "
                f"{duration(seconds)} ({size(int(received / seconds))}/s)"
            )
            self._console.print(Text(words))

    def _show_total(self) -> None:
        """Move the bar of all files together, last, once there are several."""
        if len(self._bytes) < 2:
            return
        finished = sum(done == total for done, total in self._bytes.values())
        label = f"{finished} of {count(len(self._bytes), 'file')}"
        done = sum(done for done, _ in self._bytes.values())
        total = sum(total or done for done, total in self._bytes.values())
        if self._total is None:
            self._total = self._progress.add_task(label, total=total, unit="bytes")
        self._progress.update(
            self._total, description=label, completed=done, total=total
        )

    def _make_room(self) -> None:
        if len(self._bars) < BARS_MAX:
            return
        finished = {task.id for task in self._progress.tasks if task.finished}
        for key, bar in list(self._bars.items()):
            if bar in finished:
                self._progress.remove_task(bar)
                del self._bars[key]
                return


def _columns(terminal: int) -> list[ProgressColumn]:
    """Return the columns that a terminal of so many characters has room for."""
    name = TextColumn(
        "{task.description}",
        markup=False,
        table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
    )
    if terminal < _BAR_COLUMNS_MIN:
        return [name, AmountColumn(is_narrow=True)]
    columns: list[ProgressColumn] = [name, BarColumn(bar_width=terminal // 8)]
    columns += [AmountColumn(is_narrow=False), SpeedColumn()]
    if terminal >= _REMAINING_COLUMNS_MIN:
        columns.append(TimeRemainingColumn(compact=True))
    return columns
