"""The programs in the documents and in docstrings run as they stand there."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture_rules import LAYERS, ROOT, sources

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def programs(path: Path) -> list[str]:
    """Return the Python programs of a page."""
    return PROGRAM.findall(path.read_text("utf-8"))


CASES = [
    pytest.param(program, id=f"{path.name}-{number}")
    for path in PAGES
    for number, program in enumerate(programs(path), 1)
]


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would, with an empty folder as its argument."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("program", CASES)
def test_a_program_of_a_page_runs(program, tmp_path):
    """It ends without an error or a warning, and prints something."""
    done = run(program, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert done.stderr == ""
    copies = list(tmp_path.glob("copy*"))
    for copy in copies:
        assert copy.read_bytes() == (tmp_path / "hello.txt").read_bytes()


def test_each_library_has_a_program():
    """The page on libraries has one program for each of the three packages."""
    imported = {
        layer
        for program in programs(ROOT / "docs/library.md")
        for layer in LAYERS
        if re.search(rf"^from {layer}\b", program, re.MULTILINE)
    }
    assert imported == set(LAYERS)


def test_a_program_that_fails_is_seen(tmp_path):
    assert run("raise SystemExit(1)", tmp_path).returncode == 1


def documented() -> list[str]:
    """Return the modules with examples in their docstrings."""
    found = []
    for source in sources(*LAYERS):
        texts = [
            ast.get_docstring(node) or ""
            for node in ast.walk(source.tree)
            if isinstance(
                node,
                ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
            )
        ]
        if any(">>> " in text for text in texts):
            found.append(source.module)
    return found


@pytest.mark.parametrize("module", documented())
def test_the_examples_of_docstrings_are_right(module):
    """Examples after `>>>` give what stands below them."""
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0
