"""No way around the clock and the randomness that a node is given."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "dht"
FILES = sorted(path for path in FOLDER.glob("*.py") if path.name != "clock.py")
HIDDEN = {"time", "random", "os", "secrets", "uuid", "datetime", "tempfile"}
ALLOWED = {("random", "Random")}  # a type and a seeded generator, no hidden state


def hidden_sources(text: str) -> set[str]:
    """Return what a module reads of the system's clock or entropy, by any name."""
    nodes = list(ast.walk(ast.parse(text)))
    modules = {
        alias.asname or alias.name: alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    taken = {
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    used = {
        (modules.get(node.value.id), node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    found = {each for each in taken | used if each[0] in HIDDEN}
    return {f"{module}.{name}" for module, name in found - ALLOWED}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_only_the_clock_module_asks_the_system(path: Path) -> None:
    """Under whatever name it is imported."""
    assert hidden_sources(path.read_text()) == set()


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.time()",
        "import time as clock\nnow = clock.monotonic",
        "from time import monotonic",
        "import random\nrandom.shuffle([])",
        "from random import choice as pick",
        "import os\nos.urandom(8)",
        "from datetime import datetime",
        "def f():\n    import secrets\n    return secrets.token_bytes(8)",
    ],
)
def test_what_is_forbidden_is_found(text: str) -> None:
    """The test above can fail."""
    assert hidden_sources(text)


def test_a_seeded_generator_is_no_hidden_source() -> None:
    """It is what a node is given."""
    assert not hidden_sources("import random\nrng = random.Random(1)\nrng.random()")
