"""Numbers as options take them; an error says which were expected."""

from __future__ import annotations

import math

import click


class WholeNumber(click.ParamType[int]):
    """A whole number from `least` to `most`."""

    name = "number"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(
        self,
        value: str | int,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int:
        """Read it; raise a usage error if it is none, or out of bounds."""
        try:
            number = int(value)
        except ValueError:
            number = self._least - 1
        if not self._least <= number <= self._most:
            expected = f"a whole number from {self._least} to {self._most}"
            self.fail(f"expected {expected}, not {value!r}", param, ctx)
        return number


class Amount(click.ParamType[float]):
    """A number that is not below zero: days, say, or seconds."""

    name = "number"

    def convert(
        self,
        value: str | float,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Read it; raise a usage error if it is none, or below zero."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            self.fail(f"expected a number, 0 or more, not {value!r}", param, ctx)
        return number
