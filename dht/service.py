"""The DHT as a library: one object that joins, offers, finds and notifies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dht.addresses import Address, Scope
from dht.alerts import NotifyReport
from dht.announcer import OfferReport
from dht.clock import SystemClock, system_entropy
from dht.contacts import Contact, ContactStatus
from dht.core import Core
from dht.dial_back import DialBackService
from dht.errors import DhtClosedError
from dht.identity import KeySigner, verify_ed25519
from dht.introductions import Introductions
from dht.keys import PUBLIC_NETWORK, Network
from dht.placement import PlacementReport
from dht.provider_search import ProviderSearch
from dht.reach import UdpReach
from dht.record_client import RecordSearch, StoreReport
from dht.running import FOREIGN_START, Running
from dht.tasks import Tasks
from dht.transport import Sockets, SystemSockets

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Sequence

    from dht.clock import Clock
    from dht.identity import Signer, Verify
    from dht.records import Record, ReleaseRecord


def never_interested(publisher: bytes, name: str) -> bool:
    """Act on no notify."""
    del publisher, name
    return False


def not_new(record: ReleaseRecord) -> bool:
    """Pass no release on."""
    del record
    return False


class Dht:
    """A node of the DHT.

    `node_key` is the node's Ed25519 key (or a `Signer`). `read_only` says whether
    others can ask this node; None lets it find out. `interested(publisher, name)`
    says whether a notify would be acted on; `on_release(record)` gets a verified
    release and returns whether it is new here, to be passed on. A simulation replaces
    `clock`, `rng`, `verify` and `sockets`.
    """

    def __init__(
        self,
        node_key: Ed25519PrivateKey | Signer,
        *,
        network: Network = PUBLIC_NETWORK,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        read_only: bool | None = None,
        interested: Callable[[bytes, str], bool] = never_interested,
        on_release: Callable[[ReleaseRecord], bool] = not_new,
        verify: Verify = verify_ed25519,
        sockets: Sockets | None = None,
    ) -> None:
        signer: Signer
        if isinstance(node_key, Ed25519PrivateKey):
            signer = KeySigner(node_key)
        else:
            signer = node_key
        self._sockets = sockets or SystemSockets()
        self._core = Core(
            signer=signer,
            verify=verify,
            network=network,
            clock=clock or SystemClock(),
            rng=rng or system_entropy(),
            reach=UdpReach(read_only=read_only, is_own=self._is_own),
        )
        self._interested = interested
        self._on_release = on_release
        self._tasks = Tasks()
        self._running: Running | None = None
        self._addresses: tuple[Address, ...] = ()

    @property
    def node_id(self) -> bytes:
        """SHA-256 of the public key."""
        return self._core.node_id

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the node's Ed25519 key."""
        return self._core.public_key

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses this node is bound to."""
        return self._addresses

    @property
    def observed(self) -> Address | None:
        """The address that most proven nodes see, a public one before others."""
        reports = self._core.reach.observed
        seen = [each for f in (4, 6) if (each := reports[f].address()) is not None]
        return max(seen, key=lambda each: each.scope, default=None)

    @property
    def is_read_only(self) -> bool:
        """Whether this node says to public nodes that they cannot ask it."""
        return self._core.reach.is_shut

    def __repr__(self) -> str:
        where = ", ".join(map(str, self._addresses)) or "nowhere yet"
        return f"<Dht {self.node_id.hex()[:16]} at {where}>"

    async def __aenter__(self) -> Self:
        """Return the node; it starts with `start`, and is closed at the end."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def start(self, listen: Sequence[Address | str]) -> None:
        """Bind the addresses, at most one of each family; texts are HOST:PORT.

        Raises `AddressError` for a text that is none, and `OSError` when an address is
        taken; whatever was opened is closed again.
        """
        if self._running is not None:
            raise RuntimeError("The DHT runs already.")
        running = Running(
            core=self._core,
            tasks=self._tasks,
            sockets=self._sockets,
            interested=self._interested,
            on_release=self._on_release,
        )
        try:
            for address in map(_address, listen):
                await running.transport.open(address)
        except BaseException:
            await running.transport.close()
            raise
        self._running = running
        self._addresses = running.transport.addresses
        self._core.families = running.transport.families
        running.maintenance.start()

    async def join(self, contacts: Iterable[Address | Contact | str]) -> int:
        """Meet the network through these addresses; how many answered.

        Texts are HOST:PORT with a numeric host; `AddressError` for one that is not.
        At a contact's address only the node with its key counts. Ends within 5 s. If
        none answers, they are tried again in the background.
        """
        read = [_address(one) if isinstance(one, str) else one for one in contacts]
        return await self._run.joining.join(read)

    async def meet(self, addresses: Iterable[Address]) -> list[Contact]:
        """Ping addresses; return the contacts that proved their id there.

        Unlike `join` it replaces no contacts that a user named.
        """
        return await self._run.joining.meet(addresses)

    def on_foreign(self, take: Callable[[bytes, Address], None]) -> None:
        """Hand on datagrams of another protocol that begin as BitTorrent's do."""
        self._core.on_foreign = take

    @property
    def dial_back(self) -> DialBackService:
        """Whether others reach this node, by their own word."""
        return self._run.dial_back

    def send_foreign(self, datagram: bytes, address: Address) -> bool:
        """Send a datagram of another protocol from this node's socket.

        It must begin as BitTorrent's do, so that no node takes it for a message.
        """
        if not datagram.startswith(FOREIGN_START):
            raise ValueError("A datagram of another protocol begins with 'd'.")
        return self._run.transport.send(datagram, address)

    async def close(self) -> None:
        """Stop at once; no task and no socket is left."""
        running, self._running = self._running, None
        if running is None:
            return
        await self._tasks.close()
        running.rpc_client.close()
        await running.transport.close()

    def contacts(self) -> list[ContactStatus]:
        """Return the contacts of the tables and how well each is known."""
        now = self._core.clock.monotonic()
        return [
            ContactStatus(
                contact,
                status.rtt_seconds if status is not None else None,
                now - status.first_seen if status is not None else 0.0,
            )
            for table in self._core.tables.values()
            for contact in table
            for status in [table.status(contact)]
        ]

    @property
    def introductions(self) -> Introductions:
        """Calls through introducers, for nodes that cannot be dialled."""
        return self._run.introductions

    def heard(self, public_key: bytes, host: str) -> float:
        """Return when a key last gave a sign of life at an IP address.

        In monotonic seconds; minus infinity where it is no contact of the table.
        """
        return self._core.heard(public_key, host)

    def find_providers(
        self, key: bytes, near: Iterable[Contact] = (), *, lease: bytes = b""
    ) -> ProviderSearch:
        """Look for nodes that offer a key; iterate over the result.

        The contacts `near` are asked at once, beside the lookup. `lease` asks for the
        origin lease of the key as well (`dht.leases`): this node's own key, or that
        of a holder from which it got nothing; see `ProviderSearch.decide_holder`.
        """
        run = self._run
        return ProviderSearch(
            key,
            core=self._core,
            rpc_client=run.rpc_client,
            lookups=run.lookups,
            local_storage=run.local_storage,
            tasks=self._tasks,
            near=near,
            lease=lease,
        )

    @property
    def is_leased(self) -> bool:
        """Whether there may be nodes that share origin leases with this one.

        In a private network all do, else those of this machine or local network.
        """
        if self._core.network.secret is not None:
            return True
        tables = self._core.tables.values()
        return any(one.address.scope is not Scope.PUBLIC for t in tables for one in t)

    async def offer(self, keys: Iterable[bytes], port: int) -> OfferReport:
        """Announce keys under a port, and keep them renewed until withdrawn."""
        return await self._run.announcer.offer(keys, port)

    def put_offers(self, keys: Iterable[bytes]) -> None:
        """Add keys to the offers, however many; `announce_offers` announces them."""
        self._run.announcer.put(keys)

    async def announce_offers(
        self, port: int, keys: Sequence[bytes] | None = None
    ) -> None:
        """Announce what was put since the last time, all offers under a new port.

        With `keys` only these and what lies in their regions; the rest can wait.
        """
        await self._run.announcer.announce(port, keys)

    def withdraw(self, keys: Iterable[bytes]) -> None:
        """Stop offering keys; their keepers are notified in the background.

        Of each key the first eight bytes are enough.
        """
        announcer = self._run.announcer
        regions = announcer.withdraw(keys)
        if regions:
            notifying = announcer.notify_keepers(regions)
            self._tasks.start(notifying, "caravan-dht-withdraw")

    def placement(self) -> PlacementReport:
        """Return how many nodes store the keys on offer, and whether it falls behind.

        It costs the same however many keys there are.
        """
        core = self._core
        placement = self._run.announcer.placement
        return placement.report(core.known, core.clock.monotonic())

    async def find_record(self, key: bytes) -> RecordSearch:
        """Look for the newest release record or delegation of a key."""
        return await self._run.record_client.find(key)

    async def store_record(self, record: Record, *, keep: bool = False) -> StoreReport:
        """Store a record; with `keep`, renew it until a newer one is kept."""
        return await self._run.record_client.store(record, keep=keep)

    async def notify(
        self,
        record: ReleaseRecord,
        to: Sequence[Contact],
        hints: Sequence[Contact] = (),
    ) -> NotifyReport:
        """Push a release to contacts, who may pass it on to some of the hints."""
        return await self._run.alerts.notify(record, to, hints)

    def stats(self) -> dict[str, int]:
        """Return counters by name, and how much is kept."""
        stats = dict(sorted(self._core.stats.items()))
        if self._running is not None:
            local_storage = self._running.local_storage
            stats["kept.providers"] = len(local_storage.provider_store)
            stats["kept.provider_bytes"] = local_storage.provider_store.bytes_held
            stats["kept.records"] = len(local_storage.record_store)
            stats["kept.record_bytes"] = local_storage.record_store.bytes_held
            stats["in_flight"] = self._running.rpc_client.in_flight
        return stats

    @property
    def _run(self) -> Running:
        if self._running is None:
            raise DhtClosedError("The DHT is not running.")
        return self._running

    def _is_own(self, host: str) -> bool:
        return self._running is not None and self._running.transport.is_own(host)


def _address(address: Address | str) -> Address:
    return Address.parse(address) if isinstance(address, str) else address
