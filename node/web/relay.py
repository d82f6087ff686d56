"""A relay between one command's package manager and a node, for `caravan run`.

The package manager asks the relay, and the relay asks the node. So the command does not
depend on the life of the node: where the node stops in the middle of a file, the relay
asks for another one and goes on from the byte that was reached.

What passes is counted by where the node had it from (`Caravan-Source`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

from dht import Address
from node.web import limits
from node.web.headers import BASE_HEADER, SOURCE_HEADER
from node.web.server import Server

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Mapping,
    )

    from aiohttp import ClientResponse

ATTEMPTS_MAX = 4
CONNECT_SECONDS_MAX = 5.0
SILENCE_SECONDS_MAX = 120.0
BLOCK_BYTES = 256 * 1024

# Hop-by-hop fields (RFC 9110, section 7.6.1), and what aiohttp writes by itself.
_NOT_PASSED_ON = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te",
        "trailer", "transfer-encoding", "upgrade", "host", "content-length", "date",
        "server",
    }
)  # fmt: skip
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RelayTotals:
    """What has passed: files and bytes, and bytes by their source."""

    files: int = 0
    bytes: int = 0
    by_source: Counter[str] = field(default_factory=Counter)


class NodeGoneError(Exception):
    """No node answers, and none could be started."""


class Relay:
    """An HTTP server on loopback that passes everything on to a node.

    `find_node` returns HOST:PORT of a node's web door, starting a node if need be;
    its argument is the one that has just failed, or None. It raises NodeGoneError.
    """

    def __init__(self, find_node: Callable[[str | None], Awaitable[str]]) -> None:
        self.totals = RelayTotals()
        self.lost = False
        """Whether a request failed because no node could be found."""
        self._find_node = find_node
        self._session: ClientSession | None = None
        self._server = Server(limits.door_bounds())
        self._base = ""

    async def start(self) -> str:
        """Open the relay; return its URL without a slash at the end."""
        # A body is passed on as it was sent: digests are of those bytes.
        self._session = ClientSession(
            auto_decompress=False,
            connector=TCPConnector(limit=0),
            timeout=ClientTimeout(
                total=None, connect=CONNECT_SECONDS_MAX, sock_read=SILENCE_SECONDS_MAX
            ),
        )
        app = web.Application(client_max_size=limits.BODY_BYTES_MAX * 16)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        await self._server.prepare(app, __name__)
        port = self._server.open(Address("127.0.0.1", 0))
        self._base = f"http://{Address('127.0.0.1', port)}"
        return self._base

    async def stop(self) -> None:
        """Close the relay and its connections."""
        await self._server.stop()
        if self._session is not None:
            await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {
            name: text
            for name, text in request.headers.items()
            if name.lower() not in _NOT_PASSED_ON
        }
        headers[BASE_HEADER] = self._base
        with self._server.busy(request.protocol):
            body = await request.read()
            asked = _Asked(request.method, request.raw_path, headers, body)
            try:
                async with self._ask(asked) as answer:
                    return await self._answer(request, asked, answer)
            except NodeGoneError as error:
                self.lost = True
                return web.Response(status=502, text=f"{error}\n")

    @contextlib.asynccontextmanager
    async def _ask(self, asked: _Asked) -> AsyncIterator[ClientResponse]:
        """Ask a node; another one where the first cannot be reached."""
        session, failed = self._session, None
        if session is None:
            raise NodeGoneError("the relay is closed")
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(ATTEMPTS_MAX):
                node = await self._find_node(failed)
                request = session.request(
                    asked.method,
                    URL(f"http://{node}{asked.path}", encoded=True),
                    headers=asked.headers,
                    data=asked.body or None,
                    allow_redirects=False,
                )
                try:
                    answer = await stack.enter_async_context(request)
                except (ClientError, TimeoutError) as error:
                    _log.info("%s does not answer: %s", node, error)
                    failed = node
                    continue
                yield answer
                return
        raise NodeGoneError(f"the node at {failed} does not answer")

    async def _answer(
        self, request: web.Request, asked: _Asked, answer: ClientResponse
    ) -> web.StreamResponse:
        """Pass an answer on; cut the connection where its end cannot be had."""
        response = web.StreamResponse(status=answer.status, reason=answer.reason)
        for name, text in answer.headers.items():
            if name.lower() not in _NOT_PASSED_ON:
                response.headers.add(name, text)
        length = answer.content_length
        if length is not None:
            response.content_length = length
        await response.prepare(request)
        sent = 0
        async with contextlib.aclosing(self._body(asked, answer)) as blocks:
            async for block in blocks:
                await response.write(block)
                sent += len(block)
        if asked.method != "HEAD" and length is not None and sent < length:
            if request.transport is not None:
                request.transport.abort()
            return response
        self._count(answer, sent)
        await response.write_eof()
        return response

    async def _body(
        self, asked: _Asked, answer: ClientResponse
    ) -> AsyncGenerator[bytes, None]:
        """Yield a body; where it breaks off, the rest of it from another node."""
        passed = 0
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(ATTEMPTS_MAX):
                try:
                    async for block in answer.content.iter_chunked(BLOCK_BYTES):
                        passed += len(block)
                        yield block
                except (ClientError, TimeoutError) as error:
                    _log.info("the node broke off after %d bytes: %s", passed, error)
                else:
                    return
                rest = _rest_of(asked, answer, passed)
                if rest is None:
                    return
                try:
                    answer = await stack.enter_async_context(self._ask(rest))
                except NodeGoneError:
                    self.lost = True
                    return
                if answer.status != 206:
                    return
                asked, passed = rest, 0

    def _count(self, answer: ClientResponse, sent: int) -> None:
        source = answer.headers.get(SOURCE_HEADER)
        if source is not None and answer.status in (200, 206):
            self.totals.files += answer.status == 200
            self.totals.bytes += sent
            self.totals.by_source[source] += sent


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, as it is sent to a node."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


def _rest_of(asked: _Asked, answer: ClientResponse, passed: int) -> _Asked | None:
    """Return the request for what is missing of an answer; None if it has no range.

    Only a file that is named by its digest has a strong entity tag, so the rest is of
    the same bytes (RFC 9110, section 13.1.5).
    """
    etag, length = answer.headers.get("ETag", ""), answer.content_length
    if asked.method != "GET" or not etag.startswith('"') or length is None:
        return None
    first, last = 0, length - 1
    if answer.status == 206:
        span = answer.headers.get("Content-Range", "").removeprefix("bytes ")
        start, _, end = span.partition("/")[0].partition("-")
        if not (start.isdigit() and end.isdigit()):
            return None
        first, last = int(start), int(end)
    elif answer.status != 200:
        return None
    headers = {
        name: text
        for name, text in asked.headers.items()
        if name.lower() not in ("range", "if-range", "if-none-match")
    }
    headers |= {"Range": f"bytes={first + passed}-{last}", "If-Range": etag}
    return replace(asked, headers=headers)
