"""What the command line loads before it answers: nothing that takes its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {
    "aiohttp", "asyncio", "cryptography", "dht", "importlib.metadata", "msgspec",
    "platformdirs", "rich", "ssl", "tomllib", "transfer", "uvloop",
}  # fmt: skip
DIGEST = "sha256:" + "0" * 64

CALL = """
import sys
sys.path.insert(0, {root!r})
sys.argv = ["caravan", *{arguments!r}]
before = set(sys.modules)
from node.cli.main import main
code = main()
print(code, *sorted(set(sys.modules) - before))
"""


def loaded_by(home: Path, *arguments: str) -> set[str]:
    """Return the modules that a command loads, where no node is running."""
    ended = subprocess.run(
        [sys.executable, "-c", CALL.format(root=str(ROOT), arguments=arguments)],
        env={"CARAVAN_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return set(ended.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["peers"], ["list"], ["leave"], ["lookup", DIGEST], ["fetch", DIGEST],
     ["share", "f"], ["updates"], ["broadcast", "n"], ["follow", "p/n"]],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_a_command_that_asks_the_node_loads_nothing_heavy(tmp_path, arguments):
    loaded = loaded_by(tmp_path, *arguments)
    assert "click" in loaded
    assert not loaded & HEAVY


def test_the_version_loads_not_even_click(tmp_path):
    assert loaded_by(tmp_path, "--version") == {
        "node", "node.cli", "node.cli.main", "node.version"
    }  # fmt: skip


def test_help_loads_nothing_heavy(tmp_path):
    assert not loaded_by(tmp_path, "--help") & HEAVY
