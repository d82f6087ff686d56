"""The HTTP doors of a node: one for its owner, and one for its site."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

from dht import Address
from node.gateway.service import Gateway
from node.local_socket import listen_local
from node.settings import Settings
from node.web.api import Runs
from node.web.door import Door
from node.web.gateway.routes import GatewayRoutes
from node.web.gateway.serving import FileSender
from node.web.metrics import Metrics
from node.web.site_door import SiteDoor
from transfer import Store


class Doors:
    """Opens the doors, and says where they are.

    `token` is what the API wants; only the owner can read it, in node.json.
    """

    def __init__(
        self, node: Runs, settings: Settings, *, gateway: Gateway, store: Store
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        self.web: Address | None = None
        self.site: Address | None = None
        self._node = node
        self._settings = settings
        self._gateway = gateway
        self._store = store

    async def open(self, stack: AsyncExitStack) -> None:
        """Open them, and let `stack` close them. Raise NodeError for a taken port."""
        routes = GatewayRoutes(self._gateway, FileSender(self._store))
        door = Door(
            self._node,
            self.token,
            routes,
            uploads=self._settings.home / "uploads",
        )
        self.web = await door.start(self._settings.web)
        stack.push_async_callback(door.stop)
        door.listen_also(listen_local(self._settings.home))
        if self._settings.site.listen:
            await self._open_site_door(stack, door.metrics)

    async def _open_site_door(self, stack: AsyncExitStack, metrics: Metrics) -> None:
        site = self._settings.site
        routes = GatewayRoutes(
            self._gateway, FileSender(self._store), with_credentials=site.private
        )
        door = SiteDoor(site, routes, self._node, metrics=metrics)
        stack.push_async_callback(door.stop)
        self.site, *_ = await door.start()
