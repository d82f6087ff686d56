"""`caravan connect`: the lines that point a package manager at this node."""

from __future__ import annotations

from typing import Any

import click

from node.cli import client
from node.cli.group import Command
from node.cli.session import Session
from node.cli.text import say
from node.errors import NotRunningError
from node.gateway.connecting import TOOLS, connection

DEFAULT_WEB = "127.0.0.1:4748"


@click.command(
    cls=Command,
    examples=[
        "caravan connect pip",
        "caravan connect cargo --write",
        "caravan connect cargo --undo",
    ],
)
@click.argument("tool", type=click.Choice(TOOLS))
@click.option("--write", is_flag=True, help="Write the lines, keeping what was there.")
@click.option("--undo", is_flag=True, help="Take the lines out again.")
@click.pass_obj
def connect(session: Session, tool: str, write: bool, undo: bool) -> None:
    """Point a package manager at this node.

    Prints the lines that belong into its configuration, or writes them. The tool then
    gets its files from peers where peers have them, and from the origin where not.
    """
    if write and undo:
        raise click.UsageError("--write and --undo do not go together")
    made = connection(tool, session.home, _web(session))
    document: dict[str, Any] = {
        "tool": tool,
        "file": str(made.file),
        "lines": made.shown,
        "if_down": made.if_down,
        "notes": made.notes,
        "written": False,
        "undone": False,
    }
    if write:
        made.write()
        document["written"] = True
    elif undo:
        document["undone"] = made.undo()
    session.answer(document, _undo_words if undo else _words)


def _web(session: Session) -> str:
    """Return where the node's door is, or where it will be by default."""
    try:
        return str(client.read_card(session.home)["web"])
    except NotRunningError:
        return DEFAULT_WEB


def _undo_words(document: dict[str, Any]) -> None:
    file = document["file"]
    undone = document["undone"]
    say(f"{file} is as it was" if undone else f"nothing in {file} is from `connect`")


def _words(document: dict[str, Any]) -> None:
    if document["written"]:
        say(f"written to {document['file']}; --undo takes it out again")
    else:
        say(f"# {document['file']}")
        print(document["lines"])
    for words in [f"if the node is down: {document['if_down']}", *document["notes"]]:
        click.echo(words, err=True)
