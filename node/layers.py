"""What a node stands on, opened in order: home, storage, sockets and the two layers.

The parts that know packages and people are made above it (`node.composition`).
"""

from __future__ import annotations

import random
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass

from dht import Dht, Network, ReleaseRecord
from node import sockets
from node.background import Background
from node.content.router import ContentRouter
from node.errors import NodeError
from node.model import keyfiles
from node.model.shared_names import SharedNames
from node.model.totals import Totals
from node.reach.contacts import read_addresses
from node.reach.service import Reaching
from node.releases.alert_receiver import AlertReceiver
from node.settings import Settings
from node.settings.home import Home
from node.settings.networks import load_network
from node.settings.remembered import check_network
from node.storage import Storage, open_storage
from transfer import (
    Digest,
    Identity,
    Leecher,
    LeecherLimits,
    Seeder,
    SeederLimits,
    Store,
)
from transfer.arrivals import Arrivals

PORT_TRIES = 20


class Upcalls:
    """What the layers ask of parts that are made after them; until then, no."""

    def __init__(self) -> None:
        self.alerts: AlertReceiver | None = None
        self.router: ContentRouter | None = None

    def interested(self, publisher: bytes, name: str) -> bool:
        """Tell whether an alert of `publisher` about `name` is believed here."""
        return self.alerts is not None and self.alerts.interested(publisher, name)

    def on_release(self, record: ReleaseRecord) -> bool:
        """Take a verified alert; True if it is news, and so worth passing on."""
        return self.alerts is not None and self.alerts.on_release(record)

    def may_serve(self, digest: Digest, whole: bool) -> bool:
        """Tell whether peers may have an artifact, or what has come of a download."""
        return self.router is not None and self.router.may_serve(digest, whole=whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The disk, the sockets, the DHT and the transfer layer of one node."""

    settings: Settings
    home: Home
    network: Network
    storage: Storage
    totals: Totals
    background: Background
    rng: random.Random
    upcalls: Upcalls
    dht: Dht
    port: int
    """The number of the first TCP port, and of its UDP port."""
    reaching: Reaching
    arrivals: Arrivals
    seeder: Seeder
    leecher: Leecher


async def open_layers(stack: AsyncExitStack, settings: Settings) -> Layers:
    """Open everything, and let `stack` close it in reverse.

    Raise NodeError or StoreError. The caller closes `background`, and does it before
    all this: what runs there needs parts that are made later.
    """
    sockets.raise_descriptor_limit()
    home = stack.enter_context(Home(settings.home))
    check_network(settings.home, settings.network)
    network = load_network(settings)
    node_key = keyfiles.read_or_new_key(settings.home / "node.key")
    storage = await open_storage(stack, settings)
    upcalls, background, arrivals = Upcalls(), Background(), Arrivals()
    dht = Dht(
        node_key,
        network=network,
        interested=upcalls.interested,
        on_release=upcalls.on_release,
    )
    listening = await _bind(stack, settings, dht)
    port = sockets.bound_address(listening[0]).port
    reaching = Reaching(dht, network, settings=settings, background=background)
    transfer = _Transfer(settings, network, storage.store, Identity(node_key))
    seeder = transfer.new_seeder(upcalls, reaching, arrivals)
    await seeder.start(listening)
    stack.push_async_callback(seeder.close)
    leecher = transfer.new_leecher(reaching, port)
    stack.push_async_callback(leecher.close)
    return Layers(
        settings=settings,
        home=home,
        network=network,
        storage=storage,
        totals=Totals(storage.mirror),
        background=background,
        rng=random.Random(),
        upcalls=upcalls,
        dht=dht,
        port=port,
        reaching=reaching,
        arrivals=arrivals,
        seeder=seeder,
        leecher=leecher,
    )


async def _bind(
    stack: AsyncExitStack, settings: Settings, dht: Dht
) -> list[socket.socket]:
    """Bind TCP, then UDP on the same ports; again where port 0 met a taken one."""
    addresses = read_addresses(settings.listen)
    for attempt in range(PORT_TRIES):
        current = addresses[0]
        try:
            bound = sockets.listen(addresses)
            current = sockets.bound_address(bound[0])
            try:
                await dht.start([sockets.bound_address(one) for one in bound])
            except BaseException:
                sockets.close_all(bound)
                raise
        except OSError as error:
            if addresses[0].port or attempt == PORT_TRIES - 1:
                raise sockets.explain(error, current) from error
        else:
            stack.push_async_callback(dht.close)
            return bound
    raise NodeError("no free port was found")


@dataclass(frozen=True, slots=True)
class _Transfer:
    """What both ends of the transfer layer are made of."""

    settings: Settings
    network: Network
    store: Store
    identity: Identity

    def new_seeder(
        self, upcalls: Upcalls, reaching: Reaching, arrivals: Arrivals
    ) -> Seeder:
        settings = self.settings
        return Seeder(
            self.store,
            self.identity,
            network_secret=self.network.secret,
            encryption=settings.encryption,
            limits=SeederLimits(bytes_per_second=settings.upload_bytes_per_second),
            may_serve=upcalls.may_serve,
            on_opening=reaching.openings.received,
            name_of=SharedNames(self.store.database).of,
            arrivals=arrivals,
        )

    def new_leecher(self, reaching: Reaching, port: int) -> Leecher:
        settings = self.settings
        return Leecher(
            self.store,
            self.identity,
            network_secret=self.network.secret,
            encryption=settings.encryption,
            limits=LeecherLimits(bytes_per_second=settings.download_bytes_per_second),
            # Who shares only some of what it has does not serve what comes in.
            port=port if settings.sharing == "all" else 0,
            heard=reaching.heard,
            connect=reaching.connector.connect,
        )
