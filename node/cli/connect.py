"""`caravan connect`: the lines that point a package manager at this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli import client
from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import say
from node.errors import NotRunningError
from node.gateway.ecosystems import recipe, tools

if TYPE_CHECKING:
    from node.cli.results import ConnectResult

DEFAULT_WEB = "127.0.0.1:4748"


@click.command(
    cls=CliCommand,
    examples=[
        "caravan connect pip",
        "caravan connect cargo --write",
        "caravan connect cargo --undo",
    ],
)
@click.argument("tool", type=click.Choice(list(tools())))
@click.option("--write", is_flag=True, help="Write the lines, and keep what is there.")
@click.option("--undo", is_flag=True, help="Remove the lines again.")
@click.pass_obj
def connect(session: Session, /, *, tool: str, write: bool, undo: bool) -> None:
    """Point a package manager at this node.

    Prints the lines for its configuration, or writes them. The tool then gets its
    files from peers that have them, and otherwise from its usual index.
    """
    from node.cli.results import ConnectResult

    if write and undo:
        raise click.UsageError("expected --write or --undo, not both")
    made = recipe(tool, session.home, _web(session))
    if write:
        made.write()
    result = ConnectResult(
        tool=tool,
        file=str(made.file),
        lines=made.shown,
        if_down=made.if_down,
        notes=made.notes,
        written=write,
        undone=made.undo() if undo else False,
    )
    session.answer(result, _undo_words if undo else _words)


def _web(session: Session) -> str:
    """Return where the node's door is, or where it will be by default."""
    try:
        return str(client.read_card(session.home)["web"])
    except NotRunningError:
        return DEFAULT_WEB


def _undo_words(result: ConnectResult) -> None:
    file = result.file
    said = "is as it was" if result.undone else "has no lines from `caravan connect`"
    say(f"{file} {said}")


def _words(result: ConnectResult) -> None:
    if result.written:
        say(f"written to {result.file}; --undo removes the lines again")
    else:
        say(f"# {result.file}")
        print(result.lines)
    for words in [f"if the node is down: {result.if_down}", *result.notes]:
        click.echo(words, err=True)
