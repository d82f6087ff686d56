"""Joining: from a few addresses to a table full of proven contacts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dht.limits import (
    BUCKET_REFRESH_SECONDS,
    JOIN_RETRY_SECONDS,
    JOIN_RETRY_SECONDS_MAX,
    JOIN_SECONDS_MAX,
    REFRESH_CONTACTS,
    REFRESH_FIND_BYTES,
)
from dht.traversal import Traversal
from dht.wire import FindNode, Ping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dht.addresses import Address
    from dht.core import Core
    from dht.in_flight import Answer
    from dht.rpc_client import RpcClient
    from dht.tasks import Tasks


class Joining:
    """Meets the network and fills the tables."""

    def __init__(
        self,
        core: Core,
        asking: RpcClient,
        loop: asyncio.AbstractEventLoop,
        tasks: Tasks,
    ) -> None:
        self._core = core
        self._asking = asking
        self._loop = loop
        self._tasks = tasks
        self._addresses: list[Address] = []  # that a user named, the latest ones
        self._retrying: asyncio.Task[None] | None = None

    async def join(self, contacts: Iterable[Address]) -> int:
        """Ask the addresses, then look for the own neighbourhood, within 5 s."""
        addresses = [each for each in dict.fromkeys(contacts) if each.dialable]
        started_at = self._loop.time()
        answered = await self._meet(addresses)
        self._addresses = addresses or self._addresses
        if not answered:
            self.retry()
            return 0
        settling = self._tasks.start(self.settle(), "caravan-dht-settle")
        left = started_at + JOIN_SECONDS_MAX - self._loop.time()
        await asyncio.wait([settling], timeout=max(left, 0.0))
        self._tasks.start(self._spread(), "caravan-dht-spread")
        return answered

    async def _meet(self, addresses: Iterable[Address]) -> int:
        """Ping the addresses; how many proved to be nodes, all at once."""
        waiting = [self._ping(each) for each in addresses]
        if not waiting:
            return 0
        answers = await asyncio.gather(*waiting)
        return sum(1 for answer in answers if answer is not None)

    def _ping(self, address: Address) -> asyncio.Future[Answer | None]:
        future: asyncio.Future[Answer | None] = self._loop.create_future()

        def done(answer: Answer | None) -> None:
            if not future.done():
                future.set_result(answer)

        self._asking.ask_address(address, Ping(), done)
        return future

    def retry(self) -> None:
        """Go on asking the addresses that a user named, in the background."""
        if not self._addresses or (self._retrying and not self._retrying.done()):
            return
        self._retrying = self._tasks.start(self._retry(), "caravan-dht-join")

    async def _retry(self) -> None:
        """Ask again and again, ever more seldom, until one answers."""
        pause = JOIN_RETRY_SECONDS
        while True:
            await asyncio.sleep(pause * self._core.rng.uniform(0.8, 1.2))
            if await self._meet(self._addresses):
                break
            pause = min(2 * pause, JOIN_RETRY_SECONDS_MAX)
        await self.settle()
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
            await Traversal(
                self._core,
                self._asking,
                self._loop,
                family,
                FindNode(target),
                target,
                count=REFRESH_CONTACTS,
                first_bytes=REFRESH_FIND_BYTES,
            ).run()

    async def settle(self) -> None:
        """Look up the own id, which makes the nearest nodes and us acquainted."""
        own = self._core.node_id
        await asyncio.gather(
            *(
                Traversal(
                    self._core, self._asking, self._loop, family, FindNode(own), own
                ).run()
                for family in sorted(self._core.families)
                if len(self._core.tables[family])
            )
        )
