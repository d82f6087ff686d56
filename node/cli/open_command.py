"""`caravan open`: the dashboard, signed in."""

from __future__ import annotations

import webbrowser

import click

from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import say


@click.command(
    "open", cls=CliCommand, examples=["caravan open", "caravan open --print"]
)
@click.option(
    "--print", "only_print", is_flag=True, help="Print the link and open no browser."
)
@click.pass_obj
def open_dashboard(session: Session, *, only_print: bool) -> None:
    """Open the dashboard of the running node in a browser, signed in.

    The link works once, and for one minute.
    """
    result = session.ask("open")
    opened = not (only_print or session.json) and webbrowser.open(result.url)
    session.answer(result, lambda _: say(result.url if not opened else "opened"))
