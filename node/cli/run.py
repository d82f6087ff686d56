"""Runs one command and turns whatever happens into an exit code and a sentence."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from node.cli.answer import Fields
from node.cli.group import CommandGroup
from node.cli.session import Session
from node.cli.text import remark
from node.errors import INTERRUPTED, NodeError, clause
from node.version import VERSION

PIPE_CLOSED = 141
"""The exit code after a closed pipe, as shells have it: 128 and SIGPIPE."""

_SECTIONS = {
    "The node": {
        "join": "node.cli.join:join",
        "leave": "node.cli.ask:leave",
        "invite": "node.cli.invite:invite",
        "status": "node.cli.ask:status",
        "peers": "node.cli.ask:peers",
        "doctor": "node.cli.checkup:doctor",
        "log": "node.cli.log_command:log",
        "open": "node.cli.open_command:open_dashboard",
        "config": "node.cli.config_command:config",
        "service": "node.cli.service_command:service",
        "demo": "node.cli.local:demo",
        "help": "node.cli.help_command:help_command",
        "completion": "node.cli.help_command:completion",
    },
    "Files by digest": {
        "lookup": "node.cli.ask:lookup",
        "share": "node.cli.content:share",
        "unshare": "node.cli.content:unshare",
        "fetch": "node.cli.content:fetch",
        "list": "node.cli.content:list_artifacts",
        "pin": "node.cli.content:pin",
        "unpin": "node.cli.content:unpin",
        "clean": "node.cli.upkeep:clean",
        "verify": "node.cli.upkeep:verify",
    },
    "Package managers": {
        "run": "node.cli.run_command:run",
        "connect": "node.cli.connect:connect",
        "lockfile": "node.cli.lockfile_clean:lockfile",
    },
    "Packages and releases": {
        "publish": "node.cli.releases:publish",
        "show": "node.cli.show:show",
        "broadcast": "node.cli.releases:broadcast",
        "follow": "node.cli.releases:follow",
        "unfollow": "node.cli.releases:unfollow",
        "updates": "node.cli.releases:updates",
        "audit": "node.cli.audit:audit",
    },
    "Keys and networks": {
        "key": "node.cli.keys:key",
        "network": "node.cli.local:network",
    },
}


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        session = context.ensure_object(Session)
        session.json = session.json or "--json" in sys.argv
        result = Fields(version=VERSION)
        session.answer(result, lambda _: print(f"caravan {VERSION}"))
        context.exit()


@click.group(
    cls=CommandGroup,
    sections=_SECTIONS,
    epilog="`caravan COMMAND --help` explains a command and shows examples. "
    "Begin with `caravan join`, or see it all at work: `caravan demo`.",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def caravan() -> None:
    """Share and fetch software packages, peer to peer, each checked by its digest.

    Caravan has no server in the middle: every node keeps what it downloads and offers
    it to others. `caravan join` starts this user's node; other commands ask it.
    """


def run(arguments: list[str]) -> int:
    """Run `caravan` with `arguments`; returns the exit code."""
    session = Session()
    is_stdout_closed = _replace_closed_streams()
    try:
        result = caravan.main(
            arguments or ["--help"],
            prog_name="caravan",
            standalone_mode=False,
            obj=session,
        )
        sys.stdout.flush()
        if is_stdout_closed and session.answered:
            return session.fail("cannot write to stdout: it is closed", 1)
    except (KeyboardInterrupt, click.Abort):
        if session.if_interrupted:
            remark(session.if_interrupted)
        return _failed(session, arguments, "interrupted", code=INTERRUPTED)
    except click.ClickException as error:
        sentence = _usage_sentence(error)
        return _failed(session, arguments, sentence, code=error.exit_code)
    except NodeError as error:
        return session.fail(str(error), error.exit_code, error.details)
    except (BrokenPipeError, SystemExit):  # click exits there by itself
        # The reader of our answer has had enough: end in silence, as SIGPIPE does.
        _drop_stdout()
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 (people get a sentence, not a traceback)
        if _is_of_stdout(error):
            _drop_stdout()
        return _failed(session, arguments, _unexpected(error), code=1)
    return result if isinstance(result, int) else 0


def _replace_closed_streams() -> bool:
    """Open what a shell has closed (`>&-`), so that no socket becomes stdout.

    Return whether it was stdout.
    """
    closed = [name for name in ("stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, PTH123
    return "stdout" in closed


def _drop_stdout() -> None:
    """Let what could not be written go nowhere, also when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_of_stdout(error: Exception) -> bool:
    """Tell whether stdout could not be written: its disk or device is full."""
    return isinstance(error, OSError) and error.filename is None


def _failed(session: Session, arguments: list[str], sentence: str, *, code: int) -> int:
    # Where reading the arguments failed, `--json` may not have been reached. What
    # stands behind "--" belongs to another program.
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    session.json = session.json or "--json" in own
    return session.fail(sentence, code)


def _usage_sentence(error: click.ClickException) -> str:
    """Return what was wrong about the arguments, and which help explains them."""
    sentence = _wrong_usage(error)
    context: Any = getattr(error, "ctx", None)
    if context is None:
        return sentence
    return f"{sentence}; see `{context.command_path} --help`"


def _wrong_usage(error: click.ClickException) -> str:
    """Return a sentence of ours for an error that click has found."""
    match error:
        case click.MissingParameter(param=click.Parameter() as param):
            choices = getattr(param.type, "choices", ())
            return f"expected {_written(param)}" + (
                f", one of {', '.join(choices)}" if choices else ""
            )
        case click.BadParameter(param=click.Parameter() as param):
            return f"{_written(param)}: {clause(error.message)}"
        case click.NoSuchOption(option_name=name, possibilities=close):
            hint = f" (did you mean {min(close)!r}?)" if close else ""
            return f"no such option {name!r}{hint}"
    return clause(error.format_message())


def _written(parameter: click.Parameter) -> str:
    """Return how a person writes an option or an argument."""
    if isinstance(parameter, click.Option):
        return parameter.opts[-1]
    name = parameter.metavar or str(parameter.name).upper()
    return name.removesuffix("...")


def _unexpected(error: Exception) -> str:
    if os.environ.get("CARAVAN_TRACE"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or error}{where}"
    return (
        f"internal error: {type(error).__name__}: {error} "
        "(set CARAVAN_TRACE=1 for a traceback)"
    )
