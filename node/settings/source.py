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


SWITCH_WORDS = {
    "1": True, "true": True, "yes": True, "on": True,
    "0": False, "false": False, "no": False, "off": False,
}  # fmt: skip
"""How a switch is said in text: by a flag or a variable."""


def read_as_switch(value: object, source: SettingSource) -> bool | None:
    """Return true or false, as a value says it; None where it says neither."""
    if isinstance(value, bool):
        return value
    if source.is_text and isinstance(value, str):
        return SWITCH_WORDS.get(value.lower())
    return None
