"""What the seeder may serve and the leecher may bring: over real loopback sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht import Network
from node.background import Background
from node.content.fetcher import ContentFetcher
from node.content.router import ContentRouter
from node.content.sharing_policy import SharingPolicy
from node.errors import VerificationError
from node.model.packages import PACKAGE_FILE_BYTES_MAX, ArtifactEntry
from tests.node.publishers import Believer, package
from transfer import Digest, Identity, Leecher, NoPeerError, Peer, Seeder, Store


class Silence:
    """A DHT that finds nobody and keeps nothing."""

    public_key = bytes(32)

    def withdraw(self, keys):
        pass

    def put_offers(self, keys):
        pass

    async def announce_offers(self, port, keys=None):
        pass


class End:
    """One node's store, with a seeder that obeys its `ContentRouter`."""

    def __init__(self, folder, sharing: Any = "all", dht: Any = None) -> None:
        self.believer = Believer()
        self.store = Store(folder)
        self.identity = Identity(Ed25519PrivateKey.generate())
        self.background = Background()
        self.router = ContentRouter(
            dht=dht or Silence(),
            network=Network(),
            port=4747,
            store=self.store,
            policy=SharingPolicy(
                self.believer.catalogue, sharing, withdrawal=self.believer.withdrawal
            ),
            trust_store=self.believer.trust_store,
            background=self.background,
            queue_aliases=lambda: self.leecher.queue_aliases(),
        )
        self.seeder = Seeder(
            self.store,
            self.identity,
            may_serve=lambda name, whole: self.router.may_serve(name, whole=whole),
        )
        self.leecher = Leecher(self.store, self.identity)
        self.peer: Peer

    async def __aenter__(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.peer = Peer(*listener.getsockname()[:2], self.identity.public_key)
        await self.seeder.start([listener])
        return self

    async def __aexit__(self, *_error):
        await self.leecher.close()
        await self.seeder.close()
        await self.background.close()
        self.store.close()

    async def share(self, content: bytes) -> Digest:
        artifact = self.store.add_bytes(content)
        self.believer.catalogue.add_direct(str(artifact.digest), "")
        await self.router.sync()
        return artifact.digest


async def can_have(giver: End, taker: End, digest: Digest) -> bool:
    """Tell whether a peer that asks directly gets the artifact."""
    try:
        async with asyncio.timeout(30):
            await taker.leecher.download(digest, [giver.peer])
    except NoPeerError:
        return False
    taker.store.remove(digest)
    return True


async def test_what_is_withheld_or_private_is_not_served(tmp_path):
    """Not even to a peer that knows its digest and asks without any lookup."""
    async with End(tmp_path / "a") as giver, End(tmp_path / "b") as taker:
        digest = giver.store.add_bytes(b"vulnerable" * 100).digest
        entry = ArtifactEntry("tool", 1000, str(digest), "ab" * 32)
        giver.believer.hold(package(artifacts=[entry]))
        await giver.router.sync()
        assert await can_have(giver, taker, digest)
        fixed = package(
            version="2", sequence=2, urgency="security", replaces=[str(digest)]
        )
        giver.believer.release(fixed)
        await giver.router.sync()
        assert not await can_have(giver, taker, digest)
        giver.believer.catalogue.pin(str(digest))
        await giver.router.sync()
        assert await can_have(giver, taker, digest)
        giver.believer.catalogue.make_private(str(digest), "")
        await giver.router.sync()
        assert not await can_have(giver, taker, digest)


@pytest.mark.parametrize("sharing", ["published", "none"])
async def test_who_offers_nothing_serves_nothing(tmp_path, sharing):
    async with End(tmp_path / "a", sharing) as giver, End(tmp_path / "b") as taker:
        digest = await giver.share(b"mine" * 100)
        assert not await can_have(giver, taker, digest)


async def test_a_package_file_without_end_is_not_downloaded(tmp_path):
    """A record may point at anything; what claims more than 1 MiB is refused."""
    async with End(tmp_path / "a") as giver, End(tmp_path / "b") as taker:
        digest = await giver.share(bytes(PACKAGE_FILE_BYTES_MAX + 1))
        fetcher = ContentFetcher(
            store=taker.store,
            leecher=taker.leecher,
            router=taker.router,
            weak_digests=False,
        )

        async def peers(_digest):
            yield giver.peer

        taker.router.peers = peers  # type: ignore[method-assign, assignment]
        before = taker.believer.disk
        async with asyncio.timeout(30):
            with pytest.raises(VerificationError):
                await fetcher.package(digest, lambda _: None)
        assert taker.store.find(digest) is None
        assert taker.believer.disk == before
        assert not [
            one for one in (tmp_path / "b" / "partial").rglob("*") if one.is_file()
        ]
