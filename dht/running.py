"""The parts of a running node, and how they are joined.

One datagram comes in through the transport, is opened by the envelope and decoded, and
goes to the RPC client if it is a reply, to the RPC server if it is a request.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from dht.addresses import Address, Scope
from dht.alerts import Alerts
from dht.announcer import Announcer
from dht.dial_back import DialBackService
from dht.dial_back_helper import DialBackHelper
from dht.errors import DatagramError
from dht.introductions import Introductions
from dht.joining import Joining
from dht.limits import ADDRESS_SETTLE_SECONDS
from dht.local_storage import LocalStorage
from dht.lookups import Lookups
from dht.maintenance import Maintenance
from dht.record_client import RecordClient
from dht.rpc_client import RpcClient
from dht.rpc_server import RpcServer
from dht.transport import Sockets, Transport
from dht.wire import Ping, Reply, Request, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from dht.core import Core
    from dht.providers import ProviderRecord
    from dht.records import ReleaseRecord
    from dht.tasks import Tasks

logger = logging.getLogger(__name__)

FOREIGN_START: Final = b"d"
"""How every message of BitTorrent's DHT begins (BEP 5), and none of ours."""


class Running:
    """The parts that live between `start` and `close`, and how they are joined."""

    def __init__(
        self,
        *,
        core: Core,
        tasks: Tasks,
        sockets: Sockets,
        interested: Callable[[bytes, str], bool],
        on_release: Callable[[ReleaseRecord], bool],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._core = core
        self.transport = Transport(sockets, self._on_datagram, core.stats)
        self.rpc_client = RpcClient(core, self.transport.send, loop)
        self.lookups = Lookups(core, self.rpc_client, loop)
        self.announcer = Announcer(core, self.rpc_client, self.lookups)
        self.local_storage = LocalStorage(core, self._own_offer)
        self.alerts = Alerts(
            core=core,
            rpc_client=self.rpc_client,
            interested=interested,
            on_release=on_release,
        )
        self.record_client = RecordClient(
            core=core,
            rpc_client=self.rpc_client,
            lookups=self.lookups,
            local_storage=self.local_storage,
        )
        self.joining = Joining(
            core=core, rpc_client=self.rpc_client, lookups=self.lookups, tasks=tasks
        )
        helper = self._compose_dial_back(tasks)
        self.maintenance = Maintenance(
            core=core,
            rpc_client=self.rpc_client,
            tasks=tasks,
            dial_back=self.dial_back,
            joining=self.joining,
            local_storage=self.local_storage,
            announcer=self.announcer,
            record_client=self.record_client,
        )
        self.rpc_server = RpcServer(
            core=core,
            local_storage=self.local_storage,
            on_notify=self.alerts.received,
            on_dial_back=helper.asked,
            on_introduction=self.introductions.asked,
        )

    def _compose_dial_back(self, tasks: Tasks) -> DialBackHelper:
        core, rpc_client = self._core, self.rpc_client
        helper = DialBackHelper(core, rpc_client, self.transport.send_once, tasks=tasks)
        self.dial_back = DialBackService(core, rpc_client, helper, tasks=tasks)
        self.introductions = Introductions(core, rpc_client, tasks=tasks)
        self.introductions.on_change = lambda: tasks.start(
            self.announcer.renew(), "caravan-dht-new-introducers"
        )
        self.dial_back.on_new_address = lambda: tasks.start(
            self._move(), "caravan-dht-new-address"
        )
        return helper

    async def _move(self) -> None:
        """Announce everything again, once the new address is known."""
        self.dial_back.ask_observers()
        await asyncio.sleep(ADDRESS_SETTLE_SECONDS)
        await self.joining.look_up_self()
        await self.announcer.renew()

    def _on_datagram(self, datagram: bytes, source: Address) -> None:
        """Read one datagram and answer it; count what is wrong with it."""
        core = self._core
        try:
            message, packed = self._open(datagram, source)
            if isinstance(message, Reply):
                self.rpc_client.receive(message, packed, source)
                return
            if self.dial_back.arrived_udp(message.transaction, source):
                return
            reply = self.rpc_server.answer(message, packed, source, size=len(datagram))
        except DatagramError as error:
            core.stats[f"dropped.{error.reason}"] += 1
            if datagram.startswith(FOREIGN_START):
                core.on_foreign(datagram, source)
            return
        except Exception:
            # Whatever one datagram brings about, the node goes on reading.
            core.stats["failed.datagram"] += 1
            logger.exception("a datagram from %s could not be handled", source)
            return
        core.stats["answered"] += 1
        self.transport.send(reply, source)

    def _open(self, datagram: bytes, source: Address) -> tuple[Request | Reply, bytes]:
        """Return the message of a datagram and its bytes; raise `DatagramError`.

        Only a ping may name no receiver, and it is never a reply.
        """
        packed, is_addressed = self._core.envelope.open(datagram, source)
        message = decode(packed)
        if not is_addressed and not isinstance(message.body, Ping):
            raise DatagramError("unaddressed")
        return message, packed

    def _own_offer(self, key: bytes, asker: Address) -> ProviderRecord | None:
        """Return this node's own record of a key, under an address the asker can use.

        To a public asker that is the address public nodes see, if they agree.
        """
        if key not in self.announcer:
            return None
        observed = None
        if asker.scope is Scope.PUBLIC:
            observed = self._core.reach.observed[asker.family].address(Scope.PUBLIC)
        host = self.transport.host_towards(asker) if observed is None else observed.host
        if host is None:
            return None
        return self.announcer.record_for(key, Address(host, asker.port))
