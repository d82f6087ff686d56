"""`caravan connect`: the lines that point a package manager at a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli import client
from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import remark, say
from node.errors import NotRunningError
from node.gateway.connecting import outranking
from node.gateway.ecosystems import fallback_at, recipe_at, tools

if TYPE_CHECKING:
    from node.cli.results import ConnectResult
    from node.gateway.connecting import Recipe

DEFAULT_WEB = "127.0.0.1:4748"


@click.command(
    cls=CliCommand,
    examples=[
        "caravan connect pip",
        "caravan connect cargo --write",
        "caravan connect cargo --undo",
        "caravan connect pip --fallback --write",
        "caravan connect npm --site http://cache.lab:4749",
    ],
)
@click.argument("tool", type=click.Choice(list(tools())))
@click.option("--write", is_flag=True, help="Write the lines, and keep what is there.")
@click.option("--undo", is_flag=True, help="Remove the lines again.")
@click.option(
    "--site",
    metavar="URL",
    help="Print the lines for clients of a site door, on machines without a node.",
)
@click.option(
    "--fallback",
    is_flag=True,
    help="Lines with which the tool goes on without the node, where it can.",
)
@click.pass_obj
def connect(
    session: Session,
    /,
    *,
    tool: str,
    write: bool,
    undo: bool,
    site: str | None,
    fallback: bool,
) -> None:
    """Point a package manager at this node.

    Prints the lines for its configuration, or writes them. The tool then gets its
    files from peers that have them, and otherwise from its usual index. Where a tool
    needs more than these lines, or keeps this node's address in a lockfile, that is
    said.
    """
    from node.cli.results import ConnectResult

    if write and undo:
        raise click.UsageError("expected --write or --undo, not both")
    if site is not None and (write or undo):
        raise click.UsageError("expected --site alone: it only prints lines")
    base = f"http://{_web(session)}" if site is None else _site(site)
    made = (fallback_at if fallback else recipe_at)(tool, session.home, base)
    if write:
        made.write()
    notes = list(made.notes)
    if made.file is not None and site is None and not undo:
        notes += [
            f"caution: {name} is set in the environment and counts more than this file"
            for name in outranking(made.environment)
        ]
    result = ConnectResult(
        tool=tool,
        file="" if made.file is None else str(made.file),
        lines=made.shown,
        environment=made.environment,
        if_down=_if_down(made, is_site=site is not None),
        notes=notes,
        written=write,
        undone=made.undo() if undo else False,
    )
    session.answer(result, _undo_words if undo else _words)


def _site(url: str) -> str:
    """Return the URL of a site door without a slash at its end; UsageError."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        is_door = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_door = is_door and not parts.query and not parts.fragment
        is_door = is_door and (parts.port is None or parts.port > 0)
    except ValueError:
        is_door = False
    # It goes into configuration files, where these would end what it stands in.
    if not is_door or any(one in "\"'`$\\" or one.isspace() for one in url):
        raise click.UsageError(
            f"expected the URL of a site door, like http://cache.lab:4749, not {url!r}"
        )
    return url.rstrip("/")


def _if_down(made: Recipe, *, is_site: bool) -> str:
    """Say what the tool does while nothing answers, and what to do then."""
    if made.goes_on:
        return f"{made.if_down}."
    undo = f"`caravan connect {made.tool} --undo`"
    what = "take the lines out" if made.file is None or is_site else undo
    once = f", or `{made.for_once}` for once" if made.for_once else ""
    return f"{made.if_down}; {what}{once}."


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
    notes = [f"if the node is down: {result.if_down}", *result.notes]
    if result.written:
        say(f"written to {result.file}; --undo removes the lines again")
    else:
        say(f"# {result.file or 'the environment'}")
        print(result.lines)
        if result.file and result.environment:
            pairs = [f"{name}={text}" for name, text in result.environment.items()]
            notes.insert(0, f"or in the environment: {' '.join(pairs)}")
    for words in notes:
        remark(words)
