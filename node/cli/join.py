"""`caravan join`: runs the node in this process, or in the background."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.group import CliCommand
from node.cli.ready import print_ready
from node.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command(
    cls=CliCommand,
    examples=[
        "caravan join                        # the contacts of last time, or alone",
        "caravan join 192.0.2.7:4747 --detach",
        "caravan join --listen 127.0.0.1:0 --web 127.0.0.1:0",
        "caravan join 192.0.2.7:4747 --network lab --secret-file lab.secret",
    ],
)
@click.argument("contacts", nargs=-1, metavar="[HOST:PORT]...")
@click.option(
    "--listen",
    multiple=True,
    metavar="HOST:PORT",
    help="Where others reach this node; may be repeated; port 0 is any free one.  "
    "[default: 0.0.0.0:4747 and [::]:4747]",
)
@click.option(
    "--web",
    metavar="HOST:PORT",
    help="Where the web door opens, on loopback.  [default: 127.0.0.1:4748]",
)
@click.option(
    "--serve",
    "site",
    metavar="HOST:PORT",
    help="Let package managers on other machines use this node at this address.",
)
@click.option("--network", metavar="NAME", help="A private network.")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Its secret.  [default: networks/NAME.secret in the node's folder]",
)
@click.option("--detach", is_flag=True, help="Run in the background; log to node.log.")
@click.option("--verbose", is_flag=True, help="Log more than warnings.")
@click.pass_obj
def join(session: Session, /, detach: bool, verbose: bool, **flags: Any) -> int:
    """Run this user's node until `caravan leave`, SIGTERM or Ctrl-C.

    Joins the network through any of its nodes: the HOST:PORTs, or those that it
    remembers. Settings also come from config.toml in the node's folder and from
    CARAVAN_* variables; `caravan config` lists them.
    """
    if detach and not _is_background(session, asked=flags["contacts"]):
        return 0
    from node.settings.load import load_settings

    settings = load_settings(session.home, flags)
    if detach:
        os.chdir(session.home)  # nobody need wait to unmount where it was started
    # Only now, because it takes its time: wrong settings are told at once, and the
    # process that waits for the one in the background needs none of it.
    from node.cli.foreground import serve

    return serve(session, settings, verbose=verbose)


def _is_background(session: Session, asked: Sequence[str]) -> bool:
    """Go on in the background; False in the process that was asked, once that is ready.

    Raises what the background reports as its error.
    """
    from node.cli.detach import detach

    session.home_flag = session.home
    ready = detach(session.home)
    if ready is None:
        session.json = True
        return True
    session.answer(ready, print_ready)
    if asked and not ready.contacts:
        words = f"no answer from {' '.join(asked)} yet; the node keeps trying"
        click.echo(words, err=True)
    return False
