"""`caravan run`: a command whose package managers ask this node."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli import client
from node.cli.group import CliCommand
from node.cli.numbers import Amount
from node.cli.session import Session
from node.cli.text import count, remark, size
from node.errors import NodeError, NotRunningError

if TYPE_CHECKING:
    from node.runner.run import CommandRun


_SOURCES = {
    "store": "from the store",
    "peers": "from peers",
    "origin": "from the origin",
}
"""What the last line says of each source."""


@click.command(
    cls=CliCommand,
    context_settings={"ignore_unknown_options": True},
    examples=[
        "caravan run -- pip install requests",
        "caravan run -- npm ci",
        "caravan run --linger 60 -- uv sync",
        "CARAVAN_CONTACTS=192.0.2.7:4747 caravan run --cache ci -- cargo build",
    ],
)
@click.option(
    "--linger",
    type=Amount(),
    default=0,
    metavar="SECONDS",
    help="How long a node that was started for the command stays as a seeder.",
)
@click.option(
    "--cache",
    metavar="NAME",
    help="Keep the started node's folder under this name in the user's cache folder.  "
    "[default: a temporary folder]",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(
    session: Session, /, *, linger: float, cache: str | None, command: tuple[str, ...]
) -> int:
    """Run COMMAND with its package managers pointed at this node.

    pip, uv, poetry, pdm, pipenv, npm, pnpm, yarn, bun and cargo are pointed by
    environment variables and arguments; no configuration is changed, and lockfiles
    that the command writes name the origin. The exit code is the command's. With no
    node running, one is started for the life of the command. At the end, a line on
    stderr says what came from the store, from peers and from the origin.
    """
    import asyncio

    from node.runner.run import run_command

    with ExitStack() as stack:
        running = _running(session)
        home = session.home if running else _home(session, cache, stack)
        done = asyncio.run(
            run_command(
                command,
                home=home,
                running=running,
                arguments=["--listen", "0.0.0.0:0"],
                linger_seconds=linger,
                say=_say,
            )
        )
    _report(session, done)
    return done.exit_code


def _running(session: Session) -> str | None:
    """Return HOST:PORT of the running node's web door."""
    try:
        return str(client.read_card(session.home)["web"])
    except NotRunningError:
        return None
    except NodeError as error:
        _say(str(error))
        return None


def _home(session: Session, cache: str | None, stack: ExitStack) -> Path:
    """Return the folder for a node of the command's own."""
    if cache is not None:
        import platformdirs

        from node.model.names import is_name

        if not is_name(cache):
            raise click.UsageError(f"{cache!r} cannot be the name of a cache")
        folder = Path(platformdirs.user_cache_dir("caravan", appauthor=False), cache)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if session.home_flag is not None or os.environ.get("CARAVAN_HOME"):
        return session.home
    temporary = tempfile.TemporaryDirectory(
        prefix="caravan-run-", ignore_cleanup_errors=True
    )
    return Path(stack.enter_context(temporary))


def _say(sentence: str) -> None:
    remark(f"caravan: {sentence}")


def _report(session: Session, done: CommandRun) -> None:
    totals = done.totals
    document: dict[str, Any] = {
        "files": totals.files,
        "bytes": totals.bytes,
        **{f"from_{name}": totals.by_source[name] for name in _SOURCES},
        "direct": done.direct,
        "exit_code": done.exit_code,
    }
    session.answered = True
    if session.json:  # stdout is the command's
        click.echo(json.dumps(document), err=True)
        return
    parts = [
        f"{size(totals.by_source[name])} {words}" for name, words in _SOURCES.items()
    ]
    _say(f"{count(totals.files, 'file')}, {size(totals.bytes)}: {', '.join(parts)}")
