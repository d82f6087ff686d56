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
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from msgspec import to_builtins

from dht import Address, Dht, ReleaseRecord
from node import commands, results, sockets
from node.background import Background
from node.command_log import logged
from node.commands import Command, Progress, ResultT
from node.content.audit import Auditor
from node.content.cleaning import Cleaning
from node.content.closure import ClosureLimits, Closures
from node.content.eviction import Evictor
from node.content.fetch_command import FetchCommands
from node.content.fetcher import ContentFetcher
from node.content.inventory import Inventory
from node.content.output import OutputWriter
from node.content.pins import Pins
from node.content.repair import Repair
from node.content.router import ContentRouter
from node.content.share import Sharer
from node.content.sharing_policy import SharingPolicy, sharing_of
from node.content.unshare import Unsharer
from node.content.withdrawal import Withdrawal
from node.errors import NodeError
from node.gateway.leases import OriginLeases
from node.gateway.prefetch import Lockfiles
from node.gateway.service import Gateway, Surroundings
from node.gateway.traffic import Traffic
from node.gateway.upstreams import Upstreams
from node.inspect import Inspector
from node.local_socket import listen_local
from node.memory import NodeMemory
from node.model import keyfiles
from node.model.names import is_file_name
from node.model.shared_names import SharedNames
from node.model.totals import Totals
from node.model.written_files import WrittenFiles
from node.publisher_parts import make_publisher_parts
from node.rates import Rates
from node.reach.contacts import is_named, read_addresses, read_contacts
from node.reach.named_contacts import JoinCommands, NamedContacts
from node.reach.service import Reaching
from node.releases.alert_receiver import AlertReceiver
from node.releases.alerts import Alerter
from node.releases.follow_command import FollowCommands
from node.releases.newest import Releases
from node.releases.pipeline import ReleasePipeline
from node.releases.update_output import UpdateOutput
from node.releases.updates import UpdateTracker
from node.settings import Settings
from node.settings.home import Home
from node.settings.networks import load_network
from node.settings.remembered import check_network, remember
from node.storage import open_storage
from node.wallclock import now
from node.web.door import Door
from node.web.gateway.origin_client import HttpOrigin
from node.web.gateway.routes import GatewayRoutes
from node.web.gateway.serving import FileSender
from node.web.metrics import Metrics
from node.web.site_door import SiteDoor
from transfer import (
    Digest,
    Identity,
    Leecher,
    LeecherLimits,
    Seeder,
    SeederLimits,
    StoreError,
)
from transfer.arrivals import Arrivals

log = logging.getLogger(__name__)

PORT_TRIES = 20

Run = Callable[[Any, Progress], Awaitable[Any]]


def _no_progress(_event: dict[str, Any]) -> None:
    """Take no notice of progress."""


class Node:
    """A node; `async with Node(settings) as node` runs it, or `Node.start`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopped = asyncio.Event()
        self._stack = AsyncExitStack()
        self._rng = random.Random()
        self._runs: dict[type[Command[Any]], Run] = {}

    @classmethod
    async def start(cls, settings: Settings) -> Node:
        """Start everything and join; NodeError is one sentence for a person."""
        return await cls(settings).__aenter__()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    def __repr__(self) -> str:
        return f"<Node of {self.settings.home}>"

    async def stop(self) -> None:
        """Stop everything that was started, in reverse."""
        await self._stack.aclose()

    async def run(
        self, command: Command[ResultT], progress: Progress = _no_progress
    ) -> ResultT:
        """Do what a person asked; `progress` takes each progress event.

        Encoded as JSON, the result is what `--json` prints. Raises NodeError.
        """
        work = self._runs[type(command)](command, progress)
        try:
            async with self._mirror.durable():
                result: ResultT = await logged(command, work)
        except StoreError as error:
            raise NodeError(str(error)) from error
        return result

    def traffic(self) -> Traffic:
        """Return what package managers were given since the start."""
        return self._gateway.traffic

    def leases(self) -> dict[str, int]:
        """Return how often this node held an origin lease, or followed a holder."""
        return {f"leases.{name}": n for name, n in self._leases.counts.items()}

    def describe(self) -> results.NodeDescription:
        """Return who and where this node is."""
        return results.NodeDescription(
            node_id=self._dht.node_id.hex(),
            address=str(self.address),
            web=str(self._web),
            site=str(self._site[0]) if self._site else None,
        )

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
        sockets.raise_descriptor_limit()
        settings = self.settings
        self._home = self._stack.enter_context(Home(settings.home))
        check_network(settings.home, settings.network)
        self._network = load_network(settings)
        node_key = keyfiles.read_or_new_key(settings.home / "node.key")
        storage = await open_storage(self._stack, settings)
        self._mirror, self._store = storage.mirror, storage.store
        self._catalogue, self._trust_store = storage.catalogue, storage.trust_store
        self._totals, self._pages = Totals(storage.mirror), storage.pages
        self._bound = storage.bound
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
        self._reaching = Reaching(
            self._dht, self._network, settings=settings, background=self._background
        )
        self._arrivals = Arrivals()
        self._seeder = Seeder(
            self._store,
            identity,
            network_secret=secret,
            encryption=settings.encryption,
            limits=SeederLimits(bytes_per_second=settings.upload_bytes_per_second),
            may_serve=self._may_serve,
            on_opening=self._reaching.openings.received,
            name_of=SharedNames(self._store.database).of,
            arrivals=self._arrivals,
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
            heard=self._reaching.heard,
            connect=self._reaching.connector.connect,
        )
        self._stack.push_async_callback(self._leecher.close)
        self._compose(port)
        self._stack.push_async_callback(self._background.close)
        await self._open_door()
        await self._join()

    async def _bind(self) -> list[socket.socket]:
        """Bind TCP, then UDP on the same ports; again where port 0 met a taken one."""
        addresses = read_addresses(self.settings.listen)
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

    def _compose_router(self, port: int) -> ContentRouter:
        """Make what decides what is offered, and offers it."""
        self._withdrawal = Withdrawal(
            self._catalogue, self._trust_store, enabled=self.settings.withdraw
        )
        policy = SharingPolicy(
            self._catalogue,
            self.settings.sharing,
            of=sharing_of(self.settings.sharing_of),
            withdrawal=self._withdrawal,
        )
        return ContentRouter(
            dht=self._dht,
            network=self._network,
            port=port,
            store=self._store,
            policy=policy,
            trust_store=self._trust_store,
            background=self._background,
            neighbours=self._reaching.neighbours,
            note_introducers=self._reaching.connector.set_introducers,
            is_refused=self._reaching.connector.is_refused,
            reach_of=self._reaching.connector.reach_of,
            queue_aliases=self._leecher.queue_aliases,
        )

    def _compose(self, port: int) -> None:
        """Make the parts that know packages and people."""
        settings, catalogue = self.settings, self._catalogue
        trust_store, store = self._trust_store, self._store
        self._router = router = self._compose_router(port)
        self._fetcher = fetcher = ContentFetcher(
            store=store,
            leecher=self._leecher,
            is_out_of_reach=self._router.is_out_of_reach,
            router=router,
            weak_digests=settings.weak_digests,
        )
        limits = ClosureLimits(
            packages=settings.closure_packages,
            bytes=settings.closure_bytes,
            depth=settings.closure_depth,
        )
        self._closures = Closures(fetcher, catalogue, limits)
        self._releases = releases = Releases(
            dht=self._dht,
            network=self._network,
            catalogue=catalogue,
            trust_store=trust_store,
            fetcher=fetcher,
            rng=self._rng,
            now=now,
        )
        self._upstreams = Upstreams(settings.upstreams)
        self._surroundings = Surroundings(
            store=store,
            pages=self._pages,
            leecher=self._leecher,
            router=router,
            catalogue=catalogue,
            trust=trust_store,
            releases=releases,
            background=self._background,
            leases=self._new_leases(router),
        )
        sharer = self._compose_content()
        self._compose_news()
        self._compose_publishing(sharer)
        self._compose_care()

    def _new_leases(self, router: ContentRouter) -> OriginLeases:
        """Make what decides who of a site asks an origin."""
        settings, is_private = self.settings, self._network.secret is not None
        self._leases = OriginLeases(
            router=router,
            arrivals=self._arrivals,
            follower=self._leecher.follower,
            # Who shares only some of what it has passes nothing on while it comes.
            is_enabled=settings.sharing == "all" and settings.gateway.lease,
            is_private=is_private,
            has_pages=settings.gateway.member_pages,
        )
        return self._leases

    def _compose_content(self) -> Sharer:
        """Make the parts that bring files in and write them out."""
        self._output = OutputWriter(self._store, WrittenFiles(self._mirror))
        sharer = Sharer(self._store, self._catalogue, self._router)
        self._stack.push_async_callback(sharer.close)
        unsharer = Unsharer(self._store, self._catalogue, self._router)
        fetch_command = FetchCommands(
            store=self._store,
            catalogue=self._catalogue,
            trust_store=self._trust_store,
            fetcher=self._fetcher,
            closures=self._closures,
            versions=self._releases,
            sharer=sharer,
            router=self._router,
            withdrawal=self._withdrawal,
            output=self._output,
            index_name=self._index_name,
        )
        self._runs |= {
            commands.ShareCommand: sharer.share,
            commands.UnshareCommand: unsharer.unshare,
            commands.FetchCommand: fetch_command.fetch,
            commands.LeaveCommand: self._leave,
        }
        return sharer

    def _compose_news(self) -> None:
        """Make the parts that hear of releases and act on them."""
        catalogue, trust_store = self._catalogue, self._trust_store
        self._pipeline = ReleasePipeline(
            dht=self._dht,
            releases=self._releases,
            router=self._router,
            alerter=Alerter(
                dht=self._dht, catalogue=catalogue, router=self._router, rng=self._rng
            ),
            withdrawal=self._withdrawal,
        )
        self._updates = UpdateTracker(
            catalogue=catalogue,
            trust_store=trust_store,
            releases=self._releases,
            pipeline=self._pipeline,
            closures=self._closures,
            router=self._router,
            rng=self._rng,
            now=now,
        )
        self._alerts = AlertReceiver(
            dht=self._dht,
            catalogue=catalogue,
            trust_store=trust_store,
            releases=self._releases,
            pipeline=self._pipeline,
            updates=self._updates,
            background=self._background,
        )
        follows = FollowCommands(
            trust_store=trust_store,
            releases=self._releases,
            updates=self._updates,
            router=self._router,
            withdrawal=self._withdrawal,
            background=self._background,
            output=UpdateOutput(self._store, catalogue, self._output),
        )
        self._runs |= {
            commands.InviteCommand: self._reaching.invite,
            commands.MeetCommand: JoinCommands(self._dht).meet,
            commands.FollowCommand: follows.follow,
            commands.FollowsCommand: follows.follows,
            commands.UnfollowCommand: follows.unfollow,
            commands.UpdatesCommand: follows.updates,
        }

    def _compose_publishing(self, sharer: Sharer) -> None:
        """Make the parts that a publisher uses."""
        parts = make_publisher_parts(
            home=self.settings.home,
            dht=self._dht,
            store=self._store,
            catalogue=self._catalogue,
            trust_store=self._trust_store,
            sharer=sharer,
            fetcher=self._fetcher,
            closures=self._closures,
            releases=self._releases,
            pipeline=self._pipeline,
            rng=self._rng,
        )
        self._renewal = parts.renewal
        self._runs |= {
            commands.PublishCommand: parts.publisher.publish,
            commands.BroadcastCommand: parts.publisher.broadcast,
            commands.DelegateCommand: parts.delegations.delegate,
            commands.EpochCommand: parts.delegations.epoch,
        }

    def _compose_care(self) -> None:
        """Make the parts that show and look after what is held."""
        store, catalogue, router = self._store, self._catalogue, self._router
        inspector = Inspector(
            node=self,
            catalogue=catalogue,
            dht=self._dht,
            store=store,
            seeder=self._seeder,
            leecher=self._leecher,
            router=router,
            fetcher=self._fetcher,
            settings=self.settings,
            reachability=self._reaching.reachability,
            background=self._background,
            totals=self._totals,
        )
        pins = Pins(
            store=store,
            catalogue=catalogue,
            trust_store=self._trust_store,
            router=router,
        )
        cleaning = Cleaning(store, catalogue, router, now=now)
        Evictor(store=store, catalogue=catalogue, on_evicted=self._evicted, now=now)
        self._repair = Repair(
            store=store,
            catalogue=catalogue,
            provide=router,
            fetch=self._fetcher,
            background=self._background,
        )
        self._runs |= {
            commands.StatusCommand: inspector.status,
            commands.PeersCommand: inspector.peers,
            commands.DoctorCommand: inspector.doctor,
            commands.LookupCommand: inspector.lookup,
            commands.TransfersCommand: inspector.transfers,
            commands.ListCommand: Inventory(store, catalogue).list,
            commands.PinCommand: pins.pin,
            commands.UnpinCommand: pins.unpin,
            commands.CleanCommand: cleaning.clean,
            commands.VerifyCommand: cleaning.verify,
            commands.LimitCommand: Rates(self._seeder, self._leecher).limit,
        }

    async def _leave(
        self, _command: commands.LeaveCommand, _progress: Progress
    ) -> results.LeaveResult:
        self.stopped.set()
        return results.LeaveResult()

    async def _index_name(self, digest: Digest) -> str:
        """Return the file name that a package index gave a file, "" if none did."""
        names = (one.file for one in await self._gateway.named(digest))
        return next(filter(is_file_name, names), "")

    async def _open_door(self) -> None:
        token = secrets.token_urlsafe(32)
        client = HttpOrigin(self._upstreams)
        self._stack.push_async_callback(client.close)
        gateway = Gateway(
            self.settings,
            self._surroundings,
            upstreams=self._upstreams,
            client=client,
        )
        gateway.begin()
        self._stack.push_async_callback(gateway.close)
        lockfiles = Lockfiles(
            gateway,
            store=self._store,
            catalogue=self._catalogue,
            router=self._router,
            output=self._output,
        )
        self._gateway = gateway
        auditor = Auditor(
            store=self._store,
            catalogue=self._catalogue,
            withdrawal=self._withdrawal,
            router=self._router,
            locked=lockfiles.digests,
        )
        self._runs |= lockfiles.runs()
        self._runs[commands.AuditCommand] = auditor.audit
        sender = FileSender(self._store)
        door = Door(
            self,
            token,
            GatewayRoutes(gateway, sender),
            uploads=self.settings.home / "uploads",
        )
        self._web = await door.start(self.settings.web)
        self._stack.push_async_callback(door.stop)
        await door.listen_also(listen_local(self.settings.home))
        self._token = token
        self._site = await self._open_site_door(gateway, door.metrics)

    async def _open_site_door(
        self, gateway: Gateway, metrics: Metrics
    ) -> list[Address]:
        site = self.settings.site
        if not site.listen:
            return []
        sender = FileSender(self._store)
        routes = GatewayRoutes(gateway, sender, with_credentials=site.private)
        door = SiteDoor(site, routes, self, metrics=metrics)
        self._stack.push_async_callback(door.stop)
        return await door.start()

    async def _join(self) -> None:
        """Join the network, then offer what is held and ask what is new."""
        remember(self.settings.home, {"network": self.settings.network})
        # Those that were given may be gone; those of last time help then.
        texts = [*self.settings.contacts, *self._catalogue.contacts()]
        names = [text for text in texts if is_named(text)]
        contacts = read_contacts(
            dict.fromkeys(one for one in texts if one not in names)
        )
        self._reaching.start(self._router.use_port, self._seeder.adopt)
        answered = await self._dht.join(contacts)
        if (contacts or names) and not answered:
            log.warning("no contact has answered yet; the node keeps trying")
        self._home.write_card(
            {**to_builtins(self.describe()), "token": self._token, "pid": os.getpid()}
        )
        start = self._background.start
        start(self._router.sync(), "announcing what is held")
        self._repair.resume()
        repeat = self._background.repeat
        repeat(self._renewal.round, "renewing own releases")
        repeat(self._updates.round, "reading releases")
        if self._bound is not None:
            repeat(self._bound.round, "measuring the disk")
        if names:
            repeat(NamedContacts(self._dht, names).round, "looking contacts up by name")
        memory = NodeMemory(
            dht=self._dht,
            catalogue=self._catalogue,
            totals=self._totals,
            seeder=self._seeder,
            leecher=self._leecher,
            gateway=self._gateway.traffic.counts,
        )
        repeat(memory.round, "remembering contacts")
        self._stack.callback(memory.save)

    # The DHT and the seeder are made before the parts that answer them.

    def _interested(self, publisher: bytes, name: str) -> bool:
        return self._alerts.interested(publisher, name)

    def _may_serve(self, digest: Digest, whole: bool) -> bool:
        return self._router.may_serve(digest, whole=whole)

    def _on_release(self, record: ReleaseRecord) -> bool:
        return self._alerts.on_release(record)

    def _evicted(self) -> None:
        self._background.start(self._router.sync(), "no longer offering it")
