"""An origin on loopback: an index and its files, which can die, and counts requests."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class _Server(ThreadingHTTPServer):
    """Can close the connections that clients keep for later as well."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


class Origin:
    """Serves `files`, by path, until it is stopped; use it as a context manager."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.files: dict[str, tuple[bytes, str]] = {}
        self.redirects: dict[str, str] = {}
        """Where paths lead, as the Location header says it."""
        self.asked: list[str] = []
        """The paths of all requests, in order."""
        self.headers: list[Message] = []
        """Their headers."""
        self.on_request: Callable[[str], object] = lambda path: None
        """Called with the path of each request, before it is answered."""
        self.posted: list[bytes] = []
        """The bodies of POST requests, which are answered like GET."""
        self._server = _Server((host, 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._running = False

    def __enter__(self) -> Self:
        self._running = True
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.die()

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def put(
        self, path: str, body: bytes, kind: str = "application/octet-stream"
    ) -> str:
        """Serve `body` at `path`; returns its URL."""
        self.files[path] = (body, kind)
        return self.url + path

    def die(self) -> None:
        """Stop at once; later connections are refused."""
        if self._running:
            self._running = False
            self._server.shutdown()
            self._server.server_close()
            for connection in self._server.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def write(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Send a body; an origin of another kind may do it in another way."""
        handler.wfile.write(body)

    def asked_for(self, part: str) -> int:
        """Count the requests whose path contains `part`."""
        return sum(part in path for path in self.asked)

    def askers(self, since: int = 0) -> set[str]:
        """Return the programs that asked, apart from the first `since` requests."""
        agents = (headers.get("User-Agent", "") for headers in self.headers[since:])
        return {agent.partition("/")[0] for agent in agents}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        origin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                origin.asked.append(self.path)
                origin.on_request(self.path)
                origin.headers.append(self.headers)
                if self.path not in origin.files:
                    self._answer(404, b"nothing here", "text/plain")
                    return
                if target := origin.redirects.get(self.path):
                    self.send_response(302)
                    self.send_header("Location", target)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                body, kind = origin.files[self.path]
                etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                if self.headers.get("If-None-Match") == etag:
                    self._answer(304, b"", kind, etag)
                else:
                    self._answer(200, body, kind, etag)

            do_HEAD = do_GET  # noqa: N815 (the names are those of http.server)

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                origin.posted.append(self.rfile.read(length))
                self.do_GET()

            def _answer(self, status: int, body: bytes, kind: str, etag="") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if etag:
                    self.send_header("ETag", etag)
                self.end_headers()
                if self.command != "HEAD":
                    origin.write(self, body)

            def log_message(self, *_: object) -> None:
                """Say nothing: the tests look at `asked`."""

        return Handler
