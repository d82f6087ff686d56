"""Simulated holders of a package: the shipping node code over a simulated DHT.

Beliefs, catalogue, releases, updates, alerting and announcements are the ones that
ship. Two things stand in: content comes from an in-simulation `PackageSource` after a
delay, as a transfer would bring it, and `Shelf` says what a store would hold.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Address, Dht, Network, ReleaseRecord
from node.background import Background
from node.content.closure import NO_LIMITS, Closures
from node.content.router import ContentRouter
from node.content.sharing_policy import SharingPolicy
from node.content.withdrawal import Withdrawal
from node.errors import NobodyOffersError
from node.model.catalogue import Catalogue
from node.model.keys import PublisherKey
from node.model.packages import ArtifactEntry, Package, PackageBody, issued_now
from node.model.trust_store import TrustStore
from node.releases.alert_receiver import AlertReceiver
from node.releases.alerts import Alerter
from node.releases.newest import Release, Releases
from node.releases.pipeline import ReleasePipeline
from node.releases.updates import UpdateTracker
from tests.simulation.loop import VirtualClock
from tests.simulation.network import SimulatedSockets
from tests.simulation.swarm import PORT, CheapSigner, Swarm, cheap_verify
from transfer import Artifact, Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

import asyncio

NAME = "demo"
NETWORK = Network()


class PackageSource:
    """Stands in for transfer: package files by digest, after a delay."""

    def __init__(self, rng: random.Random) -> None:
        self.files: dict[str, Package] = {}
        self._rng = rng

    async def package(self, digest: Digest, _progress: Any) -> tuple[Package, None]:
        """Return a package file a moment later: a lookup and a transfer."""
        await asyncio.sleep(self._rng.uniform(0.3, 1.5))
        package = self.files.get(str(digest))
        if package is None:
            raise NobodyOffersError
        return package, None


class Shelf:
    """Says what a store would hold."""

    def __init__(self) -> None:
        self.held: list[Artifact] = []

    def find_many(
        self, _algorithm: str, raws: Sequence[bytes]
    ) -> dict[bytes, Artifact]:
        """Return those of these digests that are held."""
        found = {one.digest.raw: one for one in self.held}
        return {raw: found[raw] for raw in raws if raw in found}

    def page(self, after: bytes, count: int) -> list[Artifact]:
        """Return what is held after a SHA-256, in order."""
        held = sorted(self.held, key=lambda one: one.digest.raw)
        return [one for one in held if one.digest.raw > after][:count]

    def with_aliases(self, digest: Digest) -> Artifact:
        """Return an artifact as it is: alerts look for SHA-256 alone."""
        return next(one for one in self.held if one.digest == digest)


@dataclass
class Heard:
    """What one holder's user was shown: when, and how often."""

    at: list[float] = field(default_factory=list)


class WatchedUpdates(UpdateTracker):
    """An update tracker that notes when news is shown."""

    heard: Heard

    def show(self, record: ReleaseRecord) -> Release | None:
        """Note that the user hears of a release now."""
        self.heard.at.append(asyncio.get_running_loop().time())
        return super().show(record)


class Publisher:
    """Signs the versions of one package."""

    def __init__(self, source: PackageSource, now: Callable[[], float]) -> None:
        private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"p").digest())
        self.key = PublisherKey(private, private.public_key().public_bytes_raw())
        self._source = source
        self._now = now
        self._last: Package | None = None

    def release(self) -> tuple[Package, ReleaseRecord]:
        """Sign the next version, which replaces the one before."""
        last = self._last
        sequence = 1 if last is None else last.body.sequence + 1
        body = PackageBody(
            format=1,
            publisher=self.key.text,
            name=NAME,
            version=f"1.{sequence}",
            epoch=0,
            sequence=sequence,
            issued=issued_now(self._now()),
            artifacts=[ArtifactEntry("demo.whl", 1, artifact(sequence), "ab" * 32)],
            replaces=[] if last is None else [last.body.artifacts[0].digest],
            previous="" if last is None else digest_of(last),
        )
        package = Package.sign(body, self.key)
        self._last = package
        self._source.files[digest_of(package)] = package
        record = ReleaseRecord.sign(
            self.key.private_key,
            publisher=self.key.publisher,
            name=NAME,
            version=body.version,
            epoch=0,
            sequence=sequence,
            package=hashlib.sha256(package.raw).digest(),
            urgency=body.urgency,
            issued_at=self._now(),
            expires_at=self._now() + 400 * 86_400,
        )
        return package, record


class Holder:
    """One node with everything that concerns releases; it can go and come back."""

    def __init__(self, swarm: Swarm, number: int, source: PackageSource) -> None:
        self.heard = Heard()
        self.shelf = Shelf()
        self.host = swarm.host(number)
        self._swarm = swarm
        self._number = number
        self._source = source
        database = sqlite3.connect(":memory:", isolation_level=None)
        self.catalogue = Catalogue(database)
        self.trust_store = TrustStore(database)
        self._comings = 0

    async def come(self, contacts: list[Address]) -> None:
        """Start, join, announce what is held and catch up, as a node does."""
        self._comings += 1
        seed = f"{self._swarm.seed} {self._number}"
        rng = random.Random(f"holder {seed} {self._comings}")
        self.dht = Dht(
            CheapSigner(hashlib.sha256(f"node {seed}".encode()).digest()),
            clock=VirtualClock(self._swarm.loop),
            rng=rng,
            sockets=SimulatedSockets(self._swarm.network, self.host),
            verify=cheap_verify,
            interested=lambda publisher, name: self.alerts.interested(publisher, name),
            on_release=lambda record: self.alerts.on_release(record),
        )
        self._compose(rng)
        await self.dht.start([Address(self.host, PORT)])
        await self.dht.join(contacts)
        self.background.start(self.router.sync(), "announcing")
        self.background.repeat(self.updates.round, "catching up")

    async def leave(self) -> None:
        """Vanish without a word; what was announced stays with its keepers."""
        await self.background.close()
        await self.dht.close()

    def hold(self, package: Package, *, follow: bool) -> None:
        """Have a version of the package, and perhaps follow its name."""
        self.catalogue.add_package(digest_of(package), package, held=True)
        if follow:
            self.trust_store.follow(package.publisher, package.body.name, "never")
        for text in (package.body.artifacts[0].digest, digest_of(package)):
            self.shelf.held.append(Artifact(Digest.parse(text), 1, bytes(32), {}, 0.0))

    def releases_known(self, record: ReleaseRecord) -> None:
        """Know a release from before."""
        now = VirtualClock(self._swarm.loop).time()
        self.trust_store.remember_release(record, 1, now)

    def _compose(self, rng: random.Random) -> None:
        now = VirtualClock(self._swarm.loop).time
        parts: Any = (self._source, self.shelf)  # stand-ins for two shipping classes
        fetcher, store = parts
        self.background = Background()
        withdrawal = Withdrawal(self.catalogue, self.trust_store)
        self.router = ContentRouter(
            dht=self.dht,
            network=NETWORK,
            port=PORT,
            store=store,
            policy=SharingPolicy(self.catalogue, "all", withdrawal=withdrawal),
            trust_store=self.trust_store,
            background=self.background,
        )
        self.releases = Releases(
            dht=self.dht,
            network=NETWORK,
            catalogue=self.catalogue,
            trust_store=self.trust_store,
            fetcher=fetcher,
            rng=rng,
            now=now,
        )
        self.alerter = Alerter(
            dht=self.dht, catalogue=self.catalogue, router=self.router, rng=rng
        )
        self.pipeline = ReleasePipeline(
            dht=self.dht,
            releases=self.releases,
            router=self.router,
            alerter=self.alerter,
            withdrawal=withdrawal,
        )
        self.updates = WatchedUpdates(
            catalogue=self.catalogue,
            trust_store=self.trust_store,
            releases=self.releases,
            pipeline=self.pipeline,
            closures=Closures(fetcher, self.catalogue, NO_LIMITS),
            router=self.router,
            rng=rng,
            now=now,
        )
        self.updates.heard = self.heard
        self.alerts = AlertReceiver(
            dht=self.dht,
            catalogue=self.catalogue,
            trust_store=self.trust_store,
            releases=self.releases,
            pipeline=self.pipeline,
            updates=self.updates,
            background=self.background,
        )


def artifact(number: int) -> str:
    """Return the digest of the file of a version."""
    return f"sha256:{hashlib.sha256(b'file %d' % number).hexdigest()}"


def digest_of(package: Package) -> str:
    """Return the digest of a package file."""
    return f"sha256:{hashlib.sha256(package.raw).hexdigest()}"
