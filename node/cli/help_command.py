"""The commands `help` and `completion`."""

from __future__ import annotations

import click

from node.cli.answer import Fields
from node.cli.group import CliCommand
from node.cli.session import Session

_HOW = {
    "bash": 'eval "$(caravan completion bash)"    # in ~/.bashrc',
    "zsh": 'eval "$(caravan completion zsh)"     # in ~/.zshrc',
    "fish": "caravan completion fish | source      # in ~/.config/fish/config.fish",
}


@click.command("help", cls=CliCommand, examples=["caravan help", "caravan help fetch"])
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_command(context: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command, or list all commands."""
    session: Session = context.obj
    root = context.find_root()
    command, inner = root.command, root
    for word in words:
        found = (
            command.get_command(inner, word)
            if isinstance(command, click.Group)
            else None
        )
        if found is None:
            raise click.UsageError(f"there is no command {' '.join(words)!r}", root)
        inner = click.Context(found, info_name=word, parent=inner)
        command = found
    text = command.get_help(inner)
    session.answer(Fields(help=text), lambda _: click.echo(text))


@click.command(cls=CliCommand, examples=list(_HOW.values()))
@click.argument("shell", type=click.Choice(sorted(_HOW)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for bash, zsh or fish.

    It completes commands, options, files, and the names of packages that this node
    holds.
    """
    from click.shell_completion import get_completion_class

    session: Session = context.obj
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    made = kind(context.find_root().command, {}, "caravan", "_CARAVAN_COMPLETE")
    script = made.source_template % made.source_vars()
    session.answer(Fields(shell=shell, script=script), lambda _: click.echo(script))
