"""Nodes as processes of their own: started, asked and ended through the real CLI.

Nothing here reaches into a node. What it says comes from the commands that anybody
types, so the demo and the end-to-end tests see what a user sees. Every process is
ended by the handle that started it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from node.errors import NodeError

COMMAND_SECONDS_MAX = 40.0
READY_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 5.0
POLL_SECONDS = 0.02

CARAVAN = (sys.executable, "-m", "node.cli.main")
LIAR = (sys.executable, "-m", "node.demo.liar")

T = TypeVar("T")


class ProcessError(NodeError):
    """A `caravan` process did not do what it was asked to."""


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """How one command ended: its exit code, its document and what it said beside it."""

    exit_code: int
    document: dict[str, Any]
    said: str
    seconds: float


def clean_environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without the user's own node in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("CARAVAN_")
    }
    return kept | {"PYTHONUNBUFFERED": "1"} | dict(changes or {})


def wait_until(probe: Callable[[], T | None], seconds: float, what: str) -> T:
    """Return the first result of `probe` that is true; ProcessError if none comes."""
    deadline = time.monotonic() + seconds
    while True:
        if result := probe():
            return result
        if time.monotonic() > deadline:
            raise ProcessError(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def run_caravan(
    *arguments: str,
    environment: Mapping[str, str],
    seconds: float = COMMAND_SECONDS_MAX,
    show_progress: bool = False,
) -> CommandOutcome:
    """Run one command with `--json` and return how it ended.

    With `show_progress` what it writes to stderr, its progress bar among it, goes to
    the terminal of this process.
    """
    started = time.monotonic()
    try:
        done = subprocess.run(
            [*CARAVAN, *arguments, "--json"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=None if show_progress else subprocess.PIPE,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProcessError(
            f"`caravan {' '.join(arguments)}` did not end within {seconds:.0f} s"
        ) from error
    return CommandOutcome(
        done.returncode,
        _document(done.stdout),
        (done.stderr or "").strip(),
        time.monotonic() - started,
    )


class Process:
    """A process that says in one line when it is ready, and is ended by its handle."""

    def __init__(
        self, folder: Path, name: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        self._environment = clean_environment(environment)
        self._said = folder / f"{name}.out"
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where others reach it, HOST:PORT; only once it is ready."""
        return str(self.ready["address"])

    @property
    def pid(self) -> int:
        """Its process id; ProcessError if it was never started."""
        return self._handle.pid

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote to stderr since it was first started."""
        return self._log.read_text("utf-8") if self._log.exists() else ""

    def launch(self, *command: str) -> None:
        """Start the process without waiting for it."""
        if self.running:
            raise ProcessError(f"{self.name} is running already")
        # A session of its own: Ctrl-C reaches only the demo, which then ends its nodes.
        with (
            signals_held(),
            self._said.open("wb") as said,
            self._log.open("ab") as log,
        ):
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = READY_SECONDS_MAX) -> dict[str, Any]:
        """Wait for the line that says it is ready; ProcessError if it ends before."""

        def ready() -> dict[str, Any] | None:
            ended = not self.running
            line, newline, _ = self._said.read_text("utf-8").partition("\n")
            if newline:
                return _document(line)
            if ended:
                raise ProcessError(f"{self.name} ended at once: {self.log[-500:]}")
            return None

        self.ready = wait_until(ready, seconds, f"{self.name} becoming ready")
        return self.ready

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is alive."""
        if self.running:
            self._handle.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS_MAX) -> int:
        """Wait for its end; returns the exit code, negative if it was killed."""
        try:
            return self._handle.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise ProcessError(
                f"{self.name} did not end within {seconds:.0f} s"
            ) from error

    def kill(self) -> None:
        """End it as a power cut would, and wait until it is gone."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()

    def stop(self, seconds: float = STOP_SECONDS_MAX) -> int:
        """End it as an operator would; returns its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    @property
    def _handle(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProcessError(f"{self.name} was never started")
        return self._process


class NodeProcess(Process):
    """A home folder, and the node that runs on it from time to time."""

    def __init__(
        self, folder: Path, name: str, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, name, environment)
        self.home = folder / name

    def start(self, *arguments: str, listen: str = "127.0.0.1:0") -> None:
        """Start `caravan join` without waiting for it."""
        options = ["--listen", listen, "--web", "127.0.0.1:0", "--json"]
        self.launch(*CARAVAN, "--home", str(self.home), "join", *arguments, *options)

    def join(self, *contacts: str, listen: str = "127.0.0.1:0") -> None:
        """Start the node and wait until it is ready."""
        self.start(*contacts, listen=listen)
        self.wait_ready()

    def run(
        self,
        *arguments: str,
        seconds: float = COMMAND_SECONDS_MAX,
        show_progress: bool = False,
    ) -> CommandOutcome:
        """Run one command against this node, however it ends."""
        return run_caravan(
            *("--home", str(self.home), *arguments),
            environment=self._environment,
            seconds=seconds,
            show_progress=show_progress,
        )

    def ask(
        self,
        *arguments: str,
        seconds: float = COMMAND_SECONDS_MAX,
        show_progress: bool = False,
    ) -> dict[str, Any]:
        """Run one command that must succeed, and return its document."""
        answer = self.run(*arguments, seconds=seconds, show_progress=show_progress)
        if answer.exit_code != 0:
            raise ProcessError(
                f"{self.name}: `caravan {' '.join(arguments)}` ended with exit code "
                f"{answer.exit_code}: {answer.said or answer.document}"
            )
        return answer.document


class LiarProcess(Process):
    """A peer that offers a file by its right digest and sends wrong bytes of it."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self._folder = folder / name

    def offer(self, file: Path, contact: str) -> dict[str, Any]:
        """Start it on `file`, joined through `contact`; returns what it offers."""
        self.launch(*LIAR, str(self._folder), str(file), contact)
        return self.wait_ready()


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold back signals that raise, so that no process is started and then forgotten.

    Those that come meanwhile are raised afterwards. Only the main thread gets any.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda one, _frame: came.append(one))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for one in came:
            signal.raise_signal(one)


def end_all(nodes: Sequence[Process]) -> list[str]:
    """End every node, all at the same time; returns the names that had to be killed."""
    for node in nodes:
        node.signal(signal.SIGTERM)
    killed = []
    for node in nodes:
        try:
            if node.running:
                node.wait()
        except ProcessError:
            killed.append(node.name)
            node.kill()
    return killed


def _document(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`; an empty one where there is none."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}
