"""What the shell completes for TARGET and PUBLISHER/NAME: what this node knows.

Nothing is printed and nothing fails here: a shell shows every word that comes out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from node.cli import client
from node.errors import NodeError
from node.settings.home import home_folder

if TYPE_CHECKING:
    from collections.abc import Callable

COMPLETIONS_MAX = 500


class TargetType(click.ParamType[str]):
    """A target, which is read by the node; completed from packages and follows."""

    name = "target"

    def __init__(self, *, has_files: bool = False, has_digests: bool = False) -> None:
        self._has_files = has_files
        self._has_digests = has_digests

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002 (the names are those of click)
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the targets that begin with `incomplete`."""
        home = ctx.find_root().params.get("home")
        names = known_targets(lambda command: _asked(home, command))
        if not self._has_digests:
            names = [name for name in names if not name.startswith("sha256:")]
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        if self._has_files and not found:
            return [CompletionItem(incomplete, type="file")]
        return found[:COMPLETIONS_MAX]


def known_targets(ask: Callable[[str], Any]) -> list[str]:
    """Return PUBLISHER/NAME of what is held or followed, by nickname, and digests."""
    nicknames: dict[str, str] = {}
    names: set[str] = set()
    digests: list[str] = []
    if (follows := ask("follows")) is not None:
        for one in follows.follows:
            if one.nickname:
                nicknames[one.publisher] = one.nickname
            names.add(f"{one.nickname or one.publisher}/{one.name}")
    if (held := ask("list")) is not None:
        for package in held.packages:
            publisher = nicknames.get(package.publisher, package.publisher)
            names.add(f"{publisher}/{package.name}")
        digests = [artifact.digest for artifact in held.artifacts]
    return [*sorted(names), *digests]


def _asked(home: Any, command: str) -> Any:
    try:
        return client.ask(
            home_folder(home), command, arguments={}, show=lambda _event: None
        )
    except (NodeError, OSError):
        return None
