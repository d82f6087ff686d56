"""The region of a key: where its keepers must be, by the density of the network.

An attacker who makes ids until enough of them are nearer to a key than everybody
else could be all of its k nearest nodes. But ids of honest nodes are spread evenly,
so the own neighbourhood tells how far from a key its k nearest ought to reach. Where
those found are crowded into much less, the rest of the region is looked through as
well, and all of it keeps and is asked (the remedy that de Moura Netto 2025 proposes
against active Sybils).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht.limits import CROWDED_FROM, REGION_WALKS_MAX, K
from dht.traversal import Traversal
from dht.wire import FindNode

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from dht.contacts import Contact
    from dht.core import Core
    from dht.in_flight import Answer
    from dht.routing import Table
    from dht.rpc_client import RpcClient


def radius(table: Table, own_id: bytes) -> int:
    """Return the distance within which about k nodes lie; 0 if fewer are known.

    It is read off the middle of the own neighbourhood, which nobody moves by placing
    a few nodes next to this one.
    """
    own = int.from_bytes(own_id, "big")
    near = table.nearest(own, K)
    if len(near) < K:
        return 0
    return (near[K // 2 - 1].long_id ^ own) * 2


def is_crowded(found: Sequence[Contact], target: int, expected: int) -> bool:
    """Whether the k nearest that were found lie suspiciously near to the target."""
    if len(found) < K:
        return False
    return (found[K - 1].long_id ^ target) * CROWDED_FROM < expected


def outskirts(target: int, crowd: int, expected: int) -> list[int]:
    """Return targets whose neighbours fill the region around a crowd.

    Each shares all bits with the target down to one that differs, from the edge of
    the region inwards: together their blocks cover all but the crowd.
    """
    edge = expected.bit_length()
    lowest = max(crowd.bit_length(), edge - REGION_WALKS_MAX)
    return [target ^ (1 << bit) for bit in range(edge - 1, lowest - 1, -1)]


async def widened(
    core: Core,
    asking: RpcClient,
    loop: asyncio.AbstractEventLoop,
    family: int,
    key: bytes,
    found: Sequence[Contact],
    on_answer: Callable[[Answer], None] | None = None,
) -> list[Contact]:
    """Return further contacts of a key's region, none where it is not crowded."""
    target = int.from_bytes(key, "big")
    expected = radius(core.tables[family], core.node_id)
    if not is_crowded(found, target, expected):
        return []
    core.stats["crowded"] += 1
    known = set(found)
    further: list[Contact] = []
    for aim in outskirts(target, found[K - 1].long_id ^ target, expected):
        body = aim.to_bytes(32, "big")
        walk = Traversal(
            core, asking, loop, family, FindNode(body), body, on_answer=on_answer
        )
        for contact in await walk.run():
            if contact not in known and (contact.long_id ^ target) < 2 * expected:
                known.add(contact)
                further.append(contact)
    return further
