"""What both doors are made of: the HTTP server, its headers, and idle connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from node.errors import NodeError
from node.web import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from aiohttp.web_protocol import RequestHandler

    from node.web.guard import Refusal

    Overdue = Callable[[list[RequestHandler], float], list[RequestHandler]]


class Server:
    """An HTTP server that closes connections which `overdue` names, again and again."""

    def __init__(self, overdue: Overdue) -> None:
        """`overdue` gets all open connections and the time, in seconds."""
        self._overdue = overdue
        self._runner: web.AppRunner | None = None
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def runner(self) -> web.AppRunner | None:
        """The runner of the server that is open; None where none is."""
        return self._runner

    async def prepare(self, app: web.Application, name: str) -> web.AppRunner:
        """Make the server of an application, to which sites can be added then."""
        # The server's own log could quote a malformed request, and so a token.
        silent = logging.getLogger(f"{name}.http")
        silent.setLevel(logging.CRITICAL + 1)
        runner = web.AppRunner(
            app,
            access_log=None,
            logger=silent,
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=limits.HEADER_BYTES_MAX,
            max_field_size=limits.HEADER_BYTES_MAX,
            max_headers=limits.HEADERS_MAX,
            lingering_time=1.0,
            shutdown_timeout=limits.STOP_SECONDS_MAX,
        )
        await runner.setup()
        self._runner = runner
        self._sweeper = asyncio.create_task(self._sweep(runner))
        return runner

    async def stop(self, before_cleanup: Callable[[], None] | None = None) -> None:
        """Close the sites, do what comes before the answers are cut, and end."""
        sweeper, self._sweeper = self._sweeper, None
        runner, self._runner = self._runner, None
        if sweeper is not None:
            sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeper
        if runner is not None:
            for site in list(runner.sites):
                await site.stop()
            if before_cleanup is not None:
                before_cleanup()
            await runner.cleanup()

    async def _sweep(self, runner: web.AppRunner) -> None:
        loop = asyncio.get_running_loop()
        while runner.server is not None:
            for connection in self._overdue(runner.server.connections, loop.time()):
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(limits.SWEEP_SECONDS)


def cannot_open(what: str, error: OSError, flag: str) -> NodeError:
    """Return the error for an address that could not be listened on.

    `flag` is how a person chooses another.
    """
    if error.errno == errno.EADDRINUSE:
        return NodeError(
            f"{what} is taken by another program; choose another with {flag}"
        )
    return NodeError(f"cannot open {what}: {error.strerror}")


class IdleConnections:
    """Since when each connection has been without a whole request."""

    def __init__(self) -> None:
        self._busy: set[RequestHandler] = set()
        self._quiet_since: dict[RequestHandler, float] = {}

    @contextlib.contextmanager
    def busy(self, connection: RequestHandler) -> Iterator[None]:
        """Mark `connection` as one whose request is being answered."""
        self._busy.add(connection)
        self._quiet_since.pop(connection, None)
        try:
            yield
        finally:
            self._busy.discard(connection)

    def quiet(
        self, now_open: Iterable[RequestHandler], now: float
    ) -> dict[RequestHandler, float]:
        """Return the connections without a request, and since when."""
        self._quiet_since = {
            connection: self._quiet_since.get(connection, now)
            for connection in now_open
            if connection not in self._busy
        }
        return self._quiet_since


def refused(refusal: Refusal) -> web.Response:
    """Return a refusal as a JSON document."""
    return web.json_response(
        {"error": refusal.sentence, "exit_code": refusal.exit_code},
        status=refusal.status,
        headers=refusal.headers,
    )
