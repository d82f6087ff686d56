"""Commands that need no running node: network, demo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli.group import CliCommand, CommandGroup
from node.cli.session import Session
from node.cli.text import say, table

if TYPE_CHECKING:
    from node.cli.results import NetworkEntry, NetworkListResult

_HERE = "node.cli.local"


@click.group(
    cls=CommandGroup,
    sections={
        "Commands": {
            "new": f"{_HERE}:network_new",
            "list": f"{_HERE}:network_list",
        }
    },
)
def network() -> None:
    """Make and list private networks.

    The members of a private network share a secret file. Nobody else can find them or
    talk to them.
    """


@click.command("new", cls=CliCommand, examples=["caravan network new lab"])
@click.argument("name")
@click.pass_obj
def network_new(session: Session, name: str) -> None:
    """Make a private network: its secret file."""
    from node.cli.results import NetworkEntry
    from node.settings.networks import new_network

    made = new_network(session.home, name)
    result = NetworkEntry(network=made.name, secret_file=str(made.secret_file))
    session.answer(result, _network_words)


@click.command("list", cls=CliCommand, examples=["caravan network list"])
@click.pass_obj
def network_list(session: Session) -> None:
    """List the private networks whose secret is here."""
    from node.cli.results import NetworkEntry, NetworkListResult
    from node.settings.networks import list_networks

    found = [
        NetworkEntry(network=one.name, secret_file=str(one.secret_file))
        for one in list_networks(session.home)
    ]
    session.answer(NetworkListResult(networks=found), _networks_words)


@click.command(
    cls=CliCommand,
    examples=["caravan demo", "caravan demo --nodes 12", "caravan demo --json"],
)
@click.option(
    "--nodes",
    type=click.IntRange(8, 64),
    default=8,
    show_default=True,
    help="How many nodes to run.",
)
@click.pass_obj
def demo(session: Session, nodes: int) -> int:
    """Watch a whole network at work on this machine, in one minute.

    Moves real packages, needs no running node and leaves nothing behind.
    """
    from node.demo.main import run

    return run(nodes, session.json)


def _network_words(made: NetworkEntry) -> None:
    name = made.network
    say(f"secret file      {made.secret_file}")
    say(f"to join here     caravan join --network {name}")
    say(f"on other members caravan join HOST:PORT --network {name} --secret-file COPY")


def _networks_words(result: NetworkListResult) -> None:
    table(
        ("network", "secret file"),
        [(one.network, one.secret_file) for one in result.networks],
    )
