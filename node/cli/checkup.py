"""The command `doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import table
from node.errors import NotRunningError

if TYPE_CHECKING:
    from node.results import DoctorResult


@click.command(cls=CliCommand, examples=["caravan doctor", "caravan doctor --json"])
@click.pass_obj
def doctor(session: Session) -> int:
    """Check what may be wrong around the node, and say what to do.

    Looks at the clock, ports, disk, contacts and reachability. Also works while no node
    is running. Exits with code 1 if a check fails.
    """
    try:
        result = session.ask("doctor")
    except NotRunningError as error:
        result = _without_node(session, str(error))
    session.answer(result, _words)
    return 0 if all(one.ok for one in result.checks) else 1


def _without_node(session: Session, sentence: str) -> Any:
    """Look at what can be looked at while no node runs."""
    from node.doctor import (
        Check,
        check_clock,
        check_disk,
        check_folder,
        check_ports,
        check_tools,
    )
    from node.results import DoctorResult
    from node.settings.load import load_settings

    settings = load_settings(session.home, {})
    listen = [_host_and_port(one) for one in settings.listen]
    try:
        newest = (session.home / "catalogue.sqlite").stat().st_mtime
    except OSError:
        newest = 0.0
    checks = [
        Check("node", ok=False, hint=sentence),
        check_folder(session.home),
        check_tools(session.home, None),
        check_disk(session.home),
        check_clock(time.time(), newest),
        check_ports(listen),
    ]
    return DoctorResult(checks=checks)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _words(result: DoctorResult) -> None:
    table(
        ("check", "", "what was seen"),
        [(one.name, "ok" if one.ok else "WRONG", one.hint) for one in result.checks],
        wraps=True,
    )
