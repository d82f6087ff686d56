"""What the experiments can be told, and what of it makes no sense.

Each option has a reader, which turns its text into a value or refuses it with a
sentence. What makes no sense only together with another option, a run refuses with
an `OptionError` before it begins.
"""

from __future__ import annotations

import importlib.util
import math
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class OptionError(ValueError):
    """These options do not go together; the sentence says why."""


def whole(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise ArgumentTypeError(f"{text!r} is not a whole number >= {least}.")
        return number

    return read


def share(text: str) -> float:
    """Read a share of something of which a part has to be left."""
    number = _number(text)
    if not 0 <= number < 1:
        raise ArgumentTypeError(f"{text!r} is not a share: 0 or more, less than 1.")
    return number


def positive(text: str) -> float:
    """Read a number greater than zero."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number greater than 0.")
    return number


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader that knows these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise ArgumentTypeError(f"{text!r} is not {' or '.join(choices)}.")
        return text

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


# Option, reader and help; each experiment names those it reads, with its defaults.
OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "nodes": (whole(2), "how many nodes"),
    "dead": (share, "share of nodes that died and were not noticed yet"),
    "loss": (share, "share of datagrams that are lost"),
    "lookups": (whole(1), "how many lookups"),
    "seed": (whole(0), "the seed; the same one replays the same run"),
    "seeds": (whole(1), "how many seeds, from --seed on"),
    "keys": (whole(1), "how many keys"),
    "hours": (positive, "hours of virtual time"),
    "minutes": (positive, "minutes of virtual time"),
    "session": (positive, "median session of a node, in minutes"),
    "away": (positive, "median time between two sessions, in minutes"),
    "offers": (whole(0), "1 if each node offers a key, 0 if not"),
    "liars": (share, "share of nodes that lie"),
    "mode": (one_of("colluders", "forged"), "how the liars lie"),
    "attackers": (whole(1), "how many nodes of an attacker"),
    "groups": (whole(1), "how many /24 networks the attacker has"),
}


def check_plot(path: Path, *, draws: bool) -> None:
    """Make sure that a plot can be written there, before hours are spent on it."""
    if not draws:
        raise OptionError("This experiment draws nothing: --plot has no use.")
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError("--plot needs matplotlib: pip install matplotlib.")
    if path.suffix != ".png":
        raise OptionError(f"--plot writes PNG: {str(path)!r} does not end in .png.")
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise OptionError(f"--plot cannot write {path}: {error.strerror}.") from None
    if not existed:
        path.unlink()
