"""What `fetch`, `lookup` and `share` do with a lockfile."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from node.cli.files import absolute
from node.cli.session import Session
from node.cli.text import count, remark, say, size, table
from node.errors import NodeError

if TYPE_CHECKING:
    from node.results import (
        AdoptResult,
        LeftOutEntry,
        PrefetchResult,
        SurveyedFile,
        SurveyResult,
    )


def prefetch(
    session: Session,
    lockfile: str,
    *,
    output: str | None,
    force: bool,
    everything: bool,
    strict: bool,
) -> None:
    """Fetch what a lockfile names."""
    result = session.ask(
        "prefetch",
        lockfile=absolute(lockfile),
        everything=everything,
        output=output,
        force=force,
        strict=strict,
    )
    session.answer(result, _prefetch_words)


def survey(session: Session, lockfile: str, *, everything: bool) -> None:
    """Say where what a lockfile names can be had."""
    result = session.ask("survey", lockfile=absolute(lockfile), everything=everything)
    session.answer(result, _survey_words)


def adopt(session: Session, lockfile: str | None) -> None:
    """Offer what a lockfile names, or pip's cache, of what is on this disk."""
    from node.gateway.caches import cache_folders

    folders = cache_folders(dict(os.environ), Path.home())
    if lockfile is None:
        folders = {name: path for name, path in folders.items() if name == "pip"}
    if not folders and lockfile is None:
        raise NodeError("pip has no cache on this machine")
    result = session.ask(
        "adopt",
        folders=[str(path) for path in folders.values()],
        lockfile=None if lockfile is None else absolute(lockfile),
    )
    session.answer(result, _adopt_words)


def _prefetch_words(result: PrefetchResult) -> None:
    table(
        ("digest", "size", "from", "file"),
        [
            (
                one.digest,
                size(one.size),
                ", ".join(source.address for source in one.sources) or "held already",
                one.file or one.name,
            )
            for one in result.artifacts
        ],
    )
    total = sum(one.size for one in result.artifacts)
    words = f"{count(len(result.artifacts), 'file')}, {size(total)}"
    remark(words)
    _say_left_out(result.left_out)


def _survey_words(result: SurveyResult) -> None:
    table(
        ("where", "name", "version", "file"),
        [
            (_where(one), one.name, one.version, one.file or one.digest)
            for one in result.entries
        ],
    )
    words = ", ".join(f"{number} {state}" for state, number in result.counts.items())
    remark(words)
    _say_left_out(result.left_out)


def _say_left_out(left_out: list[LeftOutEntry]) -> None:
    """Say what has no digest, and so was not looked for."""
    if not left_out:
        return
    names = ", ".join(f"{one.name} {one.version}".strip() for one in left_out[:5])
    more = ", ..." if len(left_out) > 5 else ""
    words = f"left out, {len(left_out)} without a digest: {names}{more}"
    remark(words)


def _where(entry: SurveyedFile) -> str:
    if entry.state == "peers":
        return count(entry.peers, "peer")
    return "origin only" if entry.state == "origin" else entry.state


def _adopt_words(result: AdoptResult) -> None:
    for one in result.artifacts:
        say(f"{one.digest}  {one.file}")
    shared = count(len(result.artifacts), "file")
    words = f"{shared} offered, of {result.looked_at} looked at"
    remark(words)
