"""Joining: from a few addresses to a table full of proven contacts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dht.contacts import Contact
from dht.limits import (
    BUCKET_REFRESH_SECONDS,
    JOIN_RETRY_SECONDS,
    JOIN_RETRY_SECONDS_MAX,
    JOIN_SECONDS_MAX,
    REFRESH_CONTACTS,
    REFRESH_FIND_BYTES,
    K,
)
from dht.traversal import Query
from dht.wire import FindNode, Ping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dht.addresses import Address
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.lookups import Lookups
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks


class Joining:
    """Meets the network and fills the tables."""

    def __init__(
        self, *, core: Core, rpc_client: RpcClient, lookups: Lookups, tasks: Tasks
    ) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._lookups = lookups
        self._loop = asyncio.get_running_loop()
        self._tasks = tasks
        # What a user named, the latest ones; where a key is named it must be found.
        self._addresses: list[Address | Contact] = []
        self._retrying: asyncio.Task[None] | None = None
        self._looking_up_self: asyncio.Task[None] | None = None

    async def join(self, contacts: Iterable[Address | Contact]) -> int:
        """Ping the addresses, then look up the own id; return how many answered.

        Ends within 5 s.
        """
        addresses = [each for each in dict.fromkeys(contacts) if _dialable(each)]
        started_at = self._loop.time()
        answered = len(await self._meet(addresses))
        self._addresses = addresses or self._addresses
        if not answered:
            self.retry()
            return 0
        meeting = self._tasks.start(self.look_up_self(), "caravan-dht-look-up-self")
        left = started_at + JOIN_SECONDS_MAX - self._loop.time()
        await asyncio.wait([meeting], timeout=max(left, 0.0))
        self._tasks.start(self._spread(), "caravan-dht-spread")
        return answered

    async def meet(self, addresses: Iterable[Address]) -> list[Contact]:
        """Ping addresses; return the contacts that proved their id there.

        A table that is still small is filled from a contact that is new to it.
        """
        known = {contact for table in self._core.tables.values() for contact in table}
        contacts = await self._meet(addresses)
        if self._core.known < 2 * K and not known.issuperset(contacts):
            self.look_up_self_soon()
        return contacts

    def look_up_self_soon(self) -> None:
        """Look for the own neighbourhood, unless that is under way."""
        if self._looking_up_self is None or self._looking_up_self.done():
            self._looking_up_self = self._tasks.start(
                self.look_up_self(), "caravan-dht-look-up-self"
            )

    async def _meet(self, addresses: Iterable[Address | Contact]) -> list[Contact]:
        """Ping all addresses at once; return those that proved to be nodes."""
        waiting = [self._ping(each) for each in addresses if _dialable(each)]
        if not waiting:
            return []
        answers = await asyncio.gather(*waiting)
        return [answer.contact for answer in answers if answer is not None]

    def _ping(self, address: Address | Contact) -> asyncio.Future[ProvenReply | None]:
        future: asyncio.Future[ProvenReply | None] = self._loop.create_future()

        def done(answer: ProvenReply | None) -> None:
            if not future.done():
                future.set_result(answer)

        if isinstance(address, Contact):
            self._rpc_client.ask(address, Ping(), done, lost=True)
        else:
            self._rpc_client.ask_address(address, Ping(), done)
        return future

    def retry(self) -> None:
        """Ping the addresses that a user named again, in the background."""
        if not self._addresses or (self._retrying and not self._retrying.done()):
            return
        self._retrying = self._tasks.start(self._retry(), "caravan-dht-join")

    async def _retry(self) -> None:
        """Ping the addresses until one answers, with growing pauses."""
        pause = JOIN_RETRY_SECONDS
        while True:
            await asyncio.sleep(pause * self._core.rng.uniform(0.8, 1.2))
            if await self._meet(self._addresses):
                break
            pause = min(2 * pause, JOIN_RETRY_SECONDS_MAX)
        await self.look_up_self()
        await self._spread()

    async def _spread(self) -> None:
        """Look into each bucket farther away than the neighbourhood.

        Kademlia paper, section 2.3: a node refreshes them once after joining.
        """
        for family in sorted(self._core.families):
            await self.refresh(family, BUCKET_REFRESH_SECONDS / 60)

    async def refresh(self, family: int, age_seconds: float) -> None:
        """Look up a random id in each bucket that no lookup went through lately."""
        table = self._core.tables[family]
        now = self._core.clock.monotonic()
        for bucket in table.stale_buckets(now, age_seconds):
            if not len(table):
                return
            target = self._core.rng.randint(*bucket.range).to_bytes(32, "big")
            query = Query(
                target=target,
                body=FindNode(target),
                count=REFRESH_CONTACTS,
                first_bytes=REFRESH_FIND_BYTES,
            )
            await self._lookups.start(family, query).run()

    async def look_up_self(self) -> None:
        """Look up the own id, so that this node and the nearest ones meet.

        Kademlia paper, section 2.3.
        """
        query = Query.near(self._core.node_id)
        await asyncio.gather(*(each.run() for each in self._lookups.start_all(query)))


def _dialable(named: Address | Contact) -> bool:
    address = named.address if isinstance(named, Contact) else named
    return address.dialable
