"""The node that a command uses: one that runs already, or one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING

from node.web.relay import NodeGoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

START_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 10.0
PROBE_SECONDS_MAX = 1.0
STARTS_MAX = 3


class Supervisor:
    """Finds the web door of a node in `home`, and starts a node where none answers.

    `running` is HOST:PORT of the web door of a node that runs already; it is left alone
    at the end. `arguments` go to the `join` of a node that is started here, which
    `close` stops. `say` is called with one sentence when a node is lost.
    """

    def __init__(
        self,
        home: Path,
        *,
        running: str | None,
        arguments: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self._home = home
        self._web = running
        self._arguments = arguments
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._starts = 0
        self._lock = asyncio.Lock()

    async def web(self, failed: str | None) -> str:
        """Return HOST:PORT of a node's web door; `failed` did not answer just now.

        Raises NodeGoneError.
        """
        if self._web is not None and failed != self._web:
            return self._web
        async with self._lock:
            if self._web is not None:
                if failed != self._web or await _answers(self._web):
                    return self._web
                self._say("the node stopped answering; starting another one")
                self._web = None
            await self._end()
            self._web = await self._start()
            return self._web

    async def close(self) -> None:
        """Stop the node, if it was started here."""
        async with self._lock:
            await self._end()

    @property
    def started(self) -> bool:
        """Whether a node of our own is running."""
        return self._process is not None and self._process.returncode is None

    async def _start(self) -> str:
        if self._starts == STARTS_MAX:
            raise NodeGoneError("the node stopped again and again")
        self._starts += 1
        # A group of its own: Ctrl-C in the terminal is meant for the command.
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "node.cli.main", "--home", str(self._home), "--json",
            "join", "--web", "127.0.0.1:0", *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        if process.stdout is None or process.stderr is None:
            raise NodeGoneError("the node could not be started")
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        try:
            return str(json.loads(line)["web"])
        except (ValueError, KeyError, TypeError):
            await self._end()
            with contextlib.suppress(ValueError, AttributeError):
                line = str(json.loads(line)["error"]).encode()
            why = line.decode("utf-8", "replace").strip()
            raise NodeGoneError(f"the node could not be started: {why}") from None

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _answers(web: str) -> bool:
    """Tell whether something accepts connections at HOST:PORT."""
    host, _, port = web.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
