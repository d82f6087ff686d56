"""The lines that point opam at this node."""

from __future__ import annotations

import os
from pathlib import Path

from node.gateway.connecting import InTheWay, Recipe
from node.gateway.opam.opam_file import field_span

OPAM_NOTE = (
    "For what publishers that you follow have published: `opam repository add "
    "published {base}/opam/published --rank=-1 --all-switches`."
)


def opam(home: Path, base: str) -> Recipe:
    """Return how opam is pointed at the gateway at `base`."""
    root = Path(os.environ.get("OPAMROOT") or Path.home() / ".opam")
    return Recipe(
        tool="opam",
        home=home,
        file=root / "config",
        lines=f'archive-mirrors: ["{base}/opam"]',
        if_down="opam goes to the origin at once",
        goes_on=True,
        notes=[OPAM_NOTE.format(base=base)],
        inspect=_in_config,
    )


def _in_config(text: str) -> InTheWay:
    try:
        span = field_span(text, "archive-mirrors")
    except ValueError as error:
        return InTheWay(refusal=str(error))
    if span is None:
        return InTheWay()
    first = text.count("\n", 0, span[0])
    last = text.count("\n", 0, span[1])
    return InTheWay(range(first, last + 1))
