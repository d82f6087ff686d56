"""The layer stands alone, reads no clock and draws no entropy by itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "dht").glob("*.py"))
THIRD_PARTIES = {
    "kademlia": {"routing.py"},
    "asyncio_dgram": {"transport.py"},
    "msgpack": {"packing.py"},
}
FORBIDDEN_CALLS = {
    "time": {"time", "monotonic", "perf_counter", "time_ns", "monotonic_ns"},
    "random": None,  # every function of the module, which share one hidden state
    "os": {"urandom", "getrandom"},
    "secrets": None,
    "uuid": None,
}


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def calls(tree: ast.AST) -> set[tuple[str, str]]:
    """Return module.function pairs that are called."""
    return {
        (node.func.value.id, node.func.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_dht_stands_alone(path: Path) -> None:
    """It imports no other layer, and each library in one place."""
    found = imported(ast.parse(path.read_text()))
    assert found.isdisjoint({"node", "transfer", "tests"})
    for library, files in THIRD_PARTIES.items():
        assert library not in found or path.name in files


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_time_and_chance_are_arguments(path: Path) -> None:
    """Only `dht/clock.py` asks the system for either."""
    if path.name == "clock.py":
        return
    for module, name in calls(ast.parse(path.read_text())):
        if module in FORBIDDEN_CALLS:
            names = FORBIDDEN_CALLS[module]
            assert names is not None
            assert name not in names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_and_functions_are_short(path: Path) -> None:
    """At most 600 lines a file and 40 a function, decorators and docstring aside."""
    text = path.read_text()
    assert text.count("\n") <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            start = node.body[0].lineno
            assert node.end_lineno - start < 40, node.name
