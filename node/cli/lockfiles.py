"""What `fetch`, `lookup` and `share` do with a lockfile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from node.cli.session import Session
from node.cli.text import clean, count, say, size, table
from node.errors import NodeError


def prefetch(
    session: Session,
    lockfile: str,
    output: str | None,
    everything: bool,
    *,
    is_beside_targets: bool,
) -> None:
    """Fetch what a lockfile names."""
    _only(is_beside_targets, "TARGET")
    document = session.ask(
        "prefetch",
        lockfile=str(_absolute(lockfile)),
        everything=everything,
        output=output,
    )
    session.answer(document, _prefetch_words)


def survey(
    session: Session, lockfile: str, everything: bool, *, is_beside_digest: bool
) -> None:
    """Say where what a lockfile names can be had."""
    _only(is_beside_digest, "DIGEST")
    document = session.ask(
        "survey", lockfile=str(_absolute(lockfile)), everything=everything
    )
    session.answer(document, _survey_words)


def adopt(session: Session, lockfile: str | None, *, is_beside_files: bool) -> None:
    """Offer what package managers have on disk."""
    from node.gateway.caches import cache_folders

    _only(is_beside_files, "FILE")
    folders = cache_folders(dict(os.environ), Path.home())
    if lockfile is None:
        folders = {name: path for name, path in folders.items() if name == "pip"}
    if not folders and lockfile is None:
        raise NodeError("pip has no cache here")
    document = session.ask(
        "adopt",
        folders=[str(path) for path in folders.values()],
        lockfile=None if lockfile is None else str(_absolute(lockfile)),
    )
    session.answer(document, _adopt_words)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111


def _only(is_beside: bool, what: str) -> None:
    if is_beside:
        raise click.UsageError(f"a lockfile and {what} do not go together")


def _prefetch_words(document: dict[str, Any]) -> None:
    artifacts = document["artifacts"]
    table(
        ("digest", "size", "from", "file"),
        [
            (
                one["digest"],
                size(one["size"]),
                ", ".join(source["address"] for source in one["sources"])
                or "held already",
                one["file"] or one["name"],
            )
            for one in artifacts
        ],
    )
    total = sum(one["size"] for one in artifacts)
    click.echo(clean(f"{count(len(artifacts), 'file')}, {size(total)}"), err=True)


def _survey_words(document: dict[str, Any]) -> None:
    table(
        ("where", "name", "version", "file"),
        [
            (_where(one), one["name"], one["version"], one["file"] or one["digest"])
            for one in document["entries"]
        ],
    )
    counts = document["counts"]
    words = ", ".join(f"{number} {state}" for state, number in counts.items())
    click.echo(clean(words), err=True)


def _where(entry: dict[str, Any]) -> str:
    if entry["state"] == "peers":
        return count(entry["peers"], "peer")
    return "origin only" if entry["state"] == "origin" else str(entry["state"])


def _adopt_words(document: dict[str, Any]) -> None:
    for one in document["artifacts"]:
        say(f"{one['digest']}  {one['file']}")
    shared, looked_at = len(document["artifacts"]), document["looked_at"]
    words = f"{count(shared, 'file')} offered, of {looked_at} looked at"
    click.echo(clean(words), err=True)
