"""The package ecosystems, by the names of their upstreams."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import NodeError
from node.gateway.ecosystem import Ecosystem
from node.settings import ECOSYSTEMS

if TYPE_CHECKING:
    from node.gateway.connecting import Recipe


@cache
def ecosystems() -> dict[str, Ecosystem]:
    """Return every ecosystem by the name of its upstream."""
    found: dict[str, Ecosystem] = {}
    for name, folder in ECOSYSTEMS.items():
        module = importlib.import_module(f"node.gateway.{folder}.ecosystem")
        found[name] = module.ECOSYSTEM
    return found


def ecosystem_of(upstream: str) -> Ecosystem:
    """Return the ecosystem of an upstream, which may have a label behind a hyphen."""
    return ecosystems()[upstream.partition("-")[0]]


def tools() -> dict[str, Ecosystem]:
    """Return the ecosystem of each tool that `connect` knows."""
    return {tool: one for one in ecosystems().values() for tool in one.tools}


def recipe(tool: str, home: Path, web: str) -> Recipe:
    """Return how `tool` is pointed at the node whose door is at `web`."""
    return recipe_at(tool, home, f"http://{web}")


def recipe_at(tool: str, home: Path, base: str) -> Recipe:
    """Return how `tool` is pointed at the gateway at `base`, which ends in no slash."""
    return tools()[tool].recipe(tool, home, base)


def fallback_at(tool: str, home: Path, base: str) -> Recipe:
    """Return lines with which `tool` goes on while nothing answers at `base`.

    NodeError where it cannot.
    """
    made = tools()[tool].fallback(tool, home, base)
    if made is None:
        raise NodeError(
            f"{tool} cannot go on without the node, whatever its lines are; `caravan "
            "run -- COMMAND` can, and changes no file"
        )
    return made


def environment_at(home: Path, base: str) -> dict[str, str]:
    """Return the variables that point every tool that reads any at a gateway."""
    found: dict[str, str] = {}
    for tool in tools():
        found |= recipe_at(tool, home, base).environment
    return found
