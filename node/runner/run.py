"""Runs a command whose package managers ask a node, through a relay of its own.

The command is never worse off than without a node: where none can be had, it runs with
the environment that it was given; where the last one is lost in the middle and the
command fails, it runs once more, without the node. Lockfiles that it wrote name the
origin afterwards, as they would without a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import NodeError
from node.runner import lockfiles
from node.runner.supervisor import Supervisor
from node.runner.tools import command_for, environment_for
from node.runner.uv_project import locked_project, without_node
from node.web.relay import NodeGoneError, Relay, RelayTotals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from node.runner.uv_project import LockedProject

NOT_FOUND = 127  # what a shell answers for a command that is not there
NOT_EXECUTABLE = 126


@dataclass(slots=True)
class CommandRun:
    """How the command ended, and what passed through the relay meanwhile."""

    exit_code: int
    totals: RelayTotals = field(default_factory=RelayTotals)
    direct: bool = False
    """Whether it ran without a node, at least at the end."""


class RunError(NodeError):
    """The command could not be started."""

    def __init__(self, sentence: str, exit_code: int) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


async def run_command(
    command: Sequence[str],
    *,
    home: Path,
    running: str | None,
    arguments: Sequence[str],
    linger_seconds: float,
    say: Callable[[str], None],
    environ: Mapping[str, str] = os.environ,
) -> CommandRun:
    """Run `command` to its end.

    `running` is HOST:PORT of the web door of a node that runs, None to start one in
    `home` with `arguments` for `join`; that one stays `linger_seconds` longer as a
    seeder. `say` prints one sentence for people.
    """
    supervisor = Supervisor(home, running=running, arguments=arguments, say=say)
    relay = Relay(supervisor.web)
    with _signals_for_the_command() as passed_on:
        try:
            await supervisor.web(None)
            gateway = await relay.start()
        except NodeGoneError as error:
            say(f"{error}; running the command without a node")
            return CommandRun(await _end_of(command, environ, passed_on), direct=True)
        try:
            code = await _through(gateway, command, environ=environ, signals=passed_on)
            await _clean_lockfiles(gateway, command, home=home, say=say)
            if code and relay.lost and not passed_on.signalled:
                say("the node was lost; running the command again without it")
                code = await _end_of(command, environ, passed_on)
                return CommandRun(code, relay.totals, direct=True)
            if supervisor.started and linger_seconds > 0 and not passed_on.signalled:
                await passed_on.wait(linger_seconds)
            return CommandRun(code, relay.totals)
        finally:
            await relay.stop()
            await supervisor.close()


async def _through(
    gateway: str,
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    signals: _Signals,
) -> int:
    """Run a command whose package managers ask `gateway`; return its exit code."""
    pointed = environment_for(gateway, environ)
    project = locked_project(command, environ, Path.cwd())
    if project is not None:
        direct = without_node(pointed, environ)
        if (
            await _fill(project, pointed=pointed, direct=direct, signals=signals)
            or project.is_strict
        ):
            pointed = direct
    if signals.signalled:
        return 128 + signal.SIGINT
    return await _end_of(command_for(gateway, command), pointed, signals)


async def _fill(
    project: LockedProject,
    *,
    pointed: Mapping[str, str],
    direct: Mapping[str, str],
    signals: _Signals,
) -> bool:
    """Install a locked project through the node; return whether that was done."""
    with tempfile.TemporaryDirectory(prefix="caravan-run-") as folder:
        file = Path(folder) / "locked.txt"
        code, _ = await _quietly(project.export(file), direct, signals)
        if code:
            return False
        code, python = await _quietly(project.environment(), direct, signals)
        if code or not python:
            return False
        fill = project.fill(file, python.splitlines()[-1])
        code, _ = await _quietly(fill, pointed, signals)
        return code == 0


async def _clean_lockfiles(
    gateway: str, command: Sequence[str], *, home: Path, say: Callable[[str], None]
) -> None:
    """Put the origins' addresses where the command wrote that of the relay."""
    address = gateway.removeprefix("http://")
    if found := await asyncio.to_thread(lockfiles.naming, address, command, Path.cwd()):
        await lockfiles.clean(found, home, say)


class _Signals:
    """Passes SIGTERM and SIGHUP on to the command under way.

    SIGINT reaches it from the terminal by itself; here it only ends the lingering.
    """

    def __init__(self) -> None:
        self.signalled = False
        self.process: asyncio.subprocess.Process | None = None
        self._news = asyncio.Event()

    def on_signal(self, number: int) -> None:
        """Note a signal, and pass it on."""
        self.signalled = True
        self._news.set()
        if self.process is not None and number != signal.SIGINT:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def wait(self, seconds: float) -> None:
        """Wait for a signal, for at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()


@contextlib.contextmanager
def _signals_for_the_command() -> Iterator[_Signals]:
    loop, signals = asyncio.get_running_loop(), _Signals()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, signals.on_signal, number)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _quietly(
    command: Sequence[str], environ: Mapping[str, str], signals: _Signals
) -> tuple[int, str]:
    """Run a command that says nothing; return its exit code and what it printed."""
    if signals.signalled:
        return 1, ""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return NOT_FOUND, ""
    signals.process = process
    try:
        out, _ = await process.communicate()
    finally:
        signals.process = None
    return process.returncode or 0, out.decode("utf-8", "replace").strip()


async def _end_of(
    command: Sequence[str], environ: Mapping[str, str], signals: _Signals
) -> int:
    """Run a command on this terminal; return its exit code as a shell gives it."""
    try:
        process = await asyncio.create_subprocess_exec(*command, env=dict(environ))
    except FileNotFoundError as error:
        raise RunError(f"there is no command {command[0]!r}", NOT_FOUND) from error
    except OSError as error:
        raise RunError(
            f"cannot run {command[0]!r}: {error.strerror}", NOT_EXECUTABLE
        ) from error
    signals.process = process
    try:
        code = await process.wait()
    finally:
        signals.process = None
    return code if code >= 0 else 128 - code
