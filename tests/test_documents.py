"""The documents: links, files, commands, options and settings in them exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from node.cli.man import help_context
from node.cli.run import caravan
from node.errors import UsageError
from node.settings.load import check_variables
from node.settings.table import SETTINGS
from tests.architecture_rules import NODE_WINGS, SHARED_FOLDERS, TRANSFER_WINGS
from tests.test_architecture import DOORS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
FILE = re.compile(r"`((?:dht|transfer|node|tests|scripts|docs)/[a-z0-9_./-]*)`")
IN_BLOCK = re.compile(
    r"^(?:\$ |sudo |[A-Z_]+=\S+ )*caravan ((?:.*\\\n)*.*)$", re.MULTILINE
)
# Not the purposes of signatures, like `caravan transfer seeder 1`.
IN_TEXT = re.compile(r"(?<!`)`caravan (?![a-z ]+ [0-9]`)([^`]+)`(?!`)")
VARIABLE = re.compile(r"\bCARAVAN_[A-Z_]+\b")
TOML_BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SAMPLE_VARIABLES = {"CARAVAN_NAME"}


def broken_links(text: str, folder: Path) -> list[str]:
    """Return the relative links in `text` that lead nowhere from `folder`."""
    links = [link for link in LINK.findall(text) if "://" not in link]
    return [link for link in links if not (folder / link).exists()]


def missing_files(text: str) -> list[str]:
    """Return the files and folders of the checkout that `text` names and lacks."""
    return [name for name in FILE.findall(text) if not (ROOT / name).exists()]


def unknown_words(text: str) -> list[str]:
    """Return the commands and options of `caravan` in `text` that do not exist."""
    unknown = []
    for line in [*IN_BLOCK.findall(text), *IN_TEXT.findall(text)]:
        # What stands behind "--" or a bar is for another program.
        own = re.split(r" -- | \| | > | # |  +#", line.replace("\\\n", " "))[0]
        unknown += unknown_in(own.split())
    return unknown


def unknown_in(words: list[str]) -> list[str]:
    """Return the words of one command line that name no command or option."""
    command, context = caravan, help_context(caravan, "caravan")
    unknown = []
    for word in words:
        if word.startswith("-"):
            option = re.split(r"[=,.;)]", word)[0]
            known = [one for each in command.get_params(context) for one in each.opts]
            if re.fullmatch(r"-[a-z]|--[a-z-]+", option) and option not in known:
                unknown.append(option)
        elif isinstance(command, click.Group) and re.fullmatch("[a-z]+", word):
            found = command.get_command(context, word)
            if found is None:
                return [*unknown, word]
            command, context = found, help_context(found, word, context)
    return unknown


def unknown_settings(text: str) -> list[str]:
    """Return the variables and the keys of config.toml in `text` that do not exist."""
    variables = set(VARIABLE.findall(text)) - SAMPLE_VARIABLES
    unknown = []
    for name in sorted(variables):
        try:
            check_variables({name: "x"})
        except UsageError:
            unknown.append(name)
    for block in TOML_BLOCK.findall(text):
        unknown += sorted(tomllib.loads(block).keys() - SETTINGS.keys())
    return unknown


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert broken_links(path.read_text("utf-8"), path.parent) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_exist(path):
    assert missing_files(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_and_options_exist(path):
    assert unknown_words(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_settings_and_variables_exist(path):
    assert unknown_settings(path.read_text("utf-8")) == []


ARCHITECTURE = (ROOT / "docs/architecture.md").read_text("utf-8")


def test_the_architecture_names_every_wing():
    wings = [f"transfer/{name}/" for name in TRANSFER_WINGS]
    wings += [f"node/{name}/" for name in (*NODE_WINGS, *SHARED_FOLDERS)]
    assert [wing for wing in wings if f"`{wing}`" not in ARCHITECTURE] == []


@pytest.mark.parametrize("name", sorted(DOORS))
def test_the_architecture_says_where_a_dependency_enters(name):
    (line,) = re.findall(rf"^\| [^|]*`{name}`.*$", ARCHITECTURE, re.MULTILINE)
    assert [place for place in DOORS[name] if place not in line] == []


def test_a_broken_link_is_seen():
    assert broken_links("see [it](nowhere.md) and [that](README.md)", ROOT) == [
        "nowhere.md"
    ]


def test_a_missing_file_is_seen():
    text = "`node/errors.py`, `dht/`, `dht/nowhere.py` and `tests/nowhere/`"
    assert missing_files(text) == ["dht/nowhere.py", "tests/nowhere/"]


def test_an_unknown_command_or_option_is_seen():
    text = (
        "$ caravan frobnicate\n$ caravan status\ncaravan key conquer\n"
        "CARAVAN_LAN=no caravan join \\\n    --detached x\n"
        "caravan run -- pip install --user x\ncaravan config --json | jq --raw .\n"
        "`caravan fetch DIGEST --nowhere` and `caravan join\n--detach`"
    )
    assert unknown_words(text) == ["frobnicate", "conquer", "--detached", "--nowhere"]


def test_an_unknown_setting_is_seen():
    text = "CARAVAN_LAN CARAVAN_LEN\n```toml\nlan = true\nlen = 3\n```\n"
    assert unknown_settings(text) == ["CARAVAN_LEN", "len"]


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
