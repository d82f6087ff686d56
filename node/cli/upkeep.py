"""Commands that look after the cache: clean, verify."""

from __future__ import annotations

from typing import Any

import click

from node.cli.group import Command
from node.cli.session import Session
from node.cli.text import clean as plain
from node.cli.text import count, size, table


@click.command(
    cls=Command,
    examples=["caravan clean", "caravan clean --keep-bytes '20 GiB' --days 90"],
)
@click.option(
    "--keep-bytes", metavar="SIZE", help="Remove the oldest until so much is left."
)
@click.option("--days", type=float, help="Remove what came more than so long ago.")
@click.pass_obj
def clean(session: Session, keep_bytes: str | None, days: float | None) -> None:
    """Remove what nothing needs, then what is too old, then what is too much.

    What is pinned stays, with all that it needs; nothing is left without a
    dependency.
    """
    from node.settings.load import parse_size

    limit = None if keep_bytes is None else parse_size(keep_bytes, "--keep-bytes")
    document = session.ask("clean", keep_bytes=limit, days=days)
    session.answer(document, _clean_words)


@click.command(cls=Command, examples=["caravan verify"])
@click.pass_obj
def verify(session: Session) -> int:
    """Hash everything that is kept again; what is damaged is set aside.

    Ends with exit code 5 if anything was damaged.
    """
    document = session.ask("verify")
    session.answer(document, _verify_words)
    return 5 if document["damaged"] else 0


def _clean_words(document: dict[str, Any]) -> None:
    table(
        ("digest", "size"),
        [(one["digest"], size(one["size"])) for one in document["artifacts"]],
    )
    freed, held = size(document["bytes_freed"]), size(document["bytes_held"])
    words = f"{count(document['count'], 'file')} removed, {freed} freed, {held} kept"
    click.echo(plain(words), err=True)


def _verify_words(document: dict[str, Any]) -> None:
    table(
        ("digest", "size", "state"),
        [
            (one["digest"], size(one["size"]), "damaged")
            for one in document["artifacts"]
            if not one["sound"]
        ],
    )
    checked = f"{count(document['count'], 'file')}, {size(document['bytes_checked'])}"
    damaged = document["damaged"]
    words = f"{checked}: {f'{damaged} damaged' if damaged else 'all as it should be'}"
    click.echo(plain(words), err=True)
