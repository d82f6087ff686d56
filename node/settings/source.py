"""Where the value of a setting was written, and how a mistake in it is reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.errors import NodeError


@dataclass(frozen=True, slots=True)
class SettingSource:
    """A flag, a variable, or a key of a file; `name` is how people call it."""

    name: str
    error: type[NodeError]
    """The error that a mistake in the value is."""
    is_text: bool = True
    """Whether every value is text there; a TOML file has types of its own."""
    folder: Path = Path()
    """Where relative paths start."""

    def mistake(self, problem: str) -> NodeError:
        """Return the error for a wrong value; `problem` says what was expected."""
        return self.error(f"{self.name}: {problem}")


Reader = Callable[[Any, SettingSource], Any]
"""Returns the value of a setting as the node uses it, or raises a mistake."""
