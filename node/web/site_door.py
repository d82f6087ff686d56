"""The site door: package managers on other machines read this node's gateway.

It is a second HTTP server beside the owner's door (`node.web.door`). It has the package
routes and `/health`, and nothing of the API, the dashboard or the owner's token. Who
may use it is decided in `node.web.site_guard`; this file owns the sockets and shares
them fairly between clients.

1. A client has a bounded number of connections and of requests under way. What is
   beyond the first is closed, oldest silent one first; what is beyond the second waits.
2. A connection that stays silent is closed, and so is one whose client does not read.
3. The token may stand in the path (`/token/TOKEN/...`), for clients that can neither
   send a header nor a password. URLs that leave an index then carry it as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

from dht import Address
from node.errors import UsageError
from node.gateway.fair_line import CLIENT
from node.settings.site import SiteSettings, read_token
from node.web import limits
from node.web.guard import Refusal
from node.web.headers import BASE, SOURCE, SOURCE_HEADER
from node.web.metrics import Metrics, metrics_response, timed
from node.web.server import Server, cannot_open, refused
from node.web.site_guard import SiteGuard, SiteRequest
from transfer.connection.peer import source_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler

    from node.web.api import Runs
    from node.web.gateway.routes import GatewayRoutes


_HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Server": "caravan",
}


class SiteDoor:
    """The HTTP server for a site; `start` opens it, `stop` closes it."""

    def __init__(
        self,
        site: SiteSettings,
        gateway: GatewayRoutes,
        node: Runs,
        *,
        metrics: Metrics,
    ) -> None:
        self._node = node
        self._metrics = metrics
        self._shows_metrics = site.metrics
        token = "" if site.token_file is None else read_token(site.token_file)
        self._guard = SiteGuard.of(site.networks, site.hosts, token)
        self._token_path = f"/token/{token}" if token else ""
        self._tls = _tls_context(site)
        self._listen = site.listen
        self._gateway = gateway
        self._turns = ClientTurns(limits.SITE_REQUESTS_PER_CLIENT_MAX)
        self._server = Server(limits.site_bounds())

    async def start(self) -> list[Address]:
        """Open every address; return where the door is open. Raises NodeError."""
        app = self._new_app()
        if self._token_path:
            app.add_subapp(self._token_path, self._new_app(inner=True))
        await self._server.prepare(app, __name__)
        bound: list[Address] = []
        for text in self._listen:
            wanted = Address.parse(text)
            try:
                port = self._server.open(wanted, self._tls)
            except OSError as error:
                await self.stop()
                raise cannot_open(
                    f"the site address {wanted}", error, "--serve HOST:PORT"
                ) from error
            bound.append(Address(wanted.host, port))
        return bound

    async def stop(self) -> None:
        """Close the door; answers under way are cut."""
        await self._server.stop()

    def _new_app(self, *, inner: bool = False) -> web.Application:
        middlewares = [] if inner else [self._middleware]
        app = web.Application(client_max_size=0, middlewares=middlewares)
        app.router.add_get("/health", _health)
        if self._shows_metrics:
            app.router.add_get("/metrics", self._show_metrics)
        self._gateway.add_to(app.router)
        app.on_response_prepare.append(_add_headers)
        return app

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Check who asks, wait for a turn, and turn refusals into JSON documents."""
        asking = _asking_of(request, self._token_path)
        with self._server.busy(request.protocol):
            try:
                self._guard.check(asking)
                scheme = "http" if self._tls is None else "https"
                path = self._token_path if asking.in_path else ""
                request[BASE] = f"{scheme}://{request.host}{path}"
                source = _source(asking.client)
                CLIENT.set(source)
                async with self._turns.turn(source):
                    with timed(request, self._metrics):
                        return await handler(request)
            except Refusal as refusal:
                return refused(refusal)
            except web.HTTPException as error:
                return refused(Refusal(error.status, error.reason, 2))

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        return await metrics_response(self._metrics, self._node)


class ClientTurns:
    """Requests under way, by client; those beyond a client's share wait."""

    def __init__(self, per_client: int) -> None:
        self._per_client = per_client
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._present: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait until one of the client's requests has ended, where it has too many."""
        if self._present[client] >= limits.SITE_WAITING_PER_CLIENT_MAX:
            raise Refusal(429, "too many requests of this client wait", Retry_After="1")
        turns = self._turns.setdefault(client, asyncio.Semaphore(self._per_client))
        self._present[client] += 1
        try:
            async with turns:
                yield
        finally:
            self._present[client] -= 1
            if not self._present[client]:
                del self._present[client], self._turns[client]


def _source(host: str) -> str:
    """Return what counts as one client: in public IPv6 a /64, which one host has."""
    return source_of(host) if host else ""


def _asking_of(request: web.Request, token_path: str) -> SiteRequest:
    """Read what the guard needs from a request."""
    transport = request.transport
    if transport is None:
        raise Refusal(400, "the client went away")
    peer = transport.get_extra_info("peername") or ("",)
    own = transport.get_extra_info("sockname") or ("",)
    hosts = request.headers.getall("Host", [])
    given = request.headers.getall("Authorization", [])
    return SiteRequest(
        client=str(peer[0]),
        local=str(own[0]),
        host=hosts[0] if len(hosts) == 1 else "",
        authorization=given[0] if len(given) == 1 else "",
        origin=request.headers.get("Origin"),
        fetch_site=request.headers.get("Sec-Fetch-Site", ""),
        in_path=bool(token_path) and request.path.startswith(token_path + "/"),
    )


def _tls_context(site: SiteSettings) -> ssl.SSLContext | None:
    if site.certificate is None and site.key is None:
        return None
    if site.certificate is None or site.key is None:
        raise UsageError("[site]: certificate and key belong together: name both files")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(site.certificate, site.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"cannot use {site.certificate} and {site.key} as certificate and key: "
            f"{error.strerror or error}"
        ) from error
    return context


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"ok": True})


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    if SOURCE in request:
        response.headers[SOURCE_HEADER] = request[SOURCE]
    response.headers.update(_HEADERS)
