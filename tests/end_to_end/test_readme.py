"""The README's commands run as they stand there, and print what it shows.

The README tells one story on two machines; here they are two homes on loopback. Each
block of commands stands below a comment that says on which machine it runs, or why it
is shown only. What differs from run to run (digests, keys, addresses, times, paths) is
compared by its kind, and each sample value in the README stands for the real one in all
later commands.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.architecture_rules import ROOT
from tests.end_to_end.packages import wheel, wheel_name

README = ROOT / "README.md"
BLOCK = re.compile(r"(?:<!-- (.*?) -->\n)?```(sh|console)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n?((?:(?!\$ ).*\n?)*)", re.MULTILINE)
SECONDS_MAX = 60
COLUMNS = 200

# Kinds of value, the more specific first.
KINDS = {
    "digest": r"\b[0-9a-f]{64}\b",
    "short digest": r"\b[0-9a-f]{12,16}\b",
    "publisher": r"\b[a-z2-7]{52}\b",
    "address": r"\b\d{1,3}(?:\.\d{1,3}){3}:\d+",
    "path": r"(?<![\w:/])/[\w./-]+",
    "number": r"\b\d+(?:\.\d+)?\b",
}
VALUE = re.compile("|".join(f"({pattern})" for pattern in KINDS.values()))
STANDS_FOR_REAL = ("digest", "publisher")


@dataclass(frozen=True)
class Block:
    """Commands of one machine, each with the output that the README shows."""

    machine: str
    commands: list[tuple[str, str]]


def blocks(text: str) -> list[Block]:
    """Return the blocks that are to be run; ValueError for one that says nothing."""
    found = []
    for label, kind, content in BLOCK.findall(text):
        if label.startswith("on: "):
            commands = [
                (command, said.strip("\n"))
                for command, said in COMMAND.findall(content)
            ]
            found.append(Block(label.removeprefix("on: "), commands))
        elif not label.startswith("shown only: "):
            raise ValueError(
                f"no comment says where this {kind} block runs:\n{content}"
            )
    return found


def shape(line: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a line with its values replaced by their kinds, and the values."""
    values: list[tuple[str, str]] = []

    def kind_of(match: re.Match[str]) -> str:
        kind = list(KINDS)[(match.lastindex or 1) - 1]
        values.append((kind, match[0]))
        return f"<{kind}>"

    return " ".join(VALUE.sub(kind_of, line).split()), values


def compare(shown: str, printed: str, names: dict[str, str]) -> None:
    """Check output against the README, and learn what its samples stand for."""
    expected, actual = (
        [line for line in text.splitlines() if line] for text in (shown, printed)
    )
    for number, line in enumerate(expected):
        if line == "...":
            following = expected[number + 1 :]
            wanted = shape(following[0])[0] if following else None
            while actual and shape(actual[0])[0] != wanted:
                actual.pop(0)
            continue
        assert actual, f"the README also shows: {line}"
        real = actual.pop(0)
        (wanted, samples), (got, values) = shape(line), shape(real)
        assert got == wanted, f"README: {line}\nprinted: {real}"
        for (kind, sample), (_, value) in zip(samples, values, strict=True):
            if kind in STANDS_FOR_REAL:
                assert names.setdefault(sample, value) == value
    assert actual == []


@dataclass
class Machines:
    """Homes of nodes, in which commands run in a terminal as a user would run them."""

    folder: Path
    names: dict[str, str] = field(default_factory=dict)

    def run(self, machine: str, command: str) -> str:
        """Run a command with real values in the place of samples; return its output."""
        for sample, value in self.names.items():
            command = command.replace(sample, value)
        home = self.folder / machine
        home.mkdir(exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CARAVAN")}
        leading, following = pty.openpty()
        try:
            with os.fdopen(leading, "rb", buffering=0) as terminal:
                done = subprocess.run(
                    ["/bin/sh", "-c", command],
                    cwd=home,
                    env={**kept, **self._environment(home)},
                    stdin=subprocess.DEVNULL,
                    stdout=following,
                    stderr=subprocess.PIPE,
                    timeout=SECONDS_MAX,
                    check=False,
                )
                os.set_blocking(leading, False)
                said = (terminal.read() or b"").decode().replace("\r\n", "\n")
        finally:
            os.close(following)
        errors = done.stderr.decode()
        assert done.returncode == 0, f"{command}\n{said}{errors}"
        return said + errors

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": str(COLUMNS),
            "TERM": "xterm",
            "NO_COLOR": "1",
            "CARAVAN_HOME": str(home / "data"),
            "CARAVAN_LISTEN": "127.0.0.1:0",
            "CARAVAN_WEB": "127.0.0.1:0",
            "CARAVAN_LAN": "off",
            "CARAVAN_PORT_MAPPING": "off",
            **{
                f"CARAVAN_UPSTREAM_{name}": "none"
                for name in ("PYPI", "NPM", "CARGO", "OPAM")
            },
        }


@pytest.fixture
def machines(tmp_path):
    """Two machines; Alice has the files that the README names."""
    found = Machines(tmp_path)
    alice = tmp_path / "alice"
    alice.mkdir()
    (alice / "dataset.bin").write_bytes(b"caravan " * 380_000)
    for name, version in (("toolkit", "1.0"), ("toolkit", "1.1"), ("app", "2.0")):
        (alice / wheel_name(name, version)).write_bytes(wheel(name, version, version))
    yield found
    for home in tmp_path.iterdir():
        if (home / "data/node.json").exists():
            found.run(home.name, "caravan leave")


@pytest.mark.timeout(240)
def test_the_story_of_the_readme_runs(machines):
    """Every command ends well, and prints lines of the shape that is shown."""
    for block in blocks(README.read_text("utf-8")):
        for command, shown in block.commands:
            printed = machines.run(block.machine, command)
            compare(shown, printed, machines.names)
            if command.startswith("caravan join --detach"):
                (address,) = re.findall(r"caravan join (\S+:\d+)", printed)
                machines.names["192.0.2.7:4747"] = address
    assert (machines.folder / "bob/copy.bin").read_bytes() == (
        machines.folder / "alice/dataset.bin"
    ).read_bytes()


def test_a_block_must_say_where_it_runs():
    with pytest.raises(ValueError, match="caravan share"):
        blocks("```console\n$ caravan share x\n```\n")


def test_blocks_are_read_with_what_they_show():
    text = "<!-- on: bob -->\n```console\n$ a \\\n    b\nx\n\n$ c\n```\n"
    assert blocks(text) == [Block("bob", [("a \\\n    b", "x"), ("c", "")])]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("1 provider", "2 peers"),
        ("one\ntwo", "one"),
        ("one", "one\ntwo"),
        ("one\n...\nthree", "one\ntwo"),
    ],
)
def test_other_output_is_seen(shown, printed):
    with pytest.raises(AssertionError):
        compare(shown, printed, {})


def test_samples_stand_for_what_was_printed():
    names: dict[str, str] = {}
    compare(f"sha256:{'a' * 64}  1.5 MiB", f"sha256:{'b' * 64}  2.0 MiB", names)
    assert names == {"a" * 64: "b" * 64}
    with pytest.raises(AssertionError):
        compare(f"sha256:{'a' * 64}", f"sha256:{'c' * 64}", names)
