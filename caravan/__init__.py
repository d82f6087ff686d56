"""Caravan: a peer-to-peer network for software packages.

`python -m caravan` is the command line. The libraries are the packages `dht`,
`transfer` and `node`; `from caravan import dht` gives the same modules, for programs
that keep all that belongs to Caravan under one name (see
docs/decisions/0016-import-names.md).
"""

from importlib import import_module
from types import ModuleType

_LAYERS = ("dht", "transfer", "node")


def __getattr__(name: str) -> ModuleType:
    """Load a layer when it is asked for: the command line needs none of them."""
    if name in _LAYERS:
        return import_module(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
