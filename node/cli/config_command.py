"""The command `config`: every setting, its value, and where the value comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from node.cli.answer import Fields
from node.cli.files import write_new
from node.cli.group import CliCommand, CommandGroup
from node.cli.session import Session
from node.cli.text import say, table

if TYPE_CHECKING:
    pass


class ConfigGroup(CommandGroup):
    """A group that lists the settings where no command of it is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; options alone are those of the list."""
        names = self.list_commands(ctx)
        is_help = any(one in ("-h", "--help") for one in args) or ctx.resilient_parsing
        if not is_help and not any(one in names for one in args):
            args = [*args, "list"]
        return super().parse_args(ctx, args)


@click.group(
    cls=ConfigGroup,
    sections={
        "Commands": {
            "list": "node.cli.config_command:config_list",
            "init": "node.cli.config_command:config_init",
        }
    },
)
def config() -> None:
    """List all settings and where their values come from.

    Flags of `caravan join` take precedence over CARAVAN_* variables, then come
    config.toml in the node's folder, what the node remembers, and the defaults.
    """


@click.command("list", cls=CliCommand, examples=["caravan config"])
@click.pass_obj
def config_list(session: Session) -> None:
    """List all settings, their values, and where each value comes from."""
    from node.settings.load import load_with_sources
    from node.settings.table import SETTINGS

    loaded = load_with_sources(session.home, {})
    rows = [
        Fields(
            {
                "name": name,
                "value": _plain(getattr(loaded.settings, name)),
                "from": loaded.sources.get(name, "default"),
                "default": setting.default,
            }
        )
        for name, setting in SETTINGS.items()
    ]
    session.answer(Fields(settings=rows), lambda _: _words(rows))


@click.command("init", cls=CliCommand, examples=["caravan config init"])
@click.pass_obj
def config_init(session: Session) -> None:
    """Write a config.toml in which every setting stands as a comment.

    An existing file is never overwritten.
    """
    from node.settings.load import CONFIG_FILE
    from node.settings.table import commented_config

    path = session.home / CONFIG_FILE
    write_new(path, commented_config().encode())
    session.answer(Fields(file=str(path)), lambda _: say(f"written: {path}"))


def _plain(value: object) -> Any:
    """Return a value as JSON has it."""
    from msgspec import to_builtins

    return to_builtins(value, enc_hook=str)


def _words(rows: list[Fields]) -> None:
    table(
        ("setting", "value", "from"),
        [(one["name"], _shown(one), one["from"]) for one in rows],
        optional=("from",),
    )


def _shown(row: Fields) -> str:
    """Return a value for people, or the words of the default."""
    value = row["value"]
    if row["from"] == "default":
        return str(row["default"]).strip('"')
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return json.dumps(value) if isinstance(value, bool | dict) else str(value)
