"""Following arrows, whatever they join."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def reachable(
    roots: Iterable[str], following: Callable[[str], Iterable[str]]
) -> set[str]:
    """Return the roots and all that `following` leads to, however indirectly."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += following(one)
    return found
