"""`caravan join`: runs the node in this process, or in the background."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.group import CliCommand
from node.cli.ready import print_ready, print_running
from node.cli.session import Session
from node.cli.text import remark
from node.errors import NotRunningError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node.settings import Settings


@click.command(
    cls=CliCommand,
    examples=[
        "caravan join                        # the contacts of last time, or alone",
        "caravan join 192.0.2.7:4747 --detach",
        "caravan join caravan-invitation-1-...  # what `caravan invite` printed",
        "caravan join --listen 127.0.0.1:0 --web 127.0.0.1:0",
        "caravan join 192.0.2.7:4747 --network lab --secret-file lab.secret",
    ],
)
@click.argument("contacts", nargs=-1, metavar="[HOST[:PORT]... | INVITATION]")
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
@click.option("--verbose", is_flag=True, help="Show more than warnings on stderr.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="What is written to node.log.  [default: info]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="How lines of the log are written.  [default: text]",
)
@click.pass_obj
def join(session: Session, /, detach: bool, verbose: bool, **flags: Any) -> int:
    """Run this user's node until `caravan leave`, SIGTERM or Ctrl-C.

    Joins the network through any of its nodes: the HOSTs, those of an INVITATION, or
    those that it remembers. The PORT is 4747 where none is given. With --detach, a node
    that runs already asks the HOSTs at once. Settings also come from config.toml in the
    node's folder and from CARAVAN_* variables; `caravan config` lists them.
    """
    flags["contacts"] = _with_ports(flags["contacts"])
    if detach and (
        _is_running(session, flags["contacts"]) or not _is_background(session, flags)
    ):
        return 0
    settings = _settings(session.home, flags)
    if detach:
        os.chdir(session.home)  # nobody need wait to unmount where it was started
    # Only now, because it takes its time: wrong settings are reported at once, and the
    # process that waits for the one in the background needs none of it.
    from node.cli.foreground import serve
    from node.settings.ports import on_free_ports
    from node.settings.remembered import ADDRESSES

    given = {name: flags[name] for name in ADDRESSES if flags[name]}
    settings, moved = on_free_ports(settings)
    return serve(
        session,
        settings,
        given={**moved, **given},
        verbose=verbose or flags["log_level"] is not None,
    )


def _settings(home: Path, flags: dict[str, Any]) -> Settings:
    """Load the settings; an invitation stands for contacts, network and secret."""
    from node.settings.load import load_settings

    if not any(map(_is_invitation, flags["contacts"])):
        return load_settings(home, flags)
    from node.reach.invitation import accept, read_invitation

    if len(flags["contacts"]) > 1 or flags["network"] or flags["secret_file"]:
        raise UsageError("an invitation names contacts, network and secret by itself")
    invitation = read_invitation(flags["contacts"][0], time.time())
    accept(home, invitation)
    flags = {**flags, "contacts": (), "network": invitation.network}
    settings = load_settings(home, flags)
    invited = [f"{one.public_key.hex()}@{one.address}" for one in invitation.contacts]
    return replace(settings, contacts=(*invited, *settings.contacts))


def _with_ports(contacts: Sequence[str]) -> tuple[str, ...]:
    if not contacts:
        return ()
    from node.settings.values import with_port

    return tuple(one if _is_invitation(one) else with_port(one) for one in contacts)


def _is_invitation(text: str) -> bool:
    return text.strip().startswith("caravan-invitation-")


def _is_running(session: Session, contacts: Sequence[str]) -> bool:
    """Tell whether this folder's node runs already; it meets the contacts then."""
    try:
        status = session.ask("status")
    except NotRunningError:
        return False
    named = _named_contacts(contacts, status.network)
    met = session.ask("meet", contacts=named) if named else None

    def words(_: object) -> None:
        print_running(status)
        if met is not None and not met.answered:
            _print_waiting(contacts)

    session.answer(status, words)
    return True


def _named_contacts(texts: Sequence[str], network: str) -> list[str]:
    """Return contacts as the node reads them; those of an invitation to its network."""
    if not any(map(_is_invitation, texts)):
        from node.settings.source import SettingSource
        from node.settings.values import read_contacts

        source = SettingSource("HOST:PORT", UsageError)
        return list(read_contacts(list(texts), source))
    from node.reach.invitation import read_invitation

    invitation = read_invitation(texts[0], time.time())
    if len(texts) > 1 or invitation.network != network:
        raise UsageError(
            f"this node is in the network {network!r}; join another one with another "
            "--home, and give an invitation by itself"
        )
    return [f"{one.public_key.hex()}@{one.address}" for one in invitation.contacts]


def _print_waiting(contacts: Sequence[str]) -> None:
    # An invitation may hold a secret, and is not repeated.
    named = ["the invited contacts" if _is_invitation(one) else one for one in contacts]
    remark(f"no answer from {' '.join(named)} yet; the node keeps trying")


def _is_background(session: Session, flags: dict[str, Any]) -> bool:
    """Go on in the background; False in the process that was asked, once that is ready.

    Raises what the background reports as its error.
    """
    from node.cli.detach import detach

    asked: Sequence[str] = flags["contacts"]
    session.home_flag = session.home
    ready = detach(session.home)
    if ready is None:
        session.json = session.is_background = True
        return True
    session.answer(ready, print_ready)
    if asked and not ready.contacts:
        _print_waiting(asked)
    return False
