"""How commands are declared: shared options, and groups that load them when asked.

`--json` and `--home` are read before and after the command's name alike.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 88}

SYNONYMS = {
    "remove": "unshare",
    "rm": "unshare",
    "delete": "unshare",
    "forget": "unshare",
    "add": "share",
    "seed": "share",
    "upload": "share",
    "get": "fetch",
    "download": "fetch",
    "install": "fetch",
    "find": "lookup",
    "search": "lookup",
    "ls": "list",
    "start": "join",
    "stop": "leave",
    "quit": "leave",
    "info": "status",
    "upgrade": "updates",
    "update": "updates",
    "subscribe": "follow",
    "gc": "clean",
    "prune": "clean",
    "logs": "log",
    "settings": "config",
    "dashboard": "open",
}
"""What people of other programs call a command, for the hint after a slip."""


def _session(context: click.Context) -> Session:
    return context.find_root().ensure_object(Session)


def _set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        _session(context).json = True


def _set_home(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        _session(context).home_flag = value


def shared_options() -> list[click.Parameter]:
    """Return the options that every command has."""
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            expose_value=False,
            callback=_set_home,
            help="The node's folder.  [env var: CARAVAN_HOME]",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_set_json,
            help="Print one JSON document on stdout.",
        ),
    ]


class CliCommand(click.Command):
    """A command with the shared options, whose examples keep their lines."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", SETTINGS)
        super().__init__(*args, **kwargs)
        self.params += shared_options()
        self.examples = examples

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002 (the names are those of click)
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the examples below the options."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"  {example}\n")


class CommandGroup(click.Group):
    """Commands by section; the module of one is loaded when it is asked for.

    `sections` maps a title to {command name: "module:attribute"}.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, str]],
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("context_settings", SETTINGS)
        kwargs.setdefault("no_args_is_help", False)
        super().__init__(*args, **kwargs)
        self.params += shared_options()
        self._sections = sections

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; without any, the help is what was asked for."""
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
    ) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return [name for section in self._sections.values() for name in section]

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Load the command `cmd_name`; None if there is none."""
        for section in self._sections.values():
            if place := section.get(cmd_name):
                module, _, attribute = place.partition(":")
                command = getattr(import_module(module), attribute)
                return command if isinstance(command, click.Command) else None
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with, or say which may be meant."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            known = self.list_commands(ctx)
            meant = [one for one in [SYNONYMS.get(name)] if one in known]
            close = meant or get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            ctx.fail(f"there is no command {name!r}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the commands by section, with the first sentence of their help."""
        for title, names in self._sections.items():
            rows = [
                (name, command.get_short_help_str(66))
                for name in names
                if (command := self.get_command(ctx, name)) is not None
            ]
            with formatter.section(title):
                formatter.write_dl(rows)
