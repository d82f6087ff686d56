"""Publishers, their records and package files, and a network that is told what to say.

`FakeDht` stands at the border of the node: what it answers is what keepers may say,
also when they lie.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Delegation, Network, RecordSearch, ReleaseRecord, StoreReport
from node.content.withdrawal import Withdrawal
from node.errors import NobodyOffersError
from node.model.catalogue import Catalogue
from node.model.keys import PublisherKey
from node.model.packages import ArtifactEntry, Package, PackageBody, issued_now
from node.model.trust_store import TrustStore
from node.releases.alerts import Alerter
from node.releases.newest import Releases
from node.releases.pipeline import ReleasePipeline
from transfer import Digest

NOW = 1_800_000_000.0
DAY = 86_400.0
NETWORK = Network()


def private_key(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def root_key(seed: int = 1) -> PublisherKey:
    private = private_key(seed)
    return PublisherKey(private, private.public_key().public_bytes_raw())


def release_key(
    seed: int = 2, *, epoch: int = 1, root: int = 1, end: float = NOW + 90 * DAY
) -> PublisherKey:
    """Return a key that acts for the root key `root`."""
    owner, private = root_key(root), private_key(seed)
    delegation = Delegation.sign(
        owner.private_key,
        private.public_key().public_bytes_raw(),
        epoch=epoch,
        not_after=end,
    )
    return PublisherKey(private, owner.publisher, delegation)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def record(key: PublisherKey | None = None, **changes: Any) -> ReleaseRecord:
    """Return a release record of `demo`, signed by `key`."""
    key = key or root_key()
    fields: dict[str, Any] = {
        "publisher": key.publisher,
        "name": "demo",
        "version": "1.0",
        "epoch": key.delegation.epoch if key.delegation else 0,
        "sequence": 1,
        "package": bytes.fromhex(digest(9).removeprefix("sha256:")),
        "urgency": "routine",
        "issued_at": NOW,
        "expires_at": NOW + 400 * DAY,
        "delegation": key.delegation,
    }
    return ReleaseRecord.sign(key.private_key, **{**fields, **changes})


def package(key: PublisherKey | None = None, **changes: Any) -> Package:
    """Return a package file of `demo`, signed by `key`."""
    key = key or root_key()
    fields: dict[str, Any] = {
        "format": 1,
        "publisher": key.text,
        "name": "demo",
        "version": "1.0",
        "epoch": 0,
        "sequence": 1,
        "issued": issued_now(NOW),
        "artifacts": [ArtifactEntry("demo.bin", 1, digest(1), "ab" * 32)],
    }
    return Package.sign(PackageBody(**{**fields, **changes}), key)


def digest_of(made: Package) -> bytes:
    return hashlib.sha256(made.raw).digest()


@dataclass
class FakeDht:
    """Answers searches with what a test put here, and notes what is stored."""

    answers: dict[bytes, list[Any]] = field(default_factory=dict)
    stored: list[Any] = field(default_factory=list)
    asked: int = 20

    def keep(self, *records: Any) -> None:
        """Let the network hold these; several of one key contradict each other."""
        self.answers[records[0].key(NETWORK)] = list(records)

    async def find_record(self, key: bytes) -> RecordSearch:
        found = self.answers.get(key, [])
        newest = found[0] if found else None
        return RecordSearch(newest, len(found) * 20, self.asked, tuple(found[1:]), 1, 0)

    async def store_record(self, stored: Any, *, keep: bool = False) -> StoreReport:
        self.stored.append(stored)
        return StoreReport(20, 0, None, (), 20)


class FakeFetcher:
    """Gives the package files that a test put here."""

    def __init__(self) -> None:
        self.files: dict[str, Package] = {}

    def add(self, made: Package) -> str:
        name = f"sha256:{digest_of(made).hex()}"
        self.files[name] = made
        return name

    async def package(self, wanted: Digest, _progress: Any) -> tuple[Package, None]:
        if str(wanted) not in self.files:
            raise NobodyOffersError
        return self.files[str(wanted)], None


class Believer:
    """What one node believes, with its database."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", isolation_level=None)
        self.catalogue = Catalogue(self.database)
        self.trust_store = TrustStore(self.database)
        self.dht = FakeDht()
        self.fetcher = FakeFetcher()
        self.time = NOW
        parts: Any = (self.dht, self.fetcher)
        self.releases = Releases(
            dht=parts[0],
            network=NETWORK,
            catalogue=self.catalogue,
            trust_store=self.trust_store,
            fetcher=parts[1],
            rng=random.Random(1),
            now=lambda: self.time,
        )

    @property
    def withdrawal(self) -> Withdrawal:
        """What follows from what is known."""
        return Withdrawal(self.catalogue, self.trust_store)

    def hold(self, made: Package) -> str:
        """Have a package with its files; returns its digest."""
        name = self.fetcher.add(made)
        self.catalogue.add_package(name, made, held=True)
        return name

    def release(self, made: Package, key: PublisherKey | None = None) -> str:
        """Know a package and the record that releases it; returns its digest."""
        name = self.fetcher.add(made)
        self.catalogue.add_package(name, made, held=False)
        body = made.body
        self.releases.learn(
            record(
                key,
                package=digest_of(made),
                name=body.name,
                version=body.version,
                sequence=body.sequence,
                urgency=body.urgency,
            ),
            confirmed=1,
        )
        return name

    @property
    def pipeline(self) -> ReleasePipeline:
        """A pipeline that stores in the network, and finds nobody to alert."""
        return alerting(self, self.dht, Nobody())[1]

    @property
    def disk(self) -> list[str]:
        """Everything that is in the database."""
        return list(self.database.iterdump())

    def newest(self, key: PublisherKey | None = None) -> str | None:
        """Return the version that is believed to be the newest of `demo`."""
        known = self.releases.known((key or root_key()).publisher, "demo")
        return known.record.version if known else None


class Nobody:
    """A content router for a node that is alone: no search finds anybody."""

    def __init__(self) -> None:
        self.synced = 0

    async def sync(self) -> None:
        self.synced += 1

    async def holders(self, _digests: Any, _each: int) -> set[Any]:
        return set()

    async def followers(self, _publisher: bytes, _name: str, _most: int) -> set[Any]:
        return set()


def alerting(
    believer: Believer, crowd: Any, router: Any = None
) -> tuple[Alerter, ReleasePipeline]:
    """Return what carries releases on from a node that knows what `believer` does."""
    router = router or crowd
    alerter = Alerter(
        dht=crowd, catalogue=believer.catalogue, router=router, rng=random.Random(1)
    )
    pipeline = ReleasePipeline(
        dht=crowd,
        releases=believer.releases,
        router=router,
        alerter=alerter,
        withdrawal=believer.withdrawal,
    )
    return alerter, pipeline
