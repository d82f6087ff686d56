"""The parts of a node that a publisher uses, made and joined."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from dht import Dht
from node.content.closure import Closures
from node.content.fetcher import ContentFetcher
from node.content.share import Sharer
from node.model.catalogue import Catalogue
from node.model.keys import PublisherKeys
from node.model.trust_store import TrustStore
from node.releases.delegate_command import DelegationPublisher
from node.releases.newest import Releases
from node.releases.package_builder import PackageBuilder
from node.releases.pipeline import ReleasePipeline
from node.releases.publish import ReleasePublisher
from node.releases.renewal import Renewal
from node.wallclock import now
from transfer import Store


@dataclass(frozen=True, slots=True)
class PublisherParts:
    """What signs packages and releases, and keeps them alive."""

    renewal: Renewal
    publisher: ReleasePublisher
    delegations: DelegationPublisher


def make_publisher_parts(
    *,
    home: Path,
    dht: Dht,
    store: Store,
    catalogue: Catalogue,
    trust_store: TrustStore,
    sharer: Sharer,
    fetcher: ContentFetcher,
    closures: Closures,
    releases: Releases,
    pipeline: ReleasePipeline,
    rng: random.Random,
) -> PublisherParts:
    """Make them; keys and package files are in the folder `home`."""
    keys = PublisherKeys(home)
    renewal = Renewal(
        dht=dht,
        catalogue=catalogue,
        trust_store=trust_store,
        releases=releases,
        pipeline=pipeline,
        keys=keys,
        rng=rng,
        now=now,
    )
    builder = PackageBuilder(
        store=store,
        catalogue=catalogue,
        trust_store=trust_store,
        sharer=sharer,
        fetcher=fetcher,
        closures=closures,
        releases=releases,
        folder=home / "packages",
        now=now,
    )
    publisher = ReleasePublisher(
        catalogue=catalogue,
        keys=keys,
        builder=builder,
        releases=releases,
        pipeline=pipeline,
    )
    delegations = DelegationPublisher(
        dht=dht, trust_store=trust_store, releases=releases, renewal=renewal, now=now
    )
    return PublisherParts(renewal, publisher, delegations)
