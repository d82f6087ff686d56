"""How `caravan list --tree` draws packages and what they need.

Packages may need each other in a circle, and many may need the same one: what was
drawn above is named and not drawn again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.cli.text import say, short_digest, size

if TYPE_CHECKING:
    from node.results import ListResult

_BRANCH, _LAST, _BAR, _GAP = "├── ", "└── ", "│   ", "    "


class _Tree:
    def __init__(self, held: ListResult) -> None:
        self._artifacts = {one.digest: one for one in held.artifacts}
        self._packages = {one.digest: one for one in held.packages}
        self._drawn: set[str] = set()

    def draw(self) -> None:
        """Draw what nothing needs, then circles that nothing else leads to."""
        needed = {
            digest for one in self._packages.values() for digest in one.dependencies
        }
        by_name = sorted(
            self._packages, key=lambda digest: self._label(digest).casefold()
        )
        for digest in sorted(by_name, key=lambda digest: digest in needed):
            if digest not in self._drawn:
                say(self._label(digest))
                self._draw_below(digest, "")
        inside = self._drawn | needed
        inside |= {a for one in self._packages.values() for a in one.artifacts}
        for digest in self._artifacts:
            if digest not in inside:
                say(self._label(digest))

    def _draw_below(self, digest: str, indent: str) -> None:
        # As deep as packages need each other, which may be deeper than Python recurses.
        waiting = [(digest, indent, "")]
        while waiting:
            digest, indent, line = waiting.pop()
            again = digest in self._drawn and digest in self._packages
            if line:
                say(line + self._label(digest) + (" (see above)" if again else ""))
            if again:
                continue
            self._drawn.add(digest)
            package = self._packages.get(digest)
            if package is None:
                continue
            below = [*package.artifacts, *package.dependencies]
            rows = [(one, indent + _BAR, indent + _BRANCH) for one in below[:-1]] + [
                (one, indent + _GAP, indent + _LAST) for one in below[-1:]
            ]
            waiting += reversed(rows)

    def _label(self, digest: str) -> str:
        if package := self._packages.get(digest):
            return f"{package.name} {package.version}"
        artifact = self._artifacts.get(digest)
        if artifact is None:
            return f"{short_digest(digest)} (not held)"
        return f"{artifact.file or short_digest(digest)} ({size(artifact.size)})"


def draw_tree(held: ListResult) -> None:
    """Print the tree of what `list` answers."""
    _Tree(held).draw()
