"""Commands that need no running node: network, demo."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from node.cli.group import CliCommand, CommandGroup
from node.cli.numbers import WholeNumber
from node.cli.session import Session
from node.cli.text import count, say, table
from node.errors import NodeError

if TYPE_CHECKING:
    from node.cli.results import (
        NetworkEntry,
        NetworkLeaveResult,
        NetworkListResult,
    )

_HERE = "node.cli.local"


@click.group(
    cls=CommandGroup,
    sections={
        "Commands": {
            "new": f"{_HERE}:network_new",
            "list": f"{_HERE}:network_list",
            "secret": f"{_HERE}:network_secret",
            "add": f"{_HERE}:network_add",
            "leave": f"{_HERE}:network_leave",
        }
    },
)
def network() -> None:
    """Make, list and leave private networks.

    The members of a private network share a secret. Nobody else can find them or talk
    to them. A node's folder belongs to one network.
    """


@click.command("new", cls=CliCommand, examples=["caravan network new lab"])
@click.argument("name")
@click.pass_obj
def network_new(session: Session, name: str) -> None:
    """Make a private network and the file of its secret."""
    from node.cli.results import NetworkEntry
    from node.settings.networks import new_network

    made = new_network(session.home, name)
    result = NetworkEntry(network=made.name, secret_file=str(made.secret_file))
    session.answer(result, _network_words)


@click.command("list", cls=CliCommand, examples=["caravan network list"])
@click.pass_obj
def network_list(session: Session) -> None:
    """List the private networks whose secret is here."""
    from node.cli.results import (
        NetworkEntry,
        NetworkListResult,
    )
    from node.settings.networks import list_networks

    found = [
        NetworkEntry(network=one.name, secret_file=str(one.secret_file))
        for one in list_networks(session.home)
    ]
    session.answer(NetworkListResult(networks=found), _networks_words)


@click.command(
    "secret",
    cls=CliCommand,
    examples=["caravan network secret lab  # for a CI variable"],
)
@click.argument("name")
@click.pass_obj
def network_secret(session: Session, name: str) -> None:
    """Print the secret of the private network NAME as one line of text.

    Anyone with the line can join. `caravan network add` reads it on another machine.
    """
    from node.cli.results import NetworkSecretResult
    from node.settings.networks import load_secret, secret_path, secret_text

    path = secret_path(session.home, name)
    if not path.exists():
        raise NodeError(
            f"there is no network {name!r} here; `caravan network list` shows which are"
        )
    text = secret_text(name, load_secret(path, name))
    result = NetworkSecretResult(network=name, secret=text)
    session.answer(result, lambda _: say(text))


@click.command(
    "add",
    cls=CliCommand,
    examples=["caravan network add caravan-secret-1-...", "caravan network add -"],
)
@click.argument("line")
@click.pass_obj
def network_add(session: Session, line: str) -> None:
    """Add a private network by its secret.

    LINE is what `caravan network secret` prints at a member, or - to read it from
    stdin.
    """
    from node.cli.results import NetworkEntry
    from node.settings.networks import TEXT_BYTES_MAX, read_secret_text, save_secret

    text = sys.stdin.read(TEXT_BYTES_MAX) if line == "-" else line
    name, secret = read_secret_text(text)
    path = save_secret(session.home, name, secret)
    result = NetworkEntry(network=name, secret_file=str(path))
    session.answer(result, _network_words)


@click.command("leave", cls=CliCommand, examples=["caravan network leave --forget"])
@click.option(
    "--forget", is_flag=True, required=True, help="Yes, forget the network for good."
)
@click.pass_obj
def network_leave(session: Session, forget: bool) -> None:
    """Take this folder out of its network; it can then join another.

    What was held in a private network is kept private from then on: it is offered in no
    other network until you share it again. The node must not run.
    """
    del forget
    from node.cli.results import NetworkLeaveResult
    from node.leave_network import leave_network

    left = leave_network(session.home)
    result = NetworkLeaveResult(
        network=left.network, kept_private=left.kept_private, offered=left.offered
    )
    session.answer(result, _left_words)


@click.command(
    cls=CliCommand,
    examples=["caravan demo", "caravan demo --nodes 12", "caravan demo --json"],
)
@click.option(
    "--nodes",
    type=WholeNumber(8, 64),
    metavar="N",
    default=8,
    show_default=True,
    help="How many nodes to run, from 8 to 64.",
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
    say("to join there    the line that `caravan invite` prints once a node runs here,")
    say(f"                 or the one of `caravan network secret {name}`")


def _left_words(left: NetworkLeaveResult) -> None:
    say(f"this folder no longer belongs to the network {left.network!r}")
    if left.kept_private:
        files = count(left.kept_private, "file")
        say(f"{files} kept on disk, and offered to nobody until shared again")
    elif left.offered:
        files = count(left.offered, "file")
        say(f"{files} kept on disk, and offered in the network that is joined next")


def _networks_words(result: NetworkListResult) -> None:
    table(
        ("network", "secret file"),
        [(one.network, one.secret_file) for one in result.networks],
    )
