"""Commands that look after the cache: clean, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import clean as plain
from node.cli.text import count, size, table

if TYPE_CHECKING:
    from node.results import CleanResult, VerifyResult


@click.command(
    cls=CliCommand,
    examples=["caravan clean", "caravan clean --keep-bytes '20 GiB' --days 90"],
)
@click.option(
    "--keep-bytes", metavar="SIZE", help="Remove the oldest files until the store fits."
)
@click.option("--days", type=float, help="Remove files that came more than DAYS ago.")
@click.pass_obj
def clean(session: Session, keep_bytes: str | None, days: float | None) -> None:
    """Free space: files that nothing needs, then old ones, then the oldest.

    Files that nothing needs go first, then those older than --days, then the oldest
    until the store fits --keep-bytes. Pinned packages stay, with everything that they
    need; no package is left without a dependency.
    """
    from node.settings.values import parse_size

    limit = None if keep_bytes is None else parse_size(keep_bytes, "--keep-bytes")
    session.answer(session.ask("clean", keep_bytes=limit, days=days), _clean_words)


@click.command(cls=CliCommand, examples=["caravan verify"])
@click.pass_obj
def verify(session: Session) -> int:
    """Hash all kept files again, and set damaged ones aside.

    Damaged files are fetched again from other nodes. Exits with code 5 if any file is
    damaged.
    """
    result = session.ask("verify")
    session.answer(result, _verify_words)
    return 5 if result.damaged else 0


def _clean_words(result: CleanResult) -> None:
    table(
        ("digest", "size"),
        [(one.digest, size(one.size)) for one in result.artifacts],
    )
    freed, held = size(result.bytes_freed), size(result.bytes_held)
    words = f"{count(result.count, 'file')} removed, {freed} freed, {held} kept"
    click.echo(plain(words), err=True)


def _verify_words(result: VerifyResult) -> None:
    table(
        ("digest", "size", "state"),
        [
            (one.digest, size(one.size), "damaged")
            for one in result.artifacts
            if not one.sound
        ],
    )
    checked = f"{count(result.count, 'file')}, {size(result.bytes_checked)}"
    words = f"{result.damaged} damaged" if result.damaged else "all sound"
    words = f"{checked}: {words}"
    click.echo(plain(words), err=True)
