"""The door: an HTTP server on a loopback address, for the node's owner.

Routes: `/` is the dashboard (`node.web.dashboard`), `/api/COMMAND` is the API, and the
rest is the gateway. What a request must pass is in `node.web.guard`; this file owns the
sockets, cuts clients that are too slow, and gives every answer its headers.
"""

from __future__ import annotations

import logging
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

from aiohttp import web

from dht import Address
from node.errors import UsageError, clause
from node.web import limits
from node.web.api import Api, Runs
from node.web.dashboard import CONTENT_SECURITY_POLICY, Dashboard
from node.web.guard import Refusal, check_source, check_token, host_names
from node.web.headers import SOURCE, SOURCE_HEADER
from node.web.metrics import Metrics, metrics_response, timed
from node.web.openapi import openapi
from node.web.server import Server, cannot_open, refused

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp.typedefs import Handler

    from node.web.gateway.routes import GatewayRoutes

_HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "caravan",
}
_log = logging.getLogger(__name__)


class Door:
    """The HTTP door of one node; the API wants `token`, which its owner can read."""

    def __init__(
        self,
        node: Runs,
        token: str,
        gateway: GatewayRoutes | None = None,
        *,
        uploads: Path | None = None,
    ) -> None:
        self._token = token
        self._gateway = gateway
        self._node = node
        self._dashboard = Dashboard(node, uploads)
        self.metrics = Metrics()
        self._api = Api(node, self._dashboard.new_link)
        self._hosts: frozenset[str] = frozenset()
        self._server = Server(limits.door_bounds())

    async def start(self, address: str) -> Address:
        """Open the door at HOST:PORT, where port 0 is any free one.

        Returns where it is open. Raises UsageError for an address that other machines
        could reach, NodeError where the port is taken.
        """
        wanted = _loopback(address)
        await self._server.prepare(self._new_app(), __name__)
        try:
            port = self._server.open(wanted)
        except OSError as error:
            await self._server.stop()
            raise cannot_open(
                f"the web address {wanted}",
                error,
                "--web HOST:PORT (port 0 is any free one)",
            ) from error
        logging.getLogger().addHandler(self._dashboard.log)
        bound = Address(wanted.host, port)
        self._hosts = host_names([bound])
        return bound

    def listen_also(self, bound: socket.socket) -> None:
        """Answer on a listening socket too, which the door then owns."""
        self._server.listen(bound)

    async def stop(self) -> None:
        """Close the door and end the commands under way with an error."""
        logging.getLogger().removeHandler(self._dashboard.log)
        await self._server.stop(self._api.cancel)

    def _new_app(self) -> web.Application:
        app = web.Application(
            client_max_size=limits.BODY_BYTES_MAX, middlewares=[self._middleware]
        )
        self._dashboard.add_to(app.router)
        app.router.add_route("*", "/api/{command}", self._command)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/ready", _ready)
        if self._gateway is not None:
            self._gateway.add_to(app.router)
        app.on_response_prepare.append(_add_headers)
        return app

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Check who asks; turn every refusal into a JSON document."""
        with self._server.busy(request.protocol):
            try:
                is_owner = self._dashboard.is_owner(request)
                check_source(request, self._hosts, is_owner=is_owner)
                with timed(request, self.metrics):
                    return await handler(request)
            except Refusal as refusal:
                return refused(refusal)
            except web.HTTPException as error:
                return refused(Refusal(error.status, _sentence(error), 2))

    async def _command(self, request: web.Request) -> web.StreamResponse:
        if not self._dashboard.is_owner(request):
            check_token(request, self._token)
        if request.match_info["command"] == "openapi.json":
            return web.json_response(openapi())
        return await self._api.handle(request)

    async def _metrics(self, _request: web.Request) -> web.Response:
        return await metrics_response(self.metrics, self._node)


def _loopback(text: str) -> Address:
    try:
        address = Address.parse(text)
    except ValueError as error:
        raise UsageError(f"web address: {clause(error)}") from error
    if not ip_address(address.host).is_loopback:
        raise UsageError(
            f"the web door opens on a loopback address only, not on {address.host}"
        )
    return address


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    if SOURCE in request:
        response.headers[SOURCE_HEADER] = request[SOURCE]
    caching = response.headers.get("Cache-Control", _HEADERS["Cache-Control"])
    response.headers.update({**_HEADERS, "Cache-Control": caching})


def _sentence(error: web.HTTPException) -> str:
    if error.status == 404:
        return "there is nothing here; commands are POST /api/COMMAND"
    return error.reason


async def _ready(_request: web.Request) -> web.Response:
    return web.json_response({"ready": True})
