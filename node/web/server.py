"""What both doors are made of: the HTTP server, and the connections it accepts.

The server accepts by itself, so that a connection counts for its source from then on:
one in the middle of a TLS handshake, too, which aiohttp does not know of yet. Who may
stay is decided in admission.py. TLS costs processor time, so handshakes have a rate,
and the sources take turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from typing import TYPE_CHECKING

from aiohttp import web

from node.errors import NodeError
from node.web import limits
from node.web.admission import DoorBounds, DoorConnection, DoorRoom
from transfer.connection.peer import source_of
from transfer.seeding.admission import Handshake
from transfer.seeding.tls_turns import TlsTurns

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

    from aiohttp.web_protocol import RequestHandler

    from dht import Address
    from node.web.guard import Refusal

OWNER = "owner"
"""The source of what comes through a socket in the file system."""
BACKLOG = 512
_PAUSE_SECONDS = 0.1
_ACCEPTED_AT_ONCE = 64
_log = logging.getLogger(__name__)


class Server:
    """An HTTP server whose connections are bounded, in total and for each source."""

    def __init__(self, bounds: DoorBounds) -> None:
        self.room = DoorRoom(bounds, self._left)
        self._runner: web.AppRunner | None = None
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[RequestHandler, DoorConnection] = {}
        self._turns = TlsTurns(limits.TLS_PER_SECOND)

    async def prepare(self, app: web.Application, name: str) -> None:
        """Make the server of an application, which `listen` opens then."""
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
        self._spawn(self._sweep())

    def open(self, address: Address, tls: ssl.SSLContext | None = None) -> int:
        """Accept connections at an address; return the port. Raises OSError."""
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        bound = socket.create_server(
            (address.host, address.port), family=family, backlog=BACKLOG
        )
        self.listen(bound, tls)
        return int(bound.getsockname()[1])

    def listen(self, bound: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        """Accept connections at a listening socket, which the server then owns."""
        if self._runner is None or self._runner.server is None:
            bound.close()
            raise RuntimeError("the server is not prepared")
        bound.setblocking(False)
        self._listeners.append(bound)
        self._watch(bound, self._runner.server, tls)

    @contextlib.contextmanager
    def busy(self, handler: RequestHandler) -> Iterator[None]:
        """Mark a connection as one whose request is being answered."""
        connection = self._connections.get(handler)
        if connection is None:
            yield
            return
        self.room.busy(connection)
        try:
            yield
        finally:
            self.room.answered(connection, time.monotonic())

    async def stop(self, before_cleanup: Callable[[], None] | None = None) -> None:
        """Accept no more, do what comes before the answers are cut, and end."""
        runner, self._runner = self._runner, None
        for bound in self._listeners:
            asyncio.get_running_loop().remove_reader(bound)
            bound.close()
        self._listeners.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.room.close()
        if runner is not None:
            if before_cleanup is not None:
                before_cleanup()
            await runner.cleanup()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _accept(
        self, listener: socket.socket, server: web.Server, tls: ssl.SSLContext | None
    ) -> None:
        """Take what waits at a listener, a few at a time."""
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.warning("no connection can be accepted now: %s", error.strerror)
                self._pause(listener)
                asyncio.get_running_loop().call_later(
                    _PAUSE_SECONDS, self._watch, listener, server, tls
                )
                return
            source = source_of(peer[0]) if peer else OWNER
            if self.room.make(source, time.monotonic()):
                sock.setblocking(False)
                self._take(sock, source, server=server, tls=tls)
            else:
                sock.close()

    def _watch(
        self, listener: socket.socket, server: web.Server, tls: ssl.SSLContext | None
    ) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(
                listener, self._accept, listener, server, tls
            )

    def _pause(self, listener: socket.socket) -> None:
        """Accept nothing for now: no descriptor is left."""
        self.room.sweep(time.monotonic())
        asyncio.get_running_loop().remove_reader(listener)

    def _take(
        self,
        sock: socket.socket,
        source: str,
        *,
        server: web.Server,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Count an accepted connection; what it costs comes with its first byte."""
        connection = AcceptedConnection(source, sock)
        self.room.enter(connection, time.monotonic())
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._begin, connection, server, tls)

    def _begin(
        self,
        connection: AcceptedConnection,
        server: web.Server,
        tls: ssl.SSLContext | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(connection.sock)
        connection.greeting = self._spawn(self._greet(connection, server, tls))
        connection.greeting.add_done_callback(lambda _: connection.greeted())

    async def _greet(
        self,
        connection: AcceptedConnection,
        server: web.Server,
        tls: ssl.SSLContext | None,
    ) -> None:
        """Hand a socket to its handler; with TLS, when its turn has come."""
        loop, seconds = asyncio.get_running_loop(), None
        if tls is not None:
            seconds = limits.QUIET_SECONDS_MAX
            await self._turns.wait(Handshake(connection.source, time.monotonic()))
        connection.handler = handler = server()
        self._connections[handler] = connection
        with contextlib.suppress(OSError):  # a handshake that failed
            await loop.connect_accepted_socket(
                lambda: handler, connection.sock, ssl=tls, ssl_handshake_timeout=seconds
            )

    def _left(self, connection: DoorConnection) -> None:
        if (
            isinstance(connection, AcceptedConnection)
            and connection.handler is not None
        ):
            self._connections.pop(connection.handler, None)

    async def _sweep(self) -> None:
        while True:
            self.room.sweep(time.monotonic())
            await asyncio.sleep(limits.SWEEP_SECONDS)


class AcceptedConnection(DoorConnection):
    """A connection: its socket until the first byte, and then its handler."""

    def __init__(self, source: str, sock: socket.socket) -> None:
        super().__init__(source)
        self.sock = sock
        self.handler: RequestHandler | None = None
        self.greeting: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended by itself."""
        return self.greeting is not None and self.greeting.done() and not self._is_open

    def close(self) -> None:
        """End it, whatever it is doing."""
        if self.greeting is None:
            asyncio.get_running_loop().remove_reader(self.sock)
            self.sock.close()
            return
        self.greeting.cancel()
        if self.handler is not None and self.handler.transport is not None:
            self.handler.transport.abort()

    def greeted(self) -> None:
        """Close a socket that was not handed over."""
        if not self._is_open:
            self.sock.close()

    @property
    def _is_open(self) -> bool:
        return self.handler is not None and self.handler.transport is not None


def cannot_open(what: str, error: OSError, flag: str) -> NodeError:
    """Return the error for an address that could not be listened on.

    `flag` is how a person chooses another.
    """
    if error.errno == errno.EADDRINUSE:
        return NodeError(
            f"{what} is taken by another program; choose another with {flag}"
        )
    return NodeError(f"cannot open {what}: {error.strerror}")


def refused(refusal: Refusal) -> web.Response:
    """Return a refusal as a JSON document."""
    return web.json_response(
        {"error": refusal.sentence, "exit_code": refusal.exit_code},
        status=refusal.status,
        headers=refusal.headers,
    )
