"""Commands that need no running node: key, network, demo."""

from __future__ import annotations

from typing import Any

import click

from node.cli.group import Command, Group
from node.cli.session import Session
from node.cli.text import say, table
from node.errors import NodeError

_HERE = "node.cli.local"


@click.group(
    cls=Group,
    sections={
        "Commands": {
            "new": f"{_HERE}:key_new",
            "show": f"{_HERE}:key_show",
            "export": f"{_HERE}:key_export",
        }
    },
)
def key() -> None:
    """Make, show and export publisher keys.

    A publisher is a key: whoever holds it says what the newest version of its names
    is. It cannot be replaced, so keep a copy of it somewhere safe.
    """


@click.command("new", cls=Command, examples=["caravan key new", "caravan key new work"])
@click.argument("name", default="default")
@click.pass_obj
def key_new(session: Session, name: str) -> None:
    """Make a publisher key."""
    from node.keys import PublisherKeys

    publisher = PublisherKeys(session.home).new(name)
    document = {"name": name, "publisher": publisher}
    session.answer(document, lambda _: say(publisher))


@click.command("show", cls=Command, examples=["caravan key show"])
@click.argument("name", required=False)
@click.pass_obj
def key_show(session: Session, name: str | None) -> None:
    """Show the publisher keys of this user, or the one called NAME."""
    from node.keys import DEFAULT_KEY, PublisherKeys

    keys = PublisherKeys(session.home).show()
    if name is not None:
        keys = [one for one in keys if one["name"] == name]
        if not keys:
            raise NodeError(
                f"there is no key {name!r}; make it with `caravan key new {name}`"
            )
    publishers = {one["name"]: one["publisher"] for one in keys}
    document = {"publisher": publishers.get(name or DEFAULT_KEY), "keys": keys}
    session.answer(document, _keys_words)


@click.command(
    "export", cls=Command, examples=["caravan key export default > default.key"]
)
@click.argument("name", default="default")
@click.pass_obj
def key_export(session: Session, name: str) -> None:
    """Print the private key NAME (PEM), to keep a copy elsewhere.

    Whoever has it can publish as you.
    """
    from node.keys import PublisherKeys

    keys = PublisherKeys(session.home)
    pem = keys.export(name)
    publishers = {one["name"]: one["publisher"] for one in keys.show()}
    document = {"name": name, "publisher": publishers[name], "private_key": pem}
    session.answer(document, lambda _: print(pem, end=""))


@click.group(
    cls=Group,
    sections={
        "Commands": {
            "new": f"{_HERE}:network_new",
            "list": f"{_HERE}:network_list",
        }
    },
)
def network() -> None:
    """Make and list private networks.

    The members of a private network share a secret file; nobody else can find or talk
    to them.
    """


@click.command("new", cls=Command, examples=["caravan network new lab"])
@click.argument("name")
@click.pass_obj
def network_new(session: Session, name: str) -> None:
    """Make a private network: its secret file."""
    from node.networks import new_network

    made = new_network(session.home, name)
    document = {"network": made.name, "secret_file": str(made.secret_file)}
    session.answer(document, _network_words)


@click.command("list", cls=Command, examples=["caravan network list"])
@click.pass_obj
def network_list(session: Session) -> None:
    """List the private networks whose secret is here."""
    from node.networks import list_networks

    found = [
        {"network": one.name, "secret_file": str(one.secret_file)}
        for one in list_networks(session.home)
    ]
    session.answer({"networks": found}, _networks_words)


@click.command(
    cls=Command,
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
    """See a whole network at work on this machine, in one minute.

    It moves real packages, needs no running node and leaves nothing behind.
    """
    from node.demo.main import run

    return run(nodes, session.json)


def _keys_words(document: dict[str, Any]) -> None:
    table(
        ("name", "publisher"),
        [(one["name"], one["publisher"] or "-") for one in document["keys"]],
    )
    if not document["keys"]:
        click.echo("no publisher key yet; make one with `caravan key new`", err=True)


def _network_words(document: dict[str, Any]) -> None:
    name, secret_file = document["network"], document["secret_file"]
    say(f"secret file      {secret_file}")
    say(f"to join here     caravan join --network {name}")
    say(f"on other members caravan join HOST:PORT --network {name} --secret-file COPY")


def _networks_words(document: dict[str, Any]) -> None:
    table(
        ("network", "secret file"),
        [(one["network"], one["secret_file"]) for one in document["networks"]],
    )
