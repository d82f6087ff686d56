"""The lines that point cargo at this node."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from node.gateway.connecting import InTheWay, Recipe


def cargo(home: Path, base: str) -> Recipe:
    """Return how cargo is pointed at the gateway at `base`."""
    root = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    # Where there are both, cargo reads the one without an ending.
    old = root / "config"
    return Recipe(
        tool="cargo",
        home=home,
        file=old if old.is_file() else root / "config.toml",
        lines=(
            "[source.crates-io]\n"
            'replace-with = "caravan"\n'
            "[source.caravan]\n"
            f'registry = "sparse+{base}/cargo/index/"'
        ),
        if_down="cargo fails",
        notes=["Cargo.lock names no address."],
        inspect=_in_config,
        is_toml=True,
    )


def _in_config(text: str) -> InTheWay:
    try:
        document = tomllib.loads(text.removeprefix("\ufeff"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return InTheWay(refusal=f"it is not valid TOML ({error})")
    sources = document.get("source", {})
    if not isinstance(sources, dict) or {"crates-io", "caravan"} & sources.keys():
        return InTheWay(refusal="it says already where crates come from")
    return InTheWay()
