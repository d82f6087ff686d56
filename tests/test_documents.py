"""The documents: links lead somewhere, files and commands that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from node.cli.run import caravan

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`((?:dht|transfer|node|tests|scripts|docs)/[a-z0-9_./-]*)`")
COMMAND = re.compile(r"^(?:\$ )?caravan ([a-z]+)\b", re.MULTILINE)


def broken_links(text: str, folder: Path) -> list[str]:
    """Return the relative links in `text` that lead nowhere from `folder`."""
    links = [link for link in LINK.findall(text) if "://" not in link]
    return [link for link in links if not (folder / link).exists()]


def missing_files(text: str) -> list[str]:
    """Return the files and folders of the checkout that `text` names and lacks."""
    return [name for name in FILE.findall(text) if not (ROOT / name).exists()]


def unknown_commands(text: str) -> list[str]:
    """Return the commands of `caravan` that `text` shows and that do not exist."""
    known = caravan.list_commands(
        caravan.make_context("caravan", ["--help"], resilient_parsing=True)
    )
    return [name for name in COMMAND.findall(text) if name not in known]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert broken_links(path.read_text("utf-8"), path.parent) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_exist(path):
    assert missing_files(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_exist(path):
    assert unknown_commands(path.read_text("utf-8")) == []


def test_a_broken_link_is_seen():
    assert broken_links("see [it](nowhere.md) and [that](README.md)", ROOT) == [
        "nowhere.md"
    ]


def test_a_missing_file_is_seen():
    text = "`node/errors.py`, `dht/`, `dht/nowhere.py` and `tests/nowhere/`"
    assert missing_files(text) == ["dht/nowhere.py", "tests/nowhere/"]


def test_an_unknown_command_is_seen():
    text = "$ caravan frobnicate\n$ caravan status\ncaravan conquer\n"
    assert unknown_commands(text) == ["frobnicate", "conquer"]


DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))


def test_decisions_are_numbered_one_after_the_other():
    numbers = [int(path.name[:4]) for path in DECISIONS]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_says_why(path):
    text = path.read_text("utf-8")
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert "\nStatus: " in text
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == ["Context", "Options", "Choice"]
