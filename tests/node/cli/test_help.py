"""Help, completion, settings, and streams that cannot be written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from node.cli.man import help_context
from node.cli.run import caravan as group
from node.settings.table import commented_config, settings_page
from tests.node.cli.terminals import ROOT, caravan, environment


async def test_help_explains_a_command_as_its_option_does(tmp_path):
    by_option = await caravan(tmp_path, "key", "new", "--help")
    by_command = await caravan(tmp_path, "help", "key", "new")
    assert by_command.code == 0
    assert by_command.out == by_option.out
    assert "Commands" in (await caravan(tmp_path, "help")).out or by_command.out
    wrong = await caravan(tmp_path, "help", "frobnicate")
    assert wrong.code == 2
    assert "frobnicate" in wrong.err


@pytest.mark.parametrize("arguments", [[], ["key"], ["network"]])
async def test_a_group_alone_prints_its_help(tmp_path, arguments):
    ended = await caravan(tmp_path, *arguments)
    assert ended.code == 0
    assert ended.out.startswith("Usage: caravan")


async def test_the_short_option_prints_the_version(tmp_path):
    assert (await caravan(tmp_path, "-V")).out.startswith("caravan ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_prints_a_script(tmp_path, shell):
    script = (await caravan(tmp_path, "completion", shell)).out
    assert "_CARAVAN_COMPLETE" in script


def test_the_bash_script_completes_commands(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "node.cli.main"],
        env={
            **environment(tmp_path),
            "_CARAVAN_COMPLETE": "bash_complete",
            "COMP_WORDS": "caravan fol",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "plain,follow" in done.stdout


async def test_config_lists_settings_with_their_sources(tmp_path):
    (tmp_path / "config.toml").write_text("lan = false\n")
    document = (await caravan(tmp_path, "config", "--json")).document
    rows = {one["name"]: one for one in document["settings"]}
    assert rows["lan"]["value"] is False
    assert rows["lan"]["from"].endswith("config.toml: lan")
    assert rows["web"]["from"] == "default"
    assert "lan\tfalse\t" in (await caravan(tmp_path, "config")).out


async def test_config_init_writes_comments_only_and_never_overwrites(tmp_path):
    assert (await caravan(tmp_path, "config", "init")).code == 0
    path = tmp_path / "config.toml"
    assert path.read_text() == commented_config()
    assert path.stat().st_mode & 0o777 == 0o600
    assert all(line[:1] in ("#", "") for line in path.read_text().splitlines())
    assert (await caravan(tmp_path, "config")).code == 0
    again = await caravan(tmp_path, "config", "init")
    assert again.code == 1
    assert "exists already" in again.err


def test_the_page_of_settings_is_made_from_the_table():
    page = (ROOT / "docs/settings.md").read_text("utf-8")
    assert page == settings_page(), "write it again: node.settings.table.settings_page"


def in_shell(home: Path, line: str) -> subprocess.CompletedProcess[str]:
    command = f"{sys.executable} -m node.cli.main"
    return subprocess.run(
        ["bash", "-c", line.replace("caravan", command)],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("line", ["caravan help > /dev/full", "caravan help >&-"])
def test_a_stdout_that_cannot_be_written_is_one_sentence(tmp_path, line):
    ended = in_shell(tmp_path, line)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("caravan: ")


def test_a_pipe_that_is_closed_ends_the_command_in_silence(tmp_path):
    ended = in_shell(tmp_path, "caravan help | true; echo ${PIPESTATUS[0]}")
    assert ended.stdout.strip() in ("0", "141")
    assert ended.stderr == ""


def helps():
    """Yield (command path, its help on a terminal of 80 columns)."""
    waiting = [(group, help_context(group, "caravan"))]
    while waiting:
        command, context = waiting.pop()
        context.terminal_width = 80
        yield context.command_path, command.get_help(context)
        for name in getattr(command, "list_commands", lambda _: ())(context):
            inner = command.get_command(context, name)
            waiting.append((inner, help_context(inner, name, context)))


@pytest.mark.parametrize(("path", "text"), list(helps()))
def test_every_help_fits_a_terminal(path, text):
    """No line is longer than 80 columns, and no sentence in a list is cut."""
    assert [line for line in text.splitlines() if len(line) > 80] == []
    cut = re.findall(r"^  (?!caravan )[a-z-]+  .*\.\.\.$", text, re.MULTILINE)
    assert cut == []
