"""No database call on the event loop: by what may be imported, and by what is called.

Sync functions are covered while a node runs: its database refuses the loop's thread.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.test_architecture import LAYERS, Source, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTS = {
    "transfer/store/database.py",  # the writer and the readers
    "node/model/database.py",  # migrations, before the loop serves anybody
    "node/model/mirror.py",  # in memory
}
BLOCKING = {
    "database": {"write", "read"},
    "store": {
        "add", "add_bytes", "add_group", "add_many", "add_verified", "artifacts",
        "check", "check_chunk", "commit", "export", "find", "find_many",
        "lacking_aliases", "manifest", "open_checked", "quarantine", "read",
        "read_small", "remove", "with_aliases",
    },
}  # fmt: skip
STARTS = {"node/demo/liar.py"}  # a program of the demo that serves one file


def connections(source: Source) -> list[str]:
    """Return the places outside of their files where a database is opened."""
    if source.path in CONNECTS:
        return []
    return [
        f"{source.path} opens a database"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "connect"
        and ast.unparse(node.func.value) == "sqlite3"
    ]


def waits(source: Source) -> list[str]:
    """Return the calls in coroutines that wait for the disk."""
    return [
        f"{source.path}: {function.name} calls {ast.unparse(call.func)}"
        for function in ast.walk(source.tree)
        if isinstance(function, ast.AsyncFunctionDef)
        for call in own_calls(function)
        if is_blocking(call.func)
    ]


def own_calls(function: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls that a function makes itself, not those that it defines."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Call):
            yield node
        yield from own_calls(node)


def is_blocking(called: ast.expr) -> bool:
    if not isinstance(called, ast.Attribute):
        return False
    owner = ast.unparse(called.value).rpartition(".")[2].lstrip("_")
    return called.attr in BLOCKING.get(owner, set())


def test_databases_are_opened_in_few_files():
    assert [one for source in sources(*LAYERS) for one in connections(source)] == []


def test_no_coroutine_waits_for_the_disk():
    checked = [one for one in sources("transfer", "node") if one.path not in STARTS]
    assert [one for source in checked for one in waits(source)] == []


@pytest.mark.parametrize(
    "text",
    [
        "async def f(self):\n    return self._store.find(digest)",
        "async def f():\n    with x:\n        database.write(work)",
        "async def f(node):\n    await g(node.store.read(artifact))",
    ],
)
def test_a_wait_is_seen(text):
    assert len(waits(Source.of("node/bad.py", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def f(store):\n    return store.find(digest)",
        "async def f(store):\n    return await asyncio.to_thread(store.find, digest)",
        "async def f(store):\n    await in_thread(lambda: store.read(artifact))",
        "async def f(store):\n    return await store.find_soon(digest)",
        "async def f(file):\n    file.read()",
    ],
)
def test_what_does_not_wait_is_no_breach(text):
    assert waits(Source.of("node/good.py", text)) == []


def test_a_database_elsewhere_is_seen():
    text = "import sqlite3\nsqlite3.connect(path)"
    assert connections(Source.of("node/bad.py", text)) == [
        "node/bad.py opens a database"
    ]
