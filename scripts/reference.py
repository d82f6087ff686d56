"""Build the API reference from docstrings, with pdoc: scripts/docs [FOLDER].

The reference is what other programs may rely on: all public names of the two libraries,
and of the node what `docs/library.md` uses. Nothing comes from the network.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import transfer

MODULES = (
    "dht",
    "transfer",
    "node.service",
    "node.commands",
    "node.results",
    "node.settings",
    "node.errors",
)


def build(folder: Path) -> None:
    """Write one page for each module, and an index, into `folder`."""
    import pdoc
    import pdoc.render

    # Names of `transfer` are imported on first use; pdoc shows only what is there.
    for name in transfer.__all__:
        setattr(transfer, name, getattr(transfer, name))
    pdoc.render.configure(docformat="markdown", search=False)
    with warnings.catch_warnings():
        # Types that only a type checker imports are shown as they are written.
        warnings.filterwarnings("ignore", "(Error parsing|Failed to run)")
        warnings.filterwarnings("error", "Found .* but it does not resolve")
        pdoc.pdoc(*MODULES, output_directory=folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/docs", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/reference"))
    folder = parser.parse_args().folder
    build(folder)
    print(f"{len(MODULES)} pages; open {folder / 'index.html'}", file=sys.stderr)


if __name__ == "__main__":
    main()
