"""The commands that look without changing anything: status, peers, lookup, doctor."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Protocol

from msgspec import to_builtins

from dht import Address, Dht, ProviderRecord, ProviderSearch, Scope
from node import commands, doctor, results
from node.background import Background
from node.commands import Progress
from node.content.fetcher import ContentFetcher
from node.content.router import ContentRouter
from node.errors import NobodyOffersError, UsageError, clause
from node.gateway.traffic import Traffic, saved_bytes
from node.model.catalogue import Catalogue
from node.model.targets import parse_digest
from node.model.totals import Totals
from node.settings import Settings
from node.version import VERSION
from node.wallclock import now
from transfer import DigestError, Leecher, Seeder, Store

_TRACE_SECONDS = 0.05


class Described(Protocol):
    """Anything that can say who and where it is."""

    def describe(self) -> results.NodeDescription:
        """Return who and where it is."""

    def traffic(self) -> Traffic:
        """Return what package managers were given since the start."""

    def leases(self) -> dict[str, int]:
        """Return how often it held an origin lease, or followed a holder."""


class Inspector:
    """Answers questions about the node and the network."""

    def __init__(
        self,
        *,
        node: Described,
        catalogue: Catalogue,
        dht: Dht,
        store: Store,
        seeder: Seeder,
        leecher: Leecher,
        router: ContentRouter,
        fetcher: ContentFetcher,
        settings: Settings,
        background: Background,
        totals: Totals,
        reachability: Callable[[], results.Reachability],
    ) -> None:
        self._reachability = reachability
        self._node = node
        self._catalogue = catalogue
        self._settings = settings
        self._background = background
        self._totals = totals
        self._started = time.monotonic()
        self._dht = dht
        self._store = store
        self._seeder = seeder
        self._leecher = leecher
        self._router = router
        self._fetcher = fetcher

    async def status(
        self, _command: commands.StatusCommand, _progress: Progress
    ) -> results.StatusResult:
        """Return what the node is and does."""
        seeder, leecher = self._seeder.stats, self._leecher.stats
        own, traffic = self._node.describe(), self._node.traffic()
        gateway_ever = traffic.ever(self._totals.ever)
        return results.StatusResult(
            node_id=own.node_id,
            address=own.address,
            web=own.web,
            site=own.site,
            contacts=len(self._dht.contacts()),
            artifacts=self._store.count,
            bytes_held=self._store.bytes_held,
            downloads=leecher.downloads,
            uploads=seeder.uploads,
            transfer=results.TransferStatus(seeder=seeder, leecher=leecher),
            dht=self._dht.stats() | self._node.leases(),
            gateway=traffic.by_source,
            reachability=self._reachability(),
            placement=self._placement(),
            failing=self._background.failing,
            version=VERSION,
            network=self._settings.network,
            home=str(self._settings.home),
            log=str(self._settings.home / "node.log"),
            uptime_seconds=round(time.monotonic() - self._started, 1),
            totals=results.TrafficTotals(
                sent=seeder.bytes_sent,
                received=leecher.bytes_received,
                sent_ever=self._totals.ever("sent", seeder.bytes_sent),
                received_ever=self._totals.ever("received", leecher.bytes_received),
                saved=saved_bytes(traffic.by_source),
                saved_ever=saved_bytes(gateway_ever),
                gateway_ever=gateway_ever,
            ),
            limits=results.LimitsStatus(
                store_bytes=self._store.room.bytes_max,
                full=self._store.room.fullness,
                upload_bytes_per_second=self._seeder.rate.bytes_per_second,
                download_bytes_per_second=self._leecher.rate.bytes_per_second,
            ),
        )

    def _placement(self) -> results.PlacementStatus:
        """Return how well others can find what this node offers."""
        report = self._dht.placement()
        return results.PlacementStatus(
            offered=report.offered,
            placed=report.placed,
            unplaced=report.unplaced,
            oldest_seconds=report.oldest_seconds,
            behind_seconds=report.behind_seconds,
        )

    async def peers(
        self, _command: commands.PeersCommand, _progress: Progress
    ) -> results.PeersResult:
        """Return the contacts in the routing table."""
        return results.PeersResult(
            contacts=[
                results.PeerEntry(
                    node_id=one.contact.node_id.hex(),
                    address=str(one.contact.address),
                    rtt_ms=(
                        None
                        if one.rtt_seconds is None
                        else round(one.rtt_seconds * 1000, 2)
                    ),
                    age_seconds=round(one.age_seconds, 1),
                )
                for one in self._dht.contacts()
            ],
            reachability=self._reachability(),
        )

    async def lookup(
        self, command: commands.LookupCommand, progress: Progress
    ) -> results.LookupResult:
        """Return who offers a digest; NobodyOffersError where nobody does."""
        try:
            digest = parse_digest(command.digest, self._catalogue)
        except DigestError as error:
            raise UsageError(clause(error)) from error
        held = await asyncio.to_thread(self._store.find_pending, digest)
        if held is not None:
            digest = held.digest
        self._fetcher.check_algorithm(digest)
        providers: dict[str, tuple[str, str]] = {}
        async with contextlib.aclosing(self._router.search(digest)) as search:
            async for record in _traced(search, command, progress):
                reach = self._router.reach_of(record)
                providers[record.contact.node_id.hex()] = (str(record.address), reach)
        if held is not None and self._router.is_offered(held):
            own = self._node.describe()
            reach = self._reachability().tcp
            providers.setdefault(own.node_id, (own.address, reach))
        found = results.LookupResult(
            digest=str(digest),
            providers=[
                results.ProviderEntry(node_id=node_id, address=address, reach=reach)
                for node_id, (address, reach) in providers.items()
            ],
            seconds=round(search.seconds, 3),
            requests=search.requests,
        )
        if not providers:
            raise NobodyOffersError(
                f"nobody offers {digest}", details=to_builtins(found)
            )
        return found

    async def transfers(
        self, _command: commands.TransfersCommand, _progress: Progress
    ) -> results.TransfersResult:
        """Return the downloads under way, with the peers that send."""
        return results.TransfersResult(
            transfers=[
                results.TransferEntry(
                    direction="download",
                    digest=str(one.digest),
                    done=one.done,
                    total=one.total,
                    peers=[
                        results.SourceEntry(
                            address=str(Address(source.peer.host, source.peer.port)),
                            bytes=source.bytes,
                        )
                        for source in one.sources
                    ],
                )
                for one in self._leecher.under_way()
            ]
        )

    async def doctor(
        self, _command: commands.DoctorCommand, _progress: Progress
    ) -> results.DoctorResult:
        """Return what may be wrong around this node; see `node.doctor`."""
        home, contacts = self._settings.home, len(self._dht.contacts())
        artifacts = await asyncio.to_thread(self._store.artifacts)
        newest = max((one.added_at for one in artifacts), default=0.0)
        secret = self._settings.secret_file is not None
        port = self._dht.addresses[0].port
        reach, observed = self._reachability(), self._dht.observed
        placement = self._placement()
        checks = [
            doctor.Check(
                "node", ok=True, hint=f"runs at {self._node.describe().address}"
            ),
            doctor.check_folder(home),
            doctor.check_tools(home, self._node.describe().web),
            doctor.check_disk(home),
            doctor.check_clock(now(), newest, self._dht.stats().get("dropped.time", 0)),
            doctor.Check("ports", ok=True, hint=f"listens on {port}, TCP and UDP"),
            doctor.check_contacts(contacts, is_private=secret),
            doctor.check_reachability(
                reach.udp,
                reach.tcp,
                port,
                contacts=contacts,
                is_local=observed is None or observed.scope is not Scope.PUBLIC,
                note=reach.note,
            ),
            doctor.check_placement(
                offered=placement.offered,
                placed=placement.placed,
                unplaced=placement.unplaced,
                behind_seconds=placement.behind_seconds,
                contacts=contacts,
            ),
        ]
        return results.DoctorResult(checks=checks, reachability=reach)


async def _traced(
    search: ProviderSearch, command: commands.LookupCommand, progress: Progress
) -> AsyncGenerator[ProviderRecord, None]:
    """Yield what a search finds; post its steps meanwhile, where they are wanted."""

    def post() -> None:
        steps = [
            {
                "node_id": step.contact.node_id.hex(),
                "address": str(step.contact.address),
                "state": step.state,
                "hop": step.hops,
            }
            for step in search.steps()
        ]
        progress({"label": "lookup", "key": search.key.hex(), "steps": steps})

    async def watch() -> None:
        while True:
            post()
            await asyncio.sleep(_TRACE_SECONDS)

    watcher = asyncio.create_task(watch()) if command.trace else None
    try:
        async for record in search:
            yield record
    finally:
        if watcher is not None:
            watcher.cancel()
            post()
