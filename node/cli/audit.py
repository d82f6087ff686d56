"""The command audit: what security releases replaced of what is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from node.cli.files import absolute
from node.cli.group import CliCommand
from node.cli.session import Session
from node.cli.text import remark, table

if TYPE_CHECKING:
    from node.results import AuditResult, ReplacedDependencyEntry

FOUND = 6


@click.command(
    cls=CliCommand, examples=["caravan audit", "caravan audit --lockfile uv.lock"]
)
@click.option("--lockfile", metavar="FILE", help="Look only at the files it names.")
@click.pass_obj
def audit(session: Session, lockfile: str | None) -> int:
    """Show files that security releases replaced, and what needs them.

    Exits with code 6 if there are any. A package whose dependency was replaced keeps
    working; ask its publisher for a release that depends on the new version.
    """
    path = None if lockfile is None else absolute(lockfile)
    result = session.ask("audit", lockfile=path)
    session.answer(result, _audit_words)
    return FOUND if result.found else 0


def _audit_words(result: AuditResult) -> None:
    table(
        ("file", "replaced by", "held", "offered", "note"),
        [
            (
                one.file or one.digest,
                f"{one.name} {one.fixed}",
                "yes" if one.held else "no",
                "yes" if one.given else "no",
                one.note,
            )
            for one in result.found
        ],
    )
    for one in result.dependents:
        remark(dependent_words(one))
    if not result.found:
        remark("no file was replaced by a security release")


def dependent_words(one: ReplacedDependencyEntry) -> str:
    """Return one line for a package whose dependency was replaced."""
    note = f": {one.note}" if one.note else ""
    return (
        f"caution: {one.name} {one.version} depends on {one.dependency_name}, which "
        f"{one.replaced_by} replaced{note}"
    )
