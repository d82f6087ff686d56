"""The command `invite`: one line with which another machine joins this network."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import remark, say
from node.errors import NodeError, UsageError

if TYPE_CHECKING:
    from node.results import InviteResult

_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
SPAN_SECONDS_MAX = 366 * 86_400


@click.command(
    cls=CliCommand,
    examples=[
        "caravan invite                       # good for 7 days",
        "caravan invite --expires 1h --qr",
        "caravan join caravan-invitation-1-...  # on the other machine",
    ],
)
@click.option(
    "--network", metavar="NAME", help="Fail if the node is in another network."
)
@click.option(
    "--expires",
    default="7d",
    show_default=True,
    metavar="SPAN",
    help="For how long the invitation is taken: 30m, 12h, 7d.",
)
@click.option("--qr", is_flag=True, help="Show it as a QR code as well.")
@click.pass_obj
def invite(session: Session, *, network: str | None, expires: str, qr: bool) -> None:
    """Print one line with which another machine joins this network.

    It holds the addresses of this node and of others, and for a private network the
    secret: give it only to those who may become members. The other machine needs
    `caravan join LINE` and nothing else.
    """
    seconds = parse_span(expires)
    result = session.ask("invite", network=network, seconds=seconds)

    def words(answer: InviteResult) -> None:
        say(answer.invitation)
        until = datetime.fromtimestamp(answer.expires, UTC)
        remark(f"good until {until:%Y-%m-%d %H:%M} UTC")
        if qr:
            click.echo(_qr_code(answer.invitation))

    session.answer(result, words)


def parse_span(text: str) -> int:
    """Read a span of time like 30m, 12h or 7d, in seconds."""
    match = _SPAN.fullmatch(text.strip().lower())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= SPAN_SECONDS_MAX:
        raise UsageError(
            f"--expires: expected a span such as 30m, 12h or 7d, not {text!r}"
        )
    return seconds


def _qr_code(text: str) -> str:
    import io

    try:
        import segno
    except ImportError as error:
        raise NodeError(
            "QR codes need the package segno: pip install 'caravan-node[qr]'"
        ) from error
    out = io.StringIO()
    segno.make(text, error="l").terminal(out, compact=True, border=2)
    return out.getvalue()
