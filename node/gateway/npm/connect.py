"""The lines that point npm at this node."""

from __future__ import annotations

from pathlib import Path

from node.gateway.connecting import InTheWay, Recipe
from node.gateway.npm.configured import npm_options, user_file

_IN_THE_WAY = ("registry", "omit-lockfile-registry-resolved")


def npm(home: Path, base: str) -> Recipe:
    """Return how npm is pointed at the gateway at `base`."""
    return Recipe(
        tool="npm",
        home=home,
        file=user_file(),
        lines=f"registry={base}/npm/\nomit-lockfile-registry-resolved=true",
        if_down=(
            "npm fails after about a minute of trying; `caravan connect npm --undo`."
        ),
        inspect=_in_npmrc,
    )


def _in_npmrc(text: str) -> InTheWay:
    found = npm_options(text)
    ours = [one for one in found if one.name in _IN_THE_WAY and not one.section]
    before = [one.value for one in ours if one.name == "registry"]
    lines = [number for one in ours for number in one.lines]
    refusal = ""
    if any(one.section for one in found):
        # npm reads what follows a header as part of that section.
        refusal = "it has sections, below which npm does not look for its registry"
    return InTheWay(lines, before[-1] if before else "", refusal)
