"""`caravan log`: the newest lines of the node's log, and those that come."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from node.cli.answer import Fields
from node.cli.group import CliCommand
from node.cli.numbers import WholeNumber
from node.cli.session import Session
from node.errors import NodeError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG_FILE = "node.log"
LOOK_SECONDS = 0.25


@click.command(
    cls=CliCommand, examples=["caravan log", "caravan log -n 200", "caravan log -f"]
)
@click.option(
    "-n",
    "--lines",
    type=WholeNumber(0, 1_000_000),
    metavar="N",
    default=50,
    show_default=True,
    help="How many of the newest lines to print.",
)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come.")
@click.pass_obj
def log(session: Session, lines: int, follow: bool) -> None:
    """Print the newest lines of the node's log.

    The log is node.log in the node's folder. `caravan join --log-level` says how much
    is written to it. Also works while no node is running.
    """
    path = session.home / LOG_FILE
    if not path.exists() and not follow:
        raise NodeError(f"there is no log yet: {path} does not exist")
    if follow:
        for line in _follow(path, lines):
            _print(session, line)
        return
    newest = _last(_read_older(path) + _read(path), lines)
    result = Fields(file=str(path), lines=newest)
    session.answer(result, lambda _: [print(line) for line in newest])


def _print(session: Session, line: str) -> None:
    session.answered = True
    print(json.dumps({"line": line}) if session.json else line, flush=True)


def _last(lines: list[str], count: int) -> list[str]:
    return lines[-count:] if count else []


def _read_older(path: Path) -> list[str]:
    return _read(path.with_name(f"{path.name}.1"))


def _read(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NodeError(f"cannot read {path}: {error.strerror}") from error


def _follow(path: Path, count: int) -> Iterator[str]:
    """Yield the newest lines, then those that come, also after the file was turned."""
    file = _opened(path)
    # One descriptor for what is there and what comes: nothing is missed in between.
    yield from _last(_read_older(path) + _rest(file), count)
    while True:
        time.sleep(LOOK_SECONDS)
        yield from _rest(file)
        fresh = _opened(path)
        if fresh is None or (file is not None and _is_same(file, fresh)):
            if fresh is not None:
                fresh.close()
            continue
        yield from _rest(file)
        if file is not None:
            file.close()
        file = fresh


def _opened(path: Path) -> TextIO | None:
    try:
        return path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _rest(file: TextIO | None) -> list[str]:
    return [] if file is None else file.read().splitlines()


def _is_same(one: TextIO, other: TextIO) -> bool:
    return os.path.sameopenfile(one.fileno(), other.fileno())
