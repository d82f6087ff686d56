"""Commands that look after the cache: clean, verify."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from node.cli.group import CliCommand
from node.cli.numbers import Amount
from node.cli.session import Session
from node.cli.text import count, remark, size, table

if TYPE_CHECKING:
    from node.results import CleanResult, VerifyResult


@click.command(
    cls=CliCommand,
    examples=[
        "caravan clean",
        "caravan clean --keep-bytes '20 GiB' --days 90 --dry-run",
    ],
)
@click.option(
    "--keep-bytes", metavar="SIZE", help="Remove the oldest files until the store fits."
)
@click.option(
    "--days",
    type=Amount(),
    metavar="DAYS",
    help="Remove files that came more than DAYS ago.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@click.pass_obj
def clean(
    session: Session,
    /,
    *,
    keep_bytes: str | None,
    days: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Free space in the store; show first what would go.

    Files that nothing needs go first, then those older than --days, then the oldest
    until the store fits --keep-bytes. Pinned packages and your own releases stay, with
    everything that they need; no package is left without a dependency. On a terminal it
    shows what would go, and asks.
    """
    wishes = {"keep_bytes": _limit(keep_bytes), "days": days}
    is_asked = sys.stdin.isatty() and sys.stdout.isatty() and not session.json
    if dry_run or (is_asked and not yes):
        result: CleanResult = session.ask("clean", **wishes, dry_run=True)
        session.answer(result, _clean_words)
        if dry_run or not result.removed:
            return
        click.confirm(f"Remove {count(result.removed, 'file')}?", abort=True, err=True)
        session.ask("clean", **wishes)
        remark("removed")
        return
    session.answer(session.ask("clean", **wishes), _clean_words)


def _limit(text: str | None) -> int | None:
    from node.settings.values import parse_size

    if text is None:
        return None
    return 0 if text.strip() == "0" else parse_size(text, "--keep-bytes")


@click.command(cls=CliCommand, examples=["caravan verify"])
@click.pass_obj
def verify(session: Session) -> int:
    """Hash all files that are kept, and set damaged ones aside.

    Damaged files are fetched again from other nodes. Exits with code 5 if any file is
    damaged.
    """
    result = session.ask("verify")
    session.answer(result, _verify_words)
    return 5 if result.damaged else 0


def _clean_words(result: CleanResult) -> None:
    table(
        ("digest", "size", "file"),
        [(one.digest, size(one.size), one.file or "-") for one in result.artifacts],
        optional=("size",),
    )
    freed, held = size(result.bytes), size(result.bytes_held)
    removed = "would be removed" if result.dry_run else "removed"
    words = f"{count(result.removed, 'file')} {removed}, {freed} freed, {held} kept"
    remark(words)


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
    remark(words)
