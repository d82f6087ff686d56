"""Man pages, made from the help of the commands: `python -m node.cli.man FOLDER`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from node.cli.run import caravan
from node.version import VERSION


def pages() -> dict[str, str]:
    """Return all man pages by file name: caravan.1, caravan-fetch.1, ..."""
    found: dict[str, str] = {}
    root = help_context(caravan, "caravan")
    waiting: list[tuple[click.Command, click.Context]] = [(caravan, root)]
    while waiting:
        command, context = waiting.pop(0)
        name = context.command_path.replace(" ", "-")
        found[f"{name}.1"] = _page(command, context, name)
        if isinstance(command, click.Group):
            for word in command.list_commands(context):
                inner = command.get_command(context, word)
                if inner is not None and not inner.hidden:
                    below = help_context(inner, word, context)
                    waiting.append((inner, below))
    return found


def help_context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    """Return the context in which the command line itself shows the help."""
    settings = command.context_settings
    return click.Context(command, parent=parent, info_name=name, **settings)


def _page(command: click.Command, context: click.Context, name: str) -> str:
    """Return one page as roff text (man 7 man)."""
    summary, _, rest = (command.help or "").partition("\n\n")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH {_escaped(name).upper()} 1 "" "Caravan {VERSION}" "Caravan"',
        ".SH NAME",
        f"{_escaped(name)} \\- {_escaped(_joined(summary).rstrip('.'))}",
        ".SH SYNOPSIS",
        f".B {_escaped(context.command_path)}",
        _escaped(usage),
        ".SH DESCRIPTION",
        *_paragraphs(f"{summary}\n\n{rest}"),
    ]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            if inner is not None and not inner.hidden:
                lines += _entry(word, inner.get_short_help_str(500))
    lines.append(".SH OPTIONS")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            lines += _entry(*record)
    lines += _examples(command)
    lines += [".SH SEE ALSO", ".BR caravan (1)", ".PP", "caravan help COMMAND"]
    return "\n".join(lines) + "\n"


def _examples(command: click.Command) -> list[str]:
    examples = getattr(command, "examples", ())
    if not examples:
        return []
    shown = [_escaped(example) for example in examples]
    return [".SH EXAMPLES", ".nf", *shown, ".fi"]


def _entry(name: str, text: str) -> list[str]:
    return [".TP", f".B {_escaped(name)}", _escaped(_joined(text))]


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if words := _joined(paragraph):
            lines += [".PP", _escaped(words)]
    return lines


def _joined(text: str) -> str:
    return " ".join(text.split())


def _escaped(text: str) -> str:
    """Return text that roff prints as it is."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", safe)


def main() -> int:
    """Write all pages into the folder that is named, and nothing else there."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("caravan*.1"):
        old.unlink()
    for name, text in pages().items():
        (folder / name).write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
