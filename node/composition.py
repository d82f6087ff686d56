"""The composition root: the parts that know packages and people, made and joined.

The parts know each other only by what is passed here. They are made from the bottom
up, in the order of the wings: content, releases, gateway.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from node.content.closure import ClosureLimits, Closures
from node.content.eviction import Evictor
from node.content.fetcher import ContentFetcher
from node.content.output import OutputWriter
from node.content.repair import Repair
from node.content.router import ContentRouter
from node.content.share import Sharer
from node.content.sharing_policy import SharingPolicy, sharing_of
from node.content.withdrawal import Withdrawal
from node.gateway.leases import OriginLeases
from node.gateway.service import Gateway, Surroundings
from node.gateway.upstreams import Upstreams
from node.layers import Layers
from node.model.keys import PublisherKeys
from node.model.written_files import WrittenFiles
from node.releases.alert_receiver import AlertReceiver
from node.releases.alerts import Alerter
from node.releases.newest import Releases
from node.releases.pipeline import ReleasePipeline
from node.releases.renewal import Renewal
from node.releases.updates import UpdateTracker
from node.settings import Settings
from node.wallclock import now
from node.web.gateway.origin_client import HttpOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentParts:
    """What brings content in, offers it, and looks after it."""

    withdrawal: Withdrawal
    router: ContentRouter
    fetcher: ContentFetcher
    closures: Closures
    output: OutputWriter
    sharer: Sharer
    repair: Repair


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseParts:
    """What hears of releases and acts on them."""

    newest: Releases
    pipeline: ReleasePipeline
    updates: UpdateTracker
    alerts: AlertReceiver


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingParts:
    """This user's publisher keys, and what keeps the own releases alive."""

    keys: PublisherKeys
    renewal: Renewal


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All that a node consists of above its layers."""

    content: ContentParts
    releases: ReleaseParts
    publishing: PublishingParts
    leases: OriginLeases
    gateway: Gateway


def compose(stack: AsyncExitStack, layers: Layers) -> Parts:
    """Make all parts, from the bottom up; `stack` closes them in reverse.

    From here on the layers are answered: see `Upcalls`.
    """
    content = _make_content(layers)
    stack.push_async_callback(content.sharer.close)
    releases = _make_releases(layers, content)
    layers.upcalls.router = content.router
    layers.upcalls.alerts = releases.alerts
    stack.push_async_callback(layers.background.close)
    leases = _make_leases(layers, content)
    around = Surroundings(
        store=layers.storage.store,
        pages=layers.storage.pages,
        leecher=layers.leecher,
        router=content.router,
        catalogue=layers.storage.catalogue,
        trust=layers.storage.trust_store,
        releases=releases.newest,
        background=layers.background,
        leases=leases,
    )
    return Parts(
        content=content,
        releases=releases,
        publishing=_make_publishing(layers, releases),
        leases=leases,
        gateway=_begin_gateway(stack, layers.settings, around),
    )


def _make_content(layers: Layers) -> ContentParts:
    """Make what moves bytes: nothing here knows of releases."""
    settings, store = layers.settings, layers.storage.store
    catalogue = layers.storage.catalogue
    withdrawal = Withdrawal(
        catalogue, layers.storage.trust_store, enabled=settings.withdraw
    )
    router = _make_router(layers, withdrawal)
    fetcher = ContentFetcher(
        store=store,
        leecher=layers.leecher,
        is_out_of_reach=router.is_out_of_reach,
        router=router,
        weak_digests=settings.weak_digests,
    )
    limits = ClosureLimits(
        packages=settings.closure_packages,
        bytes=settings.closure_bytes,
        depth=settings.closure_depth,
    )

    def on_evicted() -> None:
        layers.background.start(router.sync(), "no longer offering it")

    # The store keeps it, and asks it for room.
    Evictor(store=store, catalogue=catalogue, on_evicted=on_evicted, now=now)
    return ContentParts(
        withdrawal=withdrawal,
        router=router,
        fetcher=fetcher,
        closures=Closures(fetcher, catalogue, limits),
        output=OutputWriter(store, WrittenFiles(layers.storage.mirror)),
        sharer=Sharer(store, catalogue, router),
        repair=Repair(
            store=store,
            catalogue=catalogue,
            provide=router,
            fetch=fetcher,
            background=layers.background,
        ),
    )


def _make_router(layers: Layers, withdrawal: Withdrawal) -> ContentRouter:
    """Make what decides what is offered, and offers it."""
    settings = layers.settings
    policy = SharingPolicy(
        layers.storage.catalogue,
        settings.sharing,
        of=sharing_of(settings.sharing_of),
        withdrawal=withdrawal,
    )
    return ContentRouter(
        dht=layers.dht,
        network=layers.network,
        port=layers.port,
        store=layers.storage.store,
        policy=policy,
        trust_store=layers.storage.trust_store,
        background=layers.background,
        neighbours=layers.reaching.neighbours,
        ways=layers.reaching.connector,
        queue_aliases=layers.leecher.queue_aliases,
    )


def _make_releases(layers: Layers, content: ContentParts) -> ReleaseParts:
    """Make what hears of releases and acts on them."""
    dht, rng, router = layers.dht, layers.rng, content.router
    catalogue, trust_store = layers.storage.catalogue, layers.storage.trust_store
    newest = Releases(
        dht=dht,
        network=layers.network,
        catalogue=catalogue,
        trust_store=trust_store,
        fetcher=content.fetcher,
        rng=rng,
        now=now,
    )
    pipeline = ReleasePipeline(
        dht=dht,
        releases=newest,
        router=router,
        alerter=Alerter(dht=dht, catalogue=catalogue, router=router, rng=rng),
        withdrawal=content.withdrawal,
    )
    updates = UpdateTracker(
        catalogue=catalogue,
        trust_store=trust_store,
        releases=newest,
        pipeline=pipeline,
        closures=content.closures,
        router=router,
        rng=rng,
        now=now,
    )
    alerts = AlertReceiver(
        dht=dht,
        catalogue=catalogue,
        trust_store=trust_store,
        releases=newest,
        pipeline=pipeline,
        updates=updates,
        background=layers.background,
    )
    return ReleaseParts(
        newest=newest, pipeline=pipeline, updates=updates, alerts=alerts
    )


def _make_publishing(layers: Layers, releases: ReleaseParts) -> PublishingParts:
    """Make what keeps this user's own releases alive."""
    keys = PublisherKeys(layers.settings.home)
    renewal = Renewal(
        dht=layers.dht,
        catalogue=layers.storage.catalogue,
        trust_store=layers.storage.trust_store,
        releases=releases.newest,
        pipeline=releases.pipeline,
        keys=keys,
        rng=layers.rng,
        now=now,
    )
    return PublishingParts(keys=keys, renewal=renewal)


def _make_leases(layers: Layers, content: ContentParts) -> OriginLeases:
    """Make what decides which node of a site asks an origin."""
    settings = layers.settings
    return OriginLeases(
        router=content.router,
        arrivals=layers.arrivals,
        follower=layers.leecher.follower,
        # Who shares only some of what it has passes nothing on while it comes.
        is_enabled=settings.sharing == "all" and settings.gateway.lease,
        is_private=layers.network.secret is not None,
        has_pages=settings.gateway.member_pages,
    )


def _begin_gateway(
    stack: AsyncExitStack, settings: Settings, around: Surroundings
) -> Gateway:
    """Make what package managers ask, and let it read the tools' configuration."""
    upstreams = Upstreams(settings.upstreams)
    client = HttpOrigin(upstreams)
    stack.push_async_callback(client.close)
    gateway = Gateway(settings, around, upstreams=upstreams, client=client)
    gateway.begin()
    stack.push_async_callback(gateway.close)
    return gateway
