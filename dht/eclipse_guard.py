"""The region of a key: where its keepers must be, by the density of the network.

An attacker who grinds ids until enough of them are nearer to a key than those of all
other nodes could be all of its k nearest nodes (an eclipse). But ids of honest nodes
are spread evenly, so a node's own neighbourhood tells how far from a key its k nearest
ought to reach. Where the contacts found are crowded into much less, the rest of the
region is looked through as well, and all of it keeps and is asked. That is the remedy
that de Moura Netto proposes against active Sybils (2025); `Lookups.widen` applies it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dht.limits import CROWDED_FROM, REGION_TRAVERSALS_MAX, K

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dht.contacts import Contact
    from dht.routing import Table


def expected_radius(table: Table, own_id: bytes) -> int:
    """Return the distance within which about k nodes lie; 0 if fewer are known.

    It is read off the middle of the own neighbourhood, which an attacker cannot move by
    placing a few nodes next to this one.
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


def surrounding_targets(target: int, crowd: int, expected: int) -> list[int]:
    """Return targets whose neighbours fill the region around a crowd.

    Each shares all bits with the target down to one that differs, from the edge of
    the region inwards: together their blocks cover all but the crowd.
    """
    edge = expected.bit_length()
    lowest = max(crowd.bit_length(), edge - REGION_TRAVERSALS_MAX)
    return [target ^ (1 << bit) for bit in range(edge - 1, lowest - 1, -1)]
