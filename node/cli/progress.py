"""Progress on stderr when a person looks at it; nothing otherwise.

`rich`, which draws, is loaded at the first event: a command that answers at once does
not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TextIO

from node.cli.text import is_for_people

if TYPE_CHECKING:
    from types import TracebackType

    from node.cli.bars import Bars


class ProgressView:
    """Shows progress events while it is entered."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_wanted = is_for_people(stream)
        self._bars: Bars | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop(is_complete=error is None)

    def show(self, event: dict[str, Any]) -> None:
        """Take one event: {"label", "done", "total" or None, "unit"}."""
        if not self._is_wanted:
            return
        if self._bars is None:
            from node.cli.bars import Bars

            self._bars = Bars(self._stream)
        self._bars.show(event)
