"""One run of the command line: where the node is, and how answers are printed.

Without `--json` an answer is for people: aligned columns on a terminal, columns
separated by tabs in a pipe. With it, stdout carries exactly one JSON document, also
when the command fails. Progress and words about it go to stderr.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from node.cli import client
from node.cli.answer import json_text
from node.cli.progress import ProgressView
from node.cli.text import remark
from node.settings.home import home_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


@dataclass(slots=True)
class Session:
    """What the options that every command has say, and whether it has answered."""

    json: bool = False
    home_flag: Path | None = None
    answered: bool = False
    if_interrupted: str = ""
    """What a person should know when Ctrl-C ends the command."""
    is_background: bool = False
    """Whether another process, which started this one, prints what it answers."""

    @property
    def home(self) -> Path:
        """The node's folder."""
        return home_folder(self.home_flag)

    def ask(self, command: str, **arguments: object) -> Any:
        """Have the running node do `command`, showing its progress to people.

        Returns the fields of the result that `node.results` has for the command.
        """
        with ProgressView(sys.stderr) as view:
            return client.ask(self.home, command, arguments=arguments, show=view.show)

    def answer(self, result: T, words: Callable[[T], object]) -> None:
        """Print a result: as a JSON document, or `words` about it."""
        self.answered = True
        if self.json:
            print(json_text(result), flush=True)
        else:
            words(result)

    def fail(
        self, sentence: str, exit_code: int, details: dict[str, Any] | None = None
    ) -> int:
        """Print what went wrong, with `details` in JSON only; returns the exit code."""
        if not self.is_background:
            remark(f"caravan: {sentence}")
        if self.json and not self.answered:
            self.answered = True
            document = {"error": sentence, "exit_code": exit_code}
            print(json.dumps({**(details or {}), **document}), flush=True)
        return exit_code
