"""The node: one of each part, started in order, joined together, stopped in reverse.

This is the composition root. The parts know each other only by what is passed here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

from dht import Address, Dht, ReleaseRecord
from node import commands, sockets
from node.background import Background
from node.commands import Document, Progress
from node.content.cleaning import Cleaning
from node.content.fetch import Fetch
from node.content.fetch_command import Fetching
from node.content.list_pin import Cache
from node.content.repair import Repair
from node.content.router import ContentRouter
from node.content.share import Share
from node.content.sharing_policy import SharingOf, SharingPolicy
from node.content.withdrawal import Withdrawal
from node.errors import NodeError, UsageError
from node.gateway.prefetch import Lockfiles
from node.gateway.service import Gateway, Surroundings
from node.gateway.upstreams import Upstreams
from node.inspect import Inspect
from node.model import keyfiles
from node.model.catalogue import Catalogue, open_database
from node.model.keys import PublisherKeys, parse_publisher
from node.model.trust_store import TrustStore
from node.releases.alerts import Alerting
from node.releases.follow_command import Following
from node.releases.newest import Releases
from node.releases.publish import Publish
from node.releases.renewal import Renewal
from node.releases.updates import Updates
from node.settings import Settings, Sharing
from node.settings.home import Home
from node.settings.networks import load_network
from node.wallclock import now
from node.web.door import Door
from node.web.gateway.origin_client import HttpOrigin
from node.web.gateway.routes import GatewayRoutes
from transfer import (
    Digest,
    Identity,
    Leecher,
    LeecherLimits,
    Seeder,
    SeederLimits,
    Store,
)

log = logging.getLogger(__name__)

PORT_TRIES = 20
REMEMBER_SECONDS_MAX = 60.0

Run = Callable[[Any, Progress], Awaitable[Document]]


class Node:
    """A running node; `await Node.start(settings)` makes one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopped = asyncio.Event()
        self._stack = AsyncExitStack()
        self._runs: dict[type[commands.Command], Run] = {}

    @classmethod
    async def start(cls, settings: Settings) -> Node:
        """Start everything and join; NodeError is one sentence for a person."""
        node = cls(settings)
        try:
            await node._start()
        except BaseException:
            await node.stop()
            raise
        return node

    async def stop(self) -> None:
        """Stop everything that was started, in reverse."""
        await self._stack.aclose()

    async def run(self, command: commands.Command, progress: Progress) -> Document:
        """Do what a person asked; the document is what `--json` prints."""
        return await self._runs[type(command)](command, progress)

    def describe(self) -> Document:
        """Return who and where this node is."""
        return {
            "node_id": self._dht.node_id.hex(),
            "address": str(self.address),
            "web": str(self._web),
        }

    @property
    def address(self) -> Address:
        """The address that others know this node by, as far as it can tell."""
        bound = self._dht.addresses[0]
        if self._dht.observed is not None:
            return Address(self._dht.observed.host, bound.port)
        if bound.host in ("0.0.0.0", "::"):  # noqa: S104 - a comparison
            return Address("127.0.0.1" if bound.host != "::" else "::1", bound.port)
        return bound

    # --- start ---------------------------------------------------------------

    async def _start(self) -> None:
        settings = self.settings
        self._home = self._stack.enter_context(Home(settings.home))
        self._network = load_network(settings)
        node_key = keyfiles.read_or_new_key(settings.home / "node.key")
        database = open_database(settings.home / "catalogue.sqlite")
        self._stack.callback(database.close)
        self._database = database
        self._catalogue, self._beliefs = Catalogue(database), TrustStore(database)
        self._store = await asyncio.to_thread(
            Store, settings.home, bytes_max=settings.store_bytes
        )
        self._stack.callback(self._store.close)
        self._background = Background()
        self._dht = Dht(
            node_key,
            network=self._network,
            interested=self._interested,
            on_release=self._on_release,
        )
        bound = await self._bind()
        port = sockets.bound_address(bound[0]).port
        identity = Identity(node_key)
        secret = self._network.secret
        self._seeder = Seeder(
            self._store,
            identity,
            network_secret=secret,
            encryption=settings.encryption,
            limits=SeederLimits(bytes_per_second=settings.upload_bytes_per_second),
            may_serve=self._may_serve,
        )
        await self._seeder.start(bound)
        self._stack.push_async_callback(self._seeder.close)
        self._leecher = Leecher(
            self._store,
            identity,
            network_secret=secret,
            encryption=settings.encryption,
            limits=LeecherLimits(bytes_per_second=settings.download_bytes_per_second),
            # Who shares only some of what it has does not serve what comes in.
            port=port if settings.sharing == "all" else 0,
        )
        self._stack.push_async_callback(self._leecher.close)
        self._compose(port)
        self._stack.push_async_callback(self._background.close)
        await self._open_door()
        await self._join()

    async def _bind(self) -> list[socket.socket]:
        """Bind TCP, then UDP on the same ports; again where port 0 met a taken one."""
        addresses = _addresses(self.settings.listen)
        for attempt in range(PORT_TRIES):
            current = addresses[0]
            try:
                bound = sockets.listen(addresses)
                current = sockets.bound_address(bound[0])
                try:
                    await self._dht.start([sockets.bound_address(one) for one in bound])
                except BaseException:
                    sockets.close_all(bound)
                    raise
            except OSError as error:
                if addresses[0].port or attempt == PORT_TRIES - 1:
                    raise sockets.explain(error, current) from error
            else:
                self._stack.push_async_callback(self._dht.close)
                return bound
        raise NodeError("no free port was found")

    def _compose(self, port: int) -> None:
        """Make the parts that know packages and people."""
        settings, catalogue, beliefs = self.settings, self._catalogue, self._beliefs
        store, dht, network = self._store, self._dht, self._network
        offering = SharingPolicy(catalogue, settings.sharing, _sharing_of(settings))
        provide = ContentRouter(
            dht, network, port, store, offering, beliefs, self._background
        )
        fetch = Fetch(
            store, self._leecher, provide, catalogue, weak_digests=settings.weak_digests
        )
        withdrawal = Withdrawal(catalogue)
        rng = random.Random()
        releases = Releases(dht, network, catalogue, beliefs, fetch, rng, now)
        updates = Updates(
            catalogue, beliefs, releases, fetch, provide,
            withdrawal if settings.withdraw else None, rng, now,
        )  # fmt: skip
        alerting = Alerting(
            dht, catalogue, beliefs, releases, provide, self._background, rng, updates,
        )  # fmt: skip
        self._provide = provide
        self._upstreams = Upstreams(settings.upstreams)
        self._surroundings = Surroundings(
            store, self._leecher, provide, catalogue, beliefs, releases,
            self._background, self._database,
        )  # fmt: skip
        self._updates, self._alerting = updates, alerting
        share = Share(store, catalogue, provide)
        keys = PublisherKeys(settings.home)
        self._renewal = Renewal(dht, catalogue, beliefs, releases, keys, rng, now)
        publish = Publish(
            dht, store, catalogue, beliefs, keys, share, fetch,
            releases, updates, alerting, provide, self._renewal, settings.home, now,
        )  # fmt: skip
        following = Following(beliefs, releases, updates, provide, self._background)
        fetching = Fetching(
            store, catalogue, beliefs, fetch, releases, share, following, provide,
            withdrawal,
        )  # fmt: skip
        inspect = Inspect(
            self, dht, store, self._seeder, self._leecher, provide, fetch, settings
        )
        cache, cleaning = self._compose_care(provide, fetch)
        self._runs = _command_table(
            self, inspect, share, fetching, publish, following, cache, cleaning
        )

    def _compose_care(
        self, provide: ContentRouter, fetch: Fetch
    ) -> tuple[Cache, Cleaning]:
        """Make the parts that look after what is held."""
        store, catalogue = self._store, self._catalogue
        cleaning = Cleaning(store, catalogue, provide, now)
        self._repair = Repair(
            store, catalogue, provide, fetch, cleaning, self._background
        )
        return Cache(store, catalogue, self._beliefs, provide), cleaning

    async def _open_door(self) -> None:
        token = secrets.token_urlsafe(32)
        client = HttpOrigin(self._upstreams)
        self._stack.push_async_callback(client.close)
        gateway = Gateway(self.settings, self._surroundings, self._upstreams, client)
        self._stack.push_async_callback(gateway.close)
        lockfiles = Lockfiles(gateway, self._store, self._catalogue, self._provide)
        self._runs |= {
            commands.Prefetch: lockfiles.prefetch,
            commands.Survey: lockfiles.survey,
            commands.Adopt: lockfiles.adopt,
        }
        door = Door(self, token, GatewayRoutes(gateway))
        self._web = await door.start(self.settings.web)
        self._stack.push_async_callback(door.stop)
        self._token = token

    async def _join(self) -> None:
        """Join the network, then offer what is held and ask what is new."""
        # Those that were given may be gone; those of last time help then.
        texts = [*self.settings.contacts, *self._catalogue.contacts()]
        contacts = _addresses(dict.fromkeys(texts))
        answered = await self._dht.join(contacts)
        if contacts and not answered:
            log.warning("none of the contacts has answered yet; trying on")
        self._home.write_card(
            {**self.describe(), "token": self._token, "pid": os.getpid()}
        )
        start = self._background.start
        start(self._provide.sync(), "announcing what is held")
        self._repair.resume()
        start(self._renewal.renew_forever(), "renewing own releases")
        start(self._updates.catch_up_forever(), "catching up")
        start(self._remember_contacts_forever(), "remembering contacts")
        self._stack.callback(self._remember_contacts)

    # The DHT and the seeder are made before the parts that answer them.

    def _interested(self, publisher: bytes, name: str) -> bool:
        return self._alerting.interested(publisher, name)

    def _may_serve(self, digest: Digest, whole: bool) -> bool:
        return self._provide.may_serve(digest, whole=whole)

    def _on_release(self, record: ReleaseRecord) -> bool:
        return self._alerting.on_release(record)

    # --- in the background -----------------------------------------------------

    async def _remember_contacts_forever(self) -> None:
        # Often at first: a node that is killed early must find its network again.
        pause = 1.0
        while True:
            self._remember_contacts()
            await asyncio.sleep(pause)
            pause = min(2 * pause, REMEMBER_SECONDS_MAX)

    def _remember_contacts(self) -> None:
        addresses = [str(one.contact.address) for one in self._dht.contacts()]
        if addresses:
            self._catalogue.remember_contacts(addresses, now())


def _addresses(texts: Iterable[str]) -> list[Address]:
    addresses = []
    for text in texts:
        try:
            addresses.append(Address.parse(text))
        except ValueError as error:
            raise UsageError(str(error)) from error
    return addresses


def _sharing_of(settings: Settings) -> SharingOf:
    """Return what the settings say of single packages, by publisher and name."""
    found: dict[tuple[bytes, str], Sharing] = {}
    for target, sharing in settings.sharing_of.items():
        publisher, _, name = target.partition("/")
        found[parse_publisher(publisher), name] = sharing
    return found


def _command_table(
    node: Node,
    inspect: Inspect,
    share: Share,
    fetching: Fetching,
    publish: Publish,
    following: Following,
    cache: Cache,
    cleaning: Cleaning,
) -> dict[type[commands.Command], Run]:
    """Say which part does what a person can ask for."""

    async def leave(_command: commands.Leave, _progress: Progress) -> Document:
        node.stopped.set()
        return {"left": True}

    return {
        commands.Status: inspect.status,
        commands.Peers: inspect.peers,
        commands.Doctor: inspect.doctor,
        commands.Lookup: inspect.lookup,
        commands.Share: share.share,
        commands.Fetch: fetching.fetch,
        commands.Publish: publish.publish,
        commands.Delegate: publish.delegate,
        commands.Broadcast: publish.broadcast,
        commands.Follow: following.follow,
        commands.Unfollow: following.unfollow,
        commands.Updates: following.updates,
        commands.List: cache.list,
        commands.Pin: cache.pin,
        commands.Unpin: cache.unpin,
        commands.Clean: cleaning.clean,
        commands.Verify: cleaning.verify,
        commands.Leave: leave,
    }
