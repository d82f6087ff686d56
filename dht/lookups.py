"""Lookups: the one place where a traversal of the network starts.

`Lookups` owns what every traversal needs (core, RPC client, event loop), so a caller
says only what it looks for, as a `Query`. It starts one traversal for each address
family that has contacts, because a contact of one family leads only to others of it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dht.eclipse_guard import expected_radius, is_crowded, surrounding_targets
from dht.limits import K
from dht.traversal import Query, Traversal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import ProvenReply
    from dht.rpc_client import RpcClient


class Lookups:
    """Starts traversals and widens them where a key is crowded."""

    def __init__(
        self, core: Core, rpc_client: RpcClient, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._core = core
        self._rpc_client = rpc_client
        self._loop = loop

    def families(self) -> list[int]:
        """Return the address families that have contacts, IPv4 (4) first."""
        tables = self._core.tables
        return [each for each in sorted(self._core.families) if len(tables[each])]

    def start(
        self,
        family: int,
        query: Query,
        on_reply: Callable[[ProvenReply], None] | None = None,
    ) -> Traversal:
        """Return a traversal of one family; `on_reply` gets each proven reply."""
        return Traversal(
            self._core,
            rpc_client=self._rpc_client,
            loop=self._loop,
            family=family,
            query=query,
            on_reply=on_reply,
        )

    def start_all(
        self, query: Query, on_reply: Callable[[ProvenReply], None] | None = None
    ) -> list[Traversal]:
        """Return one traversal for each family that has contacts."""
        return [self.start(family, query, on_reply) for family in self.families()]

    async def run_all(
        self,
        traversals: Sequence[Traversal],
        key: bytes,
        on_reply: Callable[[ProvenReply], None] | None = None,
    ) -> list[Contact]:
        """Run traversals side by side; return what they find, the region included."""
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in traversals]
        found: list[Contact] = []
        for traversal, task in zip(traversals, running, strict=True):
            near = task.result()
            found += near
            found += await self.widen(traversal.family, key, near, on_reply=on_reply)
        return found

    async def widen(
        self,
        family: int,
        key: bytes,
        found: Sequence[Contact],
        *,
        on_reply: Callable[[ProvenReply], None] | None = None,
    ) -> list[Contact]:
        """Return further contacts of a key's region, none where it is not crowded.

        See `dht.eclipse_guard` for what crowded means.
        """
        target = int.from_bytes(key, "big")
        expected = expected_radius(self._core.tables[family], self._core.node_id)
        if not is_crowded(found, target, expected):
            return []
        self._core.stats["crowded"] += 1
        known = set(found)
        further: list[Contact] = []
        reach = found[K - 1].long_id ^ target
        for aim in surrounding_targets(target, reach, expected):
            query = Query.near(aim.to_bytes(32, "big"))
            for contact in await self.start(family, query, on_reply).run():
                if contact not in known and (contact.long_id ^ target) < 2 * expected:
                    known.add(contact)
                    further.append(contact)
        return further
